"""The entry for ASGI servers: FastAPI, Starlette, uvicorn, Vercel, and Lambda behind mangum."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

from onward import serving
from onward.errors import OnwardError
from onward.execution import engine
from onward.execution.draining import drain_on_sigterm
from onward.execution.on_worker import on_worker
from onward.execution.session import Hung
from onward.protocol.response import WireResponse, encode_stream

if TYPE_CHECKING:
    from onward.app import App

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Served:
    """An app as an ASGI app: the result of `serve`.

    It can be served alone, mounted, or be the endpoint of a Starlette or FastAPI route.
    """

    def __init__(self, app: App, path: str) -> None:
        self._surface = serving.Surface(app, path, framework="asgi")
        self._drains = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            self._drain_when_told()  # a mounted app is told of no lifespan
            answer = await self._answer(scope, receive, send)
            if answer is not None:
                await _send(answer, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._drain_when_told()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _drain_when_told(self) -> None:
        if not self._drains:
            self._drains = True
            drain_on_sigterm()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> WireResponse | None:
        """The answer; None: it has been sent."""
        surface = self._surface
        request = _request(scope)
        refused = surface.admit(request)
        if refused is not None:
            return refused
        try:
            request = _request(scope, await _read_body(receive))
        except OnwardError as error:
            return surface.refused(error)
        plan = surface.plan(request, now=time.time())
        if isinstance(plan, serving.Reply):
            return plan.response
        if isinstance(plan, serving.Registration):
            told = await on_worker(partial(engine.register, surface.app, plan))
            return surface.registered(plan, told, now=time.time())
        head = surface.streamed(plan) if "aws.context" not in scope else None
        if head is not None:
            await self._stream(head, plan, request, scope, send)
            return None
        return await self._called(plan, request, scope)

    async def _stream(
        self,
        head: WireResponse,
        plan: serving.Call,
        request: serving.Request,
        scope: Scope,
        send: Send,
    ) -> None:
        """Keep the connection busy until the function has answered."""
        running = asyncio.ensure_future(self._called(plan, request, scope))
        try:
            await _send_head(head, send)
            while not (await asyncio.wait({running}, timeout=serving.KEEP_ALIVE_S))[0]:
                await _send_part(serving.KEEP_ALIVE, send, more=True)
            await _send_part(encode_stream(running.result()), send)
        finally:
            running.cancel()

    async def _called(
        self, plan: serving.Call, request: serving.Request, scope: Scope
    ) -> WireResponse:
        response = await self._call(plan, request, scope)
        return self._surface.finished(plan, response, now=time.time())

    async def _call(
        self, plan: serving.Call, request: serving.Request, scope: Scope
    ) -> WireResponse:
        app, call = self._surface.app, plan.request
        frozen = scope.get("aws.context")
        try:
            platform = engine.Platform(
                engine.server_limits(frozen, scope.get("aws.event"), app.settings.front_door_limit),
                frozen is None,
                request.headers,
                scope,
            )
            if call.use_api:
                call = await on_worker(partial(engine.fetched, app, call))
            execution = engine.execution_of(app, plan.function, call, platform)
        except OnwardError as error:
            return engine.refusal(error)
        try:
            if execution.function.is_async:
                return await engine.drive_async(execution)
            return await on_worker(partial(engine.drive_blocking, execution))
        except Hung:
            await asyncio.Event().wait()
            raise


def serve(app: App, path: str = "/api/inngest") -> Served:
    """An ASGI app that serves `app` at `path`: introspection, registration and call requests.

    Raises ConfigurationError when `path` does not begin with a slash, or a variable of the
    environment makes no sense.
    """
    return Served(app, path)


def _request(scope: Scope, body: bytes = b"") -> serving.Request:
    root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    pairs = ((str(n, "latin-1"), str(v, "latin-1")) for n, v in scope["headers"])
    return serving.Request(
        scope["method"],
        path,
        scope.get("query_string", b"").decode("latin-1"),
        serving.fields_of(pairs),
        body,
        scope.get("scheme", "http"),
        root,
    )


async def _read_body(receive: Receive) -> bytes:
    """The whole body. Raises OnwardError for one that is too large or incomplete."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise serving.incomplete()
        part = message.get("body", b"")
        size += len(part)
        if size > serving.BODY_LIMIT:
            raise serving.too_large()
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(answer: WireResponse, send: Send) -> None:
    answer.headers["content-length"] = str(len(answer.body))
    await _send_head(answer, send)
    await _send_part(answer.body, send)


async def _send_head(answer: WireResponse, send: Send) -> None:
    fields = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": fields})


async def _send_part(body: bytes, send: Send, *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
