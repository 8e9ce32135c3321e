"""An app behind any entry, called with requests as they are on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

import onward.asgi
import onward.aws_lambda
import onward.wsgi
from onward import App
from onward.protocol.direct import call_payload
from tests.support.entries import LambdaContext
from tests.support.loops import HANGS_AFTER_S, LoopThread
from tests.support.wsgi_server import WsgiThread

PATH = "/api/golden"


@dataclass(frozen=True)
class Answered:
    """An answer: `body` as a JSON value."""

    status: int
    headers: dict[str, str]
    body: Any


class Served(Protocol):
    """Something that answers call requests."""

    def call(
        self, function_id: str, target: str, body: bytes, headers: Mapping[str, str]
    ) -> Answered:
        """The answer to the call request with this body."""
        ...


class _OverHttp:
    """Posts call requests to `url`."""

    url = ""

    def call(
        self, function_id: str, target: str, body: bytes, headers: Mapping[str, str]
    ) -> Answered:
        """Post the call request."""
        return self.request("POST", f"{PATH}?fnId={function_id}&stepId={target}", body, headers)

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answered:
        """Any request."""
        with httpx.Client(trust_env=False, timeout=HANGS_AFTER_S, base_url=self.url) as client:
            answer = client.request(method, path, content=body, headers=headers)
        return Answered(answer.status_code, dict(answer.headers), answer.json())


class ServedOverHttp(_OverHttp):
    """`app`, which may be exchanged, served by uvicorn in `loops`."""

    def __init__(self, loops: LoopThread, app: App | None = None) -> None:
        self.app = app
        self.url = loops.serve(self._serve)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.app is not None
        await onward.asgi.serve(self.app, PATH)(scope, receive, send)


class ServedOverWsgi(_OverHttp):
    """`app`, which may be exchanged, served by a WSGI server that gives each call a thread."""

    def __init__(self, server: WsgiThread, app: App | None = None) -> None:
        self.app = app
        self.url = server.url
        server.serves = self._serve

    def _serve(self, environ: Any, start_response: Any) -> Any:
        assert self.app is not None
        return onward.wsgi.serve(self.app, PATH)(environ, start_response)


class ServedByLambda:
    """The Lambda handler, called on this thread as Lambda's runtime does."""

    def __init__(self, app: App, seconds: float = 900.0) -> None:
        self._handler = onward.aws_lambda.handler(app)
        self._seconds = seconds

    def call(
        self, function_id: str, target: str, body: bytes, headers: Mapping[str, str]
    ) -> Answered:
        """Invoke directly. A direct invocation carries no headers."""
        del headers
        return self.invoke(call_payload(function_id, target, json.loads(body)))

    def invoke(self, payload: dict[str, Any]) -> Answered:
        """Invoke with any payload."""
        event = json.loads(json.dumps(payload))
        answer = json.loads(json.dumps(self._handler(event, LambdaContext(self._seconds))))
        return Answered(answer["status"], answer["headers"], answer["body"])
