"""How functions are called: what goes over the wire, and what each failure means."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from onward.errors import ConfigurationError, MissingExtraError
from onward_server import HttpInvoker, InvokeError, LambdaInvoker
from onward_server.call_body import RenderedCall
from onward_server.invokers import is_loopback, lambda_answer, make_invoker
from onward_server.serving import serve_asgi
from tests.server.conftest import Start
from tests.server.fakes import HANGS_AFTER_S, registration

Handler = Callable[[Request], Awaitable[Response]]
CALL = RenderedCall("app-f", "step", {"content-type": "application/json"}, b'{"ctx":{"n":1}}')
INVOKE = "/2015-03-31/functions/demo/invocations"


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)

    async with serve_asgi(app) as served:
        yield served.url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_http_posts_to_the_function_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    seen = []

    async def handler(request: Request) -> Response:
        seen.append((str(request.url.path), dict(request.query_params), await request.body()))
        return JSONResponse([1], 206, {"X-Inngest-Req-Version": "2"})

    async with serving(handler) as url:
        invoker = HttpInvoker(f"{url}/api/x?env=dev")
        answer = await invoker.invoke_text(CALL, timeout=5)
        same = await invoker.invoke("app-f", "step", {"ctx": {"n": 1}}, timeout=5)
        await invoker.aclose()
    assert (answer.status, answer.body) == (206, b"[1]")
    assert answer.headers["x-inngest-req-version"] == "2", "names are in lower case"
    assert same.body == answer.body
    expected = ("/api/x", {"env": "dev", "fnId": "app-f", "stepId": "step"}, CALL.body)
    assert seen == [expected, expected]


async def test_a_refused_connection_is_told_from_a_broken_one() -> None:
    invoker = HttpInvoker(f"http://127.0.0.1:{free_port()}/x")
    with pytest.raises(InvokeError, match="Nothing answers") as refused:
        await invoker.invoke_text(CALL, timeout=5)
    assert refused.value.refused
    await invoker.aclose()

    async def cut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        invoker = HttpInvoker(f"http://127.0.0.1:{port}/x")
        with pytest.raises(InvokeError, match="broke off") as broken:
            await invoker.invoke_text(CALL, timeout=5)
        assert not broken.value.refused
        await invoker.aclose()


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    release = asyncio.Event()

    async def handler(_request: Request) -> Response:
        await release.wait()
        return Response()

    async with serving(handler) as url:
        invoker = HttpInvoker(url)
        with pytest.raises(InvokeError, match=r"did not answer within 0\.05 s"):
            await invoker.invoke_text(CALL, timeout=0.05)
        release.set()
        await invoker.aclose()


async def test_lambda_by_an_endpoint() -> None:
    payloads = []

    async def handler(request: Request) -> Response:
        assert request.url.path == INVOKE
        payloads.append(await request.json())
        return JSONResponse({"status": 206, "headers": {"Retry-After": "3"}, "body": [{"ż": 1}]})

    async with serving(handler) as url:
        invoker = LambdaInvoker(f"lambda://demo?region=eu-west-1&endpoint={url}")
        answer = await invoker.invoke_text(CALL, timeout=5)
        await invoker.invoke("app-f", "step", {"ctx": {"n": 1}}, timeout=5)
        await invoker.aclose()
    assert (answer.status, answer.headers["retry-after"]) == (206, "3")
    assert json.loads(answer.body) == [{"ż": 1}]
    envelope = {
        "onward": "call",
        "function_id": "app-f",
        "step_id": "step",
        "request": {"ctx": {"n": 1}},
    }
    assert payloads == [envelope, envelope]


@pytest.mark.parametrize(
    ("response", "message", "throttled"),
    [
        (
            JSONResponse(
                {"errorType": "Sandbox.Timedout", "errorMessage": "timed out after 3.00 s"}
            ),
            "Sandbox.Timedout: timed out",
            False,
        ),
        (
            JSONResponse({"errorMessage": "boom", "errorType": "ValueError"}),
            "ValueError: boom",
            False,
        ),
        (JSONResponse("text", headers={"X-Amz-Function-Error": "Unhandled"}), "Unhandled", False),
        (JSONResponse({"other": 1}), "no answer to a call request", False),
        (Response("<html>"), "not JSON", False),
        (Response("", 502), "answered HTTP 502", False),
        (Response("", 429, {"retry-after": "2"}), "throttled", True),
    ],
)
async def test_what_lambda_answers_when_it_fails(
    response: Response, message: str, throttled: bool
) -> None:
    async def handler(_request: Request) -> Response:
        return response

    async with serving(handler) as url:
        invoker = LambdaInvoker(f"lambda://demo?endpoint={url}")
        with pytest.raises(InvokeError, match=message) as failed:
            await invoker.invoke_text(CALL, timeout=5)
        await invoker.aclose()
    assert failed.value.throttled is throttled
    assert failed.value.retry_after == (2 if throttled else None)


async def test_an_emulator_is_called_one_at_a_time(start: Start) -> None:
    running, most = 0, 0

    async def handler(_request: Request) -> Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        body = [{"id": "x", "op": "RunComplete", "data": 1}]
        return JSONResponse({"status": 206, "headers": {}, "body": body})

    orchestrator = await start()
    async with serving(handler) as url:
        await orchestrator.register(registration("f", url=f"lambda://demo?endpoint={url}"))
        ids = await orchestrator.send([{"name": "app/f"}] * 8)
        for event_id in ids:
            [run_id] = await orchestrator.runs_of(event_id)
            assert (await orchestrator.result(run_id)).result == 1
    assert most == 1


async def test_concurrency_of_a_lambda() -> None:
    assert LambdaInvoker("lambda://f?endpoint=http://127.0.0.1:9").concurrency == 1
    assert LambdaInvoker("lambda://f?endpoint=http://127.0.0.1:9&concurrency=4").concurrency == 4
    assert LambdaInvoker("lambda://f?region=eu-west-1").concurrency == 100
    with pytest.raises(ConfigurationError, match="concurrency=none"):
        LambdaInvoker("lambda://f?concurrency=none")
    with pytest.raises(ConfigurationError, match="not the address"):
        LambdaInvoker("lambda://")


class Aws:
    """Stands for boto3's client."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.sent: dict[str, Any] = {}

    def invoke(self, **arguments: Any) -> dict[str, Any]:
        self.sent = arguments
        if isinstance(self.outcome, Exception):
            raise self.outcome
        body = json.dumps(self.outcome).encode()
        return {"Payload": SimpleNamespace(read=lambda: body)}


