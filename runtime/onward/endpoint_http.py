"""Requests and responses of durable endpoints, as Starlette and FastAPI have them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.background import BackgroundTasks
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response

from onward.own_address import told_by
from onward.protocol.endpoint import HttpRequest

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

_OUTCOME = "onward.outcome"

#: Where a route keeps its finisher; routes cannot be keys of a mapping.
_FINISHER = "onward_finisher"


@dataclass(slots=True)
class Captured:
    """A response as its bytes. `background` is what it wants done after it was sent."""

    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    background: Any = None

    async def send(self, message: Message) -> None:
        """Take one ASGI message."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")

    def fields(self) -> list[tuple[str, str]]:
        """The headers as text."""
        return [(name.decode("latin-1").lower(), v.decode("latin-1")) for name, v in self.headers]

    def response(self, extra: Mapping[str, str]) -> Response:
        """What the caller is answered: these bytes, with `extra` headers."""
        answer = Response(bytes(self.body), self.status, background=self.background)
        more = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in extra.items()]
        framing = [(b"content-length", str(len(self.body)).encode())]
        kept = [(n, v) for n, v in self.headers if n.lower() != b"content-length"]
        answer.raw_headers = [*kept, *framing, *more]
        return answer


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any
    error: Exception | None
    injected: Response | None


async def render(
    request: Request, injected: Response | None, value: Any, error: Exception | None = None
) -> Captured:
    """What the route answers when its handler returns `value` or raises `error`.

    The framework does it: response models, response classes and exception handlers apply.
    `injected` is the response whose headers and status the handler may have set. Raises the error
    for which the application has no handler.
    """
    captured = Captured()
    if isinstance(value, Response):
        captured.background, value.background = value.background, None
    outcome = _Outcome(value, error, injected)
    scope: Scope = {**request.scope, _OUTCOME: outcome}
    await _finisher(request)(scope, _nothing_more, captured.send)
    return captured


async def _nothing_more() -> Message:
    """The request has been read; its caller does not hang up here."""
    await asyncio.Event().wait()
    raise AssertionError


async def _finish(request: Request, response: Response) -> Any:
    """A handler that has its outcome already."""
    outcome: _Outcome = request.scope[_OUTCOME]
    injected = outcome.injected
    if injected is not None:
        response.headers.raw.extend(injected.headers.raw)
        if injected.status_code is not None:
            response.status_code = injected.status_code
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


async def _finish_plainly(request: Request) -> Response:
    outcome: _Outcome = request.scope[_OUTCOME]
    if outcome.error is not None:
        raise outcome.error
    if not isinstance(outcome.value, Response):
        message = f"A Starlette endpoint returned {type(outcome.value).__name__}, not a Response."
        raise TypeError(message)
    return outcome.value


def _finisher(request: Request) -> ASGIApp:
    """The part of the request's route that makes a response of an outcome."""
    route: Any = request.scope.get("route")
    if not hasattr(route, "response_model"):
        return request_response(_finish_plainly)
    found: ASGIApp | None = getattr(route, _FINISHER, None)
    if found is None:
        from fastapi.routing import APIRoute

        sibling = APIRoute(
            "/",
            _finish,
            response_model=route.response_model,
            status_code=route.status_code,
            response_class=route.response_class,
            response_model_include=route.response_model_include,
            response_model_exclude=route.response_model_exclude,
            response_model_by_alias=route.response_model_by_alias,
            response_model_exclude_unset=route.response_model_exclude_unset,
            response_model_exclude_defaults=route.response_model_exclude_defaults,
            response_model_exclude_none=route.response_model_exclude_none,
        )
        found = sibling.app
        setattr(route, _FINISHER, found)
    return found


def drop_background_tasks(values: Mapping[str, Any]) -> None:
    """Forget the tasks that a handler added before its run went on elsewhere."""
    for value in values.values():
        if isinstance(value, BackgroundTasks):
            value.tasks.clear()


# ------------------------------------------------------------------ requests


async def body_of(request: Request) -> bytes:
    """The request's body, read by whomever; a form that was parsed already is written out again."""
    form = getattr(request, "_form", None)
    if form is None or hasattr(request, "_body"):
        return await request.body()
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        return await _multipart(form, kind.partition("boundary=")[2].strip('"'))
    from urllib.parse import urlencode

    return urlencode([(name, str(value)) for name, value in form.multi_items()]).encode()


async def _multipart(form: Any, boundary: str) -> bytes:
    parts = bytearray()
    for name, value in form.multi_items():
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="{_quoted(name)}"'
        if isinstance(value, UploadFile):
            head += f'; filename="{_quoted(value.filename or "")}"'
            head += f"\r\ncontent-type: {value.content_type or 'application/octet-stream'}"
            await value.seek(0)
            content = await value.read()
            await value.seek(0)
        else:
            content = value.encode()
        parts += f"{head}\r\n\r\n".encode() + content + b"\r\n"
    return bytes(parts) + f"--{boundary}--\r\n".encode()


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def describe(request: Request, body: bytes, *, origin: str | None, trusted: bool) -> HttpRequest:
    """The request as its run's event carries it.

    `origin` is where the app is reached, if that is configured; else the request says it, and a
    proxy is believed where requests are `trusted`.
    """
    fields = request.headers
    if origin is None:
        scheme, host = told_by(
            lambda name: fields.get(name, ""), request.url.scheme, trusted=trusted
        )
        origin = f"{scheme}://{host}"
    client = request.client.host if request.client else ""
    return HttpRequest(
        request.method,
        origin,
        request.url.path,
        request.url.query,
        fields.get("content-type", ""),
        fields.get("x-forwarded-for") or fields.get("x-real-ip") or client,
        body,
    )


def restore_headers(request: Request, carried: Mapping[str, str]) -> None:
    """Give the request back the headers of the first one."""
    fields: list[tuple[bytes, bytes]] = request.scope["headers"]
    names = {name.encode("latin-1") for name in carried}
    kept = [(name, value) for name, value in fields if name not in names]
    fields[:] = [
        *kept,
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in carried.items()),
    ]
    for cached in ("_headers", "_cookies"):
        if hasattr(request, cached):
            delattr(request, cached)
