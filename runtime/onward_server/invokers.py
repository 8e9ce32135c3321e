"""How functions are called: over HTTP, or by the Lambda invocation API."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import httpx

from onward.errors import ConfigurationError, MissingExtraError
from onward.protocol import headers as names
from onward.protocol.direct import call_payload
from onward.protocol.response import STREAMED, decode_stream
from onward.protocol.signature import sign, verify
from onward_server.answers import Answer
from onward_server.call_body import RenderedCall
from onward_server.canonical import canonical
from onward_server.json_text import JsonError, dumps, loads

_CONNECT_TIMEOUT_S = 10.0
#: Below the five seconds after which common servers close an idle connection: one that is closed
#: while it is used again looks like a function that was killed. So a call that breaks off is
#: never sent again by itself: it may have run a step, and only attempts bound how often.
_KEEPALIVE_S = 2.0
_TOO_MANY = 429
_LAMBDA_THROTTLES = frozenset(
    {
        "TooManyRequestsException",
        "Throttling",
        "ThrottlingException",
        "EC2ThrottledException",
        "Rate Exceeded.",
    }
)


class InvokeError(Exception):
    """An invocation brought no answer: it counts as a failed attempt.

    `throttled`: it was not started, because too many ran; that uses up no attempt, and
    `retry_after` is in seconds. `refused`: nobody listened there, so nothing was started.
    """

    def __init__(
        self,
        message: str,
        throttled: bool = False,  # noqa: FBT001, FBT002 - the settled signature
        retry_after: float | None = None,
        *,
        refused: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.throttled = throttled
        self.retry_after = retry_after
        self.refused = refused


class Invoker(Protocol):
    """Calls functions somewhere.

    `invoke` calls `function_id` (`app-function`) for the step `target` with the call request
    `request`, waits at most `timeout` seconds for its answer, and raises InvokeError where there is
    none. An attribute `concurrency` limits the calls that are in flight at once.
    """

    async def invoke(
        self,
        function_id: str,
        target: str,
        request: dict[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - part of the call
    ) -> Answer:
        """Calls and returns the answer. Raises InvokeError."""
        ...


@runtime_checkable
class TextInvoker(Protocol):
    """An invoker that takes the call request as it was rendered: no journal is parsed for it."""

    async def invoke_text(self, call: RenderedCall, *, timeout: float) -> Answer:  # noqa: ASYNC109 - as above
        """Calls and returns the answer. Raises InvokeError."""
        ...


async def invoke(invoker: Invoker, call: RenderedCall, timeout: float) -> Answer:  # noqa: ASYNC109 - as above
    """Sends `call` by `invoker`, as text where it can take that."""
    if isinstance(invoker, TextInvoker):
        return await invoker.invoke_text(call, timeout=timeout)
    request: dict[str, Any] = json.loads(call.body)
    return await invoker.invoke(call.function_id, call.target, request, timeout=timeout)


def is_loopback(url: str) -> bool:
    """Whether `url` leads to this machine, where no proxy must come between."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def http_client(url: str, limit: int) -> httpx.AsyncClient:
    """A client for `url` that keeps at most `limit` connections; loopback goes through no proxy."""
    return httpx.AsyncClient(
        trust_env=not is_loopback(url),
        limits=httpx.Limits(
            max_connections=limit, max_keepalive_connections=limit, keepalive_expiry=_KEEPALIVE_S
        ),
        follow_redirects=False,
    )


