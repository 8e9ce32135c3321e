"""How durable endpoints are called again: with the request that began their run."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from onward.core.ids import NO_TARGET
from onward.protocol import headers as names
from onward.protocol.signature import sign
from onward_server.answers import Answer
from onward_server.invokers import InvokeError, http_client, send_request, trusted
from onward_server.json_text import JsonError, dumps, loads

#: What the addresses of endpoints begin with, so that they are told from those of functions.
SCHEME = "endpoint+"

_SHOWN = 200


class EndpointInvoker:
    """Sends the first request of a run again to `url` (`endpoint+http://HOST`), marked as a call.

    Method, path, query, content type and body are those of the run's event; of the other headers an
    Inngest server keeps none. The endpoint fetches journal and event by itself. `concurrency` is
    the most calls in flight at once. With a `signing_key` calls are signed, and the signature of an
    answer that has one is checked.
    """

    def __init__(self, url: str, *, concurrency: int = 100, signing_key: str | None = None) -> None:
        self.url = url.removeprefix(SCHEME).rstrip("/")
        self.concurrency = concurrency
        self._key = signing_key
        self._client: httpx.AsyncClient | None = None

    async def invoke(
        self,
        function_id: str,
        target: str,
        request: dict[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - part of the call
    ) -> Answer:
        """Calls for `target`. Raises InvokeError."""
        del function_id
        if self._client is None:
            self._client = http_client(self.url, self.concurrency)
        context, data = request["ctx"], request["event"].get("data") or {}
        body = request_body(data)
        query = str(data.get("query_params") or "")
        address = self.url + str(data.get("path") or "/") + (f"?{query}" if query else "")
        made = self._client.build_request(
            str(data.get("method") or "POST"),
            address,
            content=body,
            headers=self._headers(context, target, data, body),
        )
        response = await send_request(self._client, made, timeout)
        fields = dict(response.headers)
        if names.SDK not in fields:
            shown = response.text[:_SHOWN]
            raise InvokeError(
                f"{made.method} {address} answered {response.status_code}, but not as a durable"
                f" endpoint: {shown!r}. What is before its handler refused a request of the"
                " orchestrator's: an endpoint gets only those headers of the first request again"
                " that its `headers=` names."
            )
        answer = Answer(response.status_code, fields, response.content)
        content = trusted(answer, self.url, self._key).body
        if response.status_code == httpx.codes.PARTIAL_CONTENT and content[:1] == b"{":
            content = b"[" + content + b"]"  # as the TypeScript SDK answers the end of a run
        if response.status_code == httpx.codes.OK:
            content = _unpacked(content)
        return Answer(response.status_code, fields, content)

    def _headers(
        self, context: Mapping[str, Any], target: str, data: Mapping[str, Any], body: bytes
    ) -> dict[str, str]:
        fields = {
            "content-type": str(data.get("content_type") or "application/json"),
            "user-agent": "Inngest",
            names.SIGNATURE: sign(body, self._key, int(time.time())) if self._key else "",
            names.RUN_ID: str(context["run_id"]),
            names.REQUEST_ID: str(context["request_id"]),
            names.GENERATION_ID: str(context["generation_id"]),
            names.JOB_ID: str(context["job_id"]),
            names.REQUEST_VERSION: names.EXECUTION_VERSION,
            names.ATTEMPT: str(context["attempt"]),
        }
        if context.get("disable_immediate_execution"):
            fields[names.FORCE_STEP_PLAN] = "true"
        if target != NO_TARGET:
            fields[names.STEP_ID] = target
        return fields

    async def aclose(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _unpacked(content: bytes) -> bytes:
    """The run's result out of its envelope."""
    try:
        value = loads(content)
    except JsonError:
        return content
    whole = isinstance(value, dict) and set(value) == {"data"}
    return dumps(value["data"]).encode() if whole else content


def request_body(data: Mapping[str, Any]) -> bytes:
    """The body of the request that `data` carries, which is in base 64."""
    try:
        return base64.b64decode(str(data.get("body") or ""), validate=True)
    except (binascii.Error, ValueError):
        return str(data["body"]).encode()


def is_endpoint(url: str) -> bool:
    """Whether `url` is that of an endpoint."""
    return url.startswith(SCHEME) and urlsplit(url[len(SCHEME) :]).scheme in {"http", "https"}