class AwsError(Exception):
    response: ClassVar[dict[str, Any]] = {"Error": {"Code": "TooManyRequestsException"}}


async def test_lambda_in_aws() -> None:
    invoker = LambdaInvoker("lambda://demo?region=eu-west-1")
    aws = invoker._boto = Aws({"status": 200, "headers": {}, "body": {"x": 1}})
    answer = await invoker.invoke_text(CALL, timeout=5)
    assert (answer.status, json.loads(answer.body)) == (200, {"x": 1})
    assert aws.sent["FunctionName"] == "demo"
    assert json.loads(aws.sent["Payload"])["request"] == {"ctx": {"n": 1}}
    invoker._boto = Aws(AwsError("slow down"))
    with pytest.raises(InvokeError, match="slow down") as throttled:
        await invoker.invoke_text(CALL, timeout=5)
    assert throttled.value.throttled
    invoker._boto = Aws(OSError("no route"))
    with pytest.raises(InvokeError, match="no route") as broken:
        await invoker.invoke_text(CALL, timeout=5)
    assert not broken.value.throttled


async def test_without_boto3_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match=r"onward\[aws\]"):
        await LambdaInvoker("lambda://demo").invoke_text(CALL, timeout=5)


def test_the_scheme_chooses() -> None:
    assert isinstance(make_invoker("https://example.test/x", concurrency=3), HttpInvoker)
    assert isinstance(make_invoker("lambda://demo", concurrency=3), LambdaInvoker)
    with pytest.raises(ConfigurationError, match="ftp"):
        make_invoker("ftp://example.test", concurrency=3)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost/x", True),
        ("http://app.localhost", True),
        ("http://[::1]:3", True),
        ("http://10.0.0.1", False),
        ("https://example.test", False),
    ],
)
def test_loopback(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_a_payload_that_is_no_answer() -> None:
    with pytest.raises(InvokeError, match="returned b'', which is no answer"):
        lambda_answer(b"", None, "demo")


async def test_an_answer_that_trickles_is_given_up() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        gone.set()

    gone = asyncio.Event()
    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        invoker = HttpInvoker(f"http://127.0.0.1:{port}/")
        async with asyncio.timeout(HANGS_AFTER_S):
            with pytest.raises(InvokeError, match=r"did not answer within 0\.3 s"):
                await invoker.invoke("app-f", "step", {}, timeout=0.3)
            await invoker.aclose()
            await gone.wait()


async def test_lambda_calls_in_aws_do_not_wait_for_each_other() -> None:
    together = threading.Barrier(50)  # broken, if fewer than these are on at once

    class Boto:
        def invoke(self, **_named: Any) -> dict[str, Any]:
            together.wait(HANGS_AFTER_S)
            return {"Payload": io.BytesIO(b'{"status": 200, "headers": {}, "body": 7}')}

    invoker = LambdaInvoker("lambda://f?region=eu-west-1")
    invoker._boto = Boto()
    answers = await asyncio.gather(
        *(invoker.invoke("app-f", "step", {}, timeout=1) for _ in range(50))
    )
    assert {answer.body for answer in answers} == {b"7"}
