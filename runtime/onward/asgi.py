"""The entry for ASGI servers: FastAPI, Starlette, uvicorn, Vercel, and Lambda behind mangum."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qs

from onward.core.deadline import Limits
from onward.errors import OnwardError, UnsignedRequestError
from onward.execution import engine
from onward.execution.abandoned import abandoned
from onward.execution.session import Hung, drain_all
from onward.execution.workers import workers
from onward.protocol import headers
from onward.protocol.response import WireResponse, base_headers
from onward.protocol.signature import verify

if TYPE_CHECKING:
    from onward.app import App

_T = TypeVar("_T")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Served(Protocol):
    """An ASGI app."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""


#: The largest call request that is read, in bytes; larger journals come trimmed.
BODY_LIMIT = 64_000_000


def serve(app: App, path: str = "/api/inngest") -> Served:
    """An ASGI app that serves `app` at `path`: introspection, registration and call requests.

    Raises ConfigurationError when `path` does not begin with a slash.
    """
    from onward.errors import ConfigurationError

    if not path.startswith("/"):
        raise ConfigurationError(f"path={path!r} does not begin with '/'. Write '/api/inngest'.")

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                answer = await _answer(app, path, scope, receive)
            except OnwardError as error:  # such as an environment that makes no sense
                answer = _plain(500, {"message": error.message})
            await _send(answer, send)

    return served


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            _drain_on_sigterm()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return


def _drain_on_sigterm() -> None:
    """Before the server's own handler of SIGTERM: flush, and continue elsewhere.

    Without a handler of the server's, SIGTERM ends the process at once, and so it stays.
    """
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        return
    previous = signal.getsignal(signal.SIGTERM)
    if not callable(previous) or previous is signal.default_int_handler:
        return

    def drain(number: int, frame: object) -> None:
        threading.Thread(target=drain_all, name="onward-drain", daemon=True).start()
        previous(number, frame)  # type: ignore[arg-type]  # what it was installed for

    signal.signal(signal.SIGTERM, drain)


async def _send(answer: WireResponse, send: Send) -> None:
    fields = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    fields.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": fields})
    await send({"type": "http.response.body", "body": answer.body})


def _plain(status: int, body: object) -> WireResponse:
    return WireResponse(status, base_headers(engine.sdk_name()), json.dumps(body).encode())


async def _answer(app: App, path: str, scope: Scope, receive: Receive) -> WireResponse:
    root = scope.get("root_path", "")
    if scope["path"].removeprefix(root).rstrip("/") != path.rstrip("/"):
        return _plain(404, {"message": f"Nothing is served at {scope['path']}; try {path}."})
    method = scope["method"]
    if method == "GET":
        return _introspection(app)
    if method == "PUT":
        return await _register(app, path, scope)
    if method == "POST":
        return await _call(app, scope, receive)
    return _plain(405, {"message": f"{method} is not served here; GET, PUT and POST are."})


def _introspection(app: App) -> WireResponse:
    """What the app tells anybody (SDK specification, 4.5)."""
    settings = app.settings
    body = {
        "extra": {"native_crypto": True},
        "has_event_key": settings.event_key is not None,
        "has_signing_key": settings.signing_key is not None,
        "function_count": len(app.functions),
        "mode": "dev" if settings.dev else "cloud",
        "schema_version": "2024-05-24",
    }
    return _plain(200, body)


def _header(scope: Scope, name: str) -> str:
    wanted = name.encode()
    for key, value in scope["headers"]:
        if key == wanted:
            return str(bytes(value), "latin-1")
    return ""


def _own_url(app: App, path: str, scope: Scope) -> str:
    origin = app.settings.serve_origin
    if origin is None:
        scheme = _header(scope, "x-forwarded-proto") or scope.get("scheme", "http")
        host = _header(scope, "x-forwarded-host") or _header(scope, "host")
        origin = f"{scheme}://{host}"
    return f"{origin.rstrip('/')}{scope.get('root_path', '')}{path}"