async def _in_a_thread(call: Callable[[], Answer]) -> Answer:
    """What `call` returns, from a thread of its own.

    The event loop's own threads are few, and at its end it would wait for each of them.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Answer] = loop.create_future()

    def settle(answer: Answer | None, error: Exception | None) -> None:
        if told.done():  # given up meanwhile
            return
        if answer is None:
            told.set_exception(error or RuntimeError("no answer"))
        else:
            told.set_result(answer)

    def run() -> None:
        answer, error = None, None
        try:
            answer = call()
        except Exception as raised:  # noqa: BLE001 - raised again where it is waited for
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, answer, error)

    threading.Thread(target=run, name="onward-lambda", daemon=True).start()
    return await told


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, _CONNECT_TIMEOUT_S))


async def _post(
    client: httpx.AsyncClient,
    url: str,
    body: bytes,
    fields: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109 - as above
) -> httpx.Response:
    return await send_request(
        client, client.build_request("POST", url, content=body, headers=dict(fields)), timeout
    )


async def send_request(
    client: httpx.AsyncClient,
    request: httpx.Request,
    timeout: float,  # noqa: ASYNC109 - as above
) -> httpx.Response:
    """The answer to `request` within `timeout` seconds. Raises InvokeError."""
    url = request.url
    request.extensions = {**request.extensions, "timeout": _timeout(timeout).as_dict()}
    try:
        async with asyncio.timeout(timeout):  # httpx counts from each piece of an answer anew
            return await client.send(request)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise InvokeError(
            f"Nothing answers at {url} ({type(error).__name__}: {error}). Start the function there,"
            " or register it with the address where it runs.",
            refused=True,
        ) from error
    except (httpx.TimeoutException, TimeoutError) as error:
        raise InvokeError(f"The function at {url} did not answer within {timeout:g} s.") from error
    except httpx.HTTPError as error:
        raise InvokeError(
            f"The call to {url} broke off ({type(error).__name__}: {error}): the function's"
            " process ended or closed the connection."
        ) from error


def _whole(response: httpx.Response) -> Answer:
    """The answer, out of its stream if it was streamed. Raises InvokeError for half a stream."""
    fields = dict(response.headers)
    if response.status_code != STREAMED:
        return Answer(response.status_code, fields, response.content)
    try:
        told = decode_stream(response.content)
    except ValueError as error:
        raise InvokeError(
            f"The streamed answer of {response.url} broke off ({error}): the function's process"
            " ended, or something between closed the connection."
        ) from error
    return Answer(told.status, {**fields, **told.headers}, told.body)


def trusted(answer: Answer, url: str, key: str | None) -> Answer:
    """`answer`, whose signature fits `key` if it has one. Raises InvokeError."""
    signature = answer.headers.get(names.SIGNATURE)
    if key is None or not signature or verify(answer.body, signature, key, now=time.time()):
        return answer
    raise InvokeError(
        f"The answer of {url} is signed with another key, or was changed on its way, or is older"
        " than five minutes: nothing of it is taken. Give the app the signing key of this"
        " orchestrator, and check both clocks."
    )


class HttpInvoker:
    """Calls the app at `url` as an Inngest server does: `POST URL?fnId=…&stepId=…`.

    Connections are kept alive; loopback is never reached through a proxy. `concurrency` is the most
    calls in flight at once. With a `signing_key` calls are signed, and the signature of an answer
    that has one is checked.
    """

    def __init__(self, url: str, *, concurrency: int = 100, signing_key: str | None = None) -> None:
        self.url = url
        self.concurrency = concurrency
        self._key = signing_key
        self._client: httpx.AsyncClient | None = None

    def address(self, function_id: str, target: str) -> str:
        """Where `function_id` is called for `target`."""
        parts = urlsplit(self.url)
        query = [*parse_qsl(parts.query, keep_blank_values=True)]
        query += [("fnId", function_id), ("stepId", target)]
        return urlunsplit(parts._replace(query=urlencode(query)))

    async def invoke(
        self,
        function_id: str,
        target: str,
        request: dict[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - as above
    ) -> Answer:
        """Calls with `request`. Raises InvokeError."""
        fields = {"content-type": "application/json"}
        call = RenderedCall(function_id, target, fields, dumps(request).encode())
        return await self.invoke_text(call, timeout=timeout)

    async def invoke_text(self, call: RenderedCall, *, timeout: float) -> Answer:  # noqa: ASYNC109 - as above
        """Calls with the rendered request. Raises InvokeError."""
        if self._client is None:
            self._client = http_client(self.url, self.concurrency)
        url = self.address(call.function_id, call.target)
        fields, body = dict(call.headers), call.body
        if self._key is not None:
            body = canonical(body)
            fields[names.SIGNATURE] = sign(body, self._key, int(time.time()))
        response = await _post(self._client, url, body, fields, timeout)
        return trusted(_whole(response), self.url, self._key)

    async def aclose(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


class LambdaInvoker:
    """Calls a Lambda function by the Invoke API (`lambda://NAME?region=…&endpoint=…`).

    With an `endpoint` (the runtime interface emulator, `sam local start-lambda`, an emulator of
    AWS) requests are plain HTTP; without one boto3 signs and sends them. Nothing below retries.
    `concurrency=N` in the URL limits the calls in flight; an endpoint on loopback is called one at
    a time by default, because the emulator breaks on two. The function's own name in the endpoint's
    path is `function=NAME` where it differs from NAME.
    """

    def __init__(self, url: str, *, concurrency: int = 100) -> None:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        self.url = url
        self.name = parts.netloc or parts.path.strip("/")
        if parts.scheme != "lambda" or not self.name:
            raise ConfigurationError(
                f"{url!r} is not the address of a Lambda function. Write"
                " lambda://FUNCTION_NAME?region=REGION, with &endpoint=http://127.0.0.1:PORT for"
                " an emulator."
            )
        self.region = query.get("region")
        self.endpoint = (query.get("endpoint") or "").rstrip("/")
        self.remote_name = query.get("function") or self.name
        default = 1 if self.endpoint and is_loopback(self.endpoint) else concurrency
        limit = query.get("concurrency") or str(default)
        if not limit.isdigit() or int(limit) < 1:
            raise ConfigurationError(
                f"concurrency={limit} in {url!r} is not a number of calls from 1. Remove it, or"
                " write concurrency=10."
            )
        self.concurrency = int(limit)
        self._client: httpx.AsyncClient | None = None
        self._boto: Any = None

    async def invoke(
        self,
        function_id: str,
        target: str,
        request: dict[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - as above
    ) -> Answer:
        """Calls with `request`. Raises InvokeError."""
        payload = dumps(call_payload(function_id, target, request)).encode()
        return await self._invoke(payload, timeout)

    async def invoke_text(self, call: RenderedCall, *, timeout: float) -> Answer:  # noqa: ASYNC109 - as above
        """Calls with the rendered request. Raises InvokeError."""
        envelope = dumps(call_payload(call.function_id, call.target, {}))
        marker = '"request":{}'
        if not envelope.endswith(marker + "}"):
            return await self.invoke(
                call.function_id, call.target, json.loads(call.body), timeout=timeout
            )
        payload = f'{envelope[: -len(marker) - 1]}"request":'.encode() + call.body + b"}"
        return await self._invoke(payload, timeout)

    async def _invoke(self, payload: bytes, timeout: float) -> Answer:  # noqa: ASYNC109 - as above
        if self.endpoint:
            return await self._invoke_endpoint(payload, timeout)
        return await _in_a_thread(lambda: self._invoke_aws(payload, timeout))

    async def _invoke_endpoint(self, payload: bytes, timeout: float) -> Answer:  # noqa: ASYNC109 - as above
        if self._client is None:
            self._client = http_client(self.endpoint, self.concurrency)
        name = quote(self.remote_name, safe="")
        url = f"{self.endpoint}/2015-03-31/functions/{name}/invocations"
        response = await _post(
            self._client, url, payload, {"content-type": "application/json"}, timeout
        )
        if response.status_code == _TOO_MANY:
            raise InvokeError(
                f"{url} is throttled.",
                throttled=True,
                retry_after=_seconds(response.headers.get(names.RETRY_AFTER)),
            )
        if response.status_code != 200:  # noqa: PLR2004 - the API answers 200 to every invocation
            raise InvokeError(
                f"{url} answered HTTP {response.status_code}: {response.text[:200]!r}. The runtime"
                " ended without an answer, or the function is not deployed there. (The runtime"
                " interface emulator knows its one function as `function`: end the lambda:// URL"
                " with &function=function.)"
            )
        failed = response.headers.get("x-amz-function-error")
        return lambda_answer(response.content, failed, self.name)

    def _invoke_aws(self, payload: bytes, timeout: float) -> Answer:
        client = self._aws_client(timeout)
        try:
            response = client.invoke(FunctionName=self.remote_name, Payload=payload)
            body = response["Payload"].read()
        except Exception as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
            raise InvokeError(
                f"AWS did not invoke {self.remote_name} ({type(error).__name__}: {error}).",
                throttled=code in _LAMBDA_THROTTLES,
            ) from error
        return lambda_answer(body, response.get("FunctionError"), self.name)

    def _aws_client(self, timeout: float) -> Any:
        if self._boto is None:
            try:
                import boto3  # type: ignore[import-not-found,import-untyped,unused-ignore]
                from botocore.config import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
                    Config,
                )
            except ImportError:
                raise MissingExtraError(
                    "Calling Lambda functions in AWS needs boto3: pip install 'onward[aws]'."
                ) from None
            config = Config(
                read_timeout=timeout,
                connect_timeout=_CONNECT_TIMEOUT_S,
                retries={"total_max_attempts": 1},
                max_pool_connections=self.concurrency,
            )
            session = boto3.session.Session()
            self._boto = session.client("lambda", region_name=self.region, config=config)
        return self._boto

    async def aclose(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def lambda_answer(body: bytes, function_error: str | None, name: str) -> Answer:
    """The answer in the payload that a Lambda invocation returned.

    A raised error and a timeout are payloads too, of HTTP 200: `errorMessage` or the
    `FunctionError` tell them. Raises InvokeError for both.
    """
    try:
        value = loads(body) if body.strip() else None
    except JsonError as error:
        raise InvokeError(
            f"Lambda function {name} returned {body[:200]!r}, which is not JSON ({error})."
        ) from None
    if isinstance(value, dict) and isinstance(value.get("status"), int):
        fields = {str(k).lower(): str(v) for k, v in (value.get("headers") or {}).items()}
        return Answer(value["status"], fields, dumps(value.get("body")).encode())
    if function_error or (isinstance(value, dict) and "errorMessage" in value):
        details = value if isinstance(value, dict) else {}
        kind = details.get("errorType") or function_error or "Error"
        message = details.get("errorMessage") or body[:200].decode("utf-8", "replace")
        raise InvokeError(f"Lambda function {name} failed: {kind}: {message}")
    raise InvokeError(
        f"Lambda function {name} returned {body[:200]!r}, which is no answer to a call request. Is"
        " its handler onward.aws_lambda.handler(app)?"
    )


def make_invoker(url: str, *, concurrency: int, signing_key: str | None = None) -> Invoker:
    """The invoker for the scheme of `url`. Raises ConfigurationError for one that is unknown."""
    scheme = urlsplit(url).scheme
    if scheme in {"http", "https"}:
        return HttpInvoker(url, concurrency=concurrency, signing_key=signing_key)
    if scheme == "lambda":
        return LambdaInvoker(url, concurrency=concurrency)
    if scheme in {"endpoint+http", "endpoint+https"}:
        from onward_server.endpoint_invoker import EndpointInvoker

        return EndpointInvoker(url, concurrency=concurrency, signing_key=signing_key)
    raise ConfigurationError(
        f"{url!r} is no address that a function can be called at. Register it with an http://,"
        " https:// or lambda:// URL."
    )