async def _register(app: App, path: str, scope: Scope) -> WireResponse:
    """Register with the orchestrator, out of band (SDK specification, 4.3)."""
    from onward.transport.http import request

    registration = app.registration(_own_url(app, path, scope))

    def post() -> dict[str, Any]:
        url = app.settings.api_url
        told = request(url, "POST", "/fn/register", keys=app.keys(), body=registration)
        if not isinstance(told, dict):
            message = f"POST {url}/fn/register answered with no object: is it an orchestrator?"
            raise OnwardError(message)
        return told

    try:
        result = await _on_worker(post)
    except OnwardError as error:
        return _plain(500, {"message": error.message, "modified": False})
    registered = {
        "message": "Successfully registered",
        "modified": bool(result.get("modified")),
    }
    answer = _plain(200, registered)
    answer.headers[headers.SYNC_KIND] = "out_of_band"
    return answer


async def _read_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise OnwardError("The caller hung up before its request was complete.")
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_LIMIT:
            raise OnwardError(
                f"The call request is over {BODY_LIMIT:,} bytes. Nothing was run. Have the"
                " orchestrator trim journals (use_api), or keep results smaller."
            )
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _call(app: App, scope: Scope, receive: Receive) -> WireResponse:
    if abandoned.too_many:
        busy = _plain(503, {"message": "This process has too much code that could not be stopped."})
        busy.headers[headers.RETRY_AFTER] = "1"
        return busy
    query = {key: values[-1] for key, values in parse_qs(scope["query_string"].decode()).items()}
    try:
        body = await _read_body(receive)
        _check_signature(app, scope, body)
        platform = engine.Platform(_limits(scope), abandons=not _frozen(scope))
        function_id, target = query.get("fnId", ""), query.get("stepId", "")

        function, call = engine.decode(app, function_id, target, body)
        if call.use_api:
            call = await _on_worker(partial(engine.fetched, app, call))
        execution = engine.execution_of(app, function, call, platform)
    except UnsignedRequestError as error:
        return _plain(401, {"message": error.message})
    except OnwardError as error:
        return engine.refusal(error)
    try:
        if execution.function.is_async:
            return await engine.drive_async(execution)
        return await _on_worker(partial(engine.drive_blocking, execution))
    except Hung:
        await asyncio.Event().wait()
        raise


def _check_signature(app: App, scope: Scope, body: bytes) -> None:
    settings = app.settings
    if not settings.refuses_unsigned:
        return
    signature = _header(scope, headers.SIGNATURE)
    keys = [key for key in (settings.signing_key, settings.signing_key_fallback) if key]
    now = time.time()
    if signature and any(verify(body, signature, key, now=now) for key in keys):
        return
    if not keys:
        from onward.logs import runtime

        runtime.error(
            "This app is deployed and has no signing key, so it runs no call requests. Set"
            " INNGEST_SIGNING_KEY (or INNGEST_DEV=1 for a trusted network)."
        )
    raise UnsignedRequestError("The request is not signed, or not as this app expects it.")


def _frozen(scope: Scope) -> bool:
    """Whether the platform freezes the process between invocations (Lambda behind mangum)."""
    return "aws.context" in scope


def _limits(scope: Scope) -> Limits:
    """What the platform says is left: Lambda under mangum, or Vercel's own runtime."""
    if _frozen(scope):
        return engine.lambda_limits(scope["aws.context"])
    deadline = _vercel_deadline()
    if deadline is None:
        return Limits()
    return Limits(remaining=float(deadline.timestamp()) - time.time())


def _vercel_deadline() -> Any:
    """Vercel's deadline of this request, an aware datetime; None elsewhere, or if it tells none."""
    if not os.environ.get("VERCEL"):
        return None
    try:
        from vercel_runtime import get_deadline
    except ImportError:
        return None
    return get_deadline()


async def _on_worker(job: Callable[[], _T]) -> _T:
    """The result of blocking `job`, on a thread of Onward's."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def work() -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = job()
        except BaseException as raised:  # noqa: BLE001 - raised again for whoever waits
            error = raised
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            return  # the loop was closed: nobody waits any more

    workers.submit(work)
    return await done
