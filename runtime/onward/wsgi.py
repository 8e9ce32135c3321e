"""The entry for WSGI servers: Flask, Django, gunicorn and any other that gives a call a thread.

Blocking functions run in the thread of their request. Async functions run on one event loop a
process, on a thread of its own, so that clients which user code keeps stay bound to one loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from onward import serving
from onward.errors import OnwardError
from onward.execution import engine
from onward.execution.draining import drain_on_sigterm
from onward.execution.session import Hung, drain_all
from onward.execution.workers import workers
from onward.protocol.response import WireResponse, encode_stream

if TYPE_CHECKING:
    from onward.app import App
    from onward.execution.session import Execution

__all__ = ["Served", "drain", "drain_on_sigterm", "serve"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

#: How much of a body is read at a time, in bytes.
_CHUNK = 1 << 16

#: Where adapters for Lambda leave its context, and its event: apig-wsgi, serverless-wsgi.
_CONTEXTS = ("apig_wsgi.context", "serverless.context")
_EVENTS = ("apig_wsgi.full_event", "serverless.event")


class Served:
    """An app as a WSGI app: the result of `serve`. Any number of threads may call it."""

    def __init__(self, app: App, path: str) -> None:
        self._surface = serving.Surface(app, path, framework="wsgi")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        answer, rest = self._answer(environ)
        body = b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body
        fields = list(answer.headers.items())
        if rest is None:
            fields.append(("content-length", str(len(answer.body))))
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", fields)
        return [body] if rest is None else rest

    def _answer(self, environ: Environ) -> tuple[WireResponse, Iterable[bytes] | None]:
        """The answer; with a second part, its head, and what is streamed after it."""
        surface = self._surface
        request = _request(environ)
        refused = surface.admit(request)
        if refused is not None:
            return refused, None
        try:
            request = _request(environ, _read_body(environ, request))
        except OnwardError as error:
            return surface.refused(error), None
        plan = surface.plan(request, now=time.time())
        if isinstance(plan, serving.Reply):
            return plan.response, None
        if isinstance(plan, serving.Registration):
            told = engine.register(surface.app, plan)
            return surface.registered(plan, told, now=time.time()), None
        head = surface.streamed(plan) if _frozen(environ) is None else None
        if head is None:
            return self._called(plan, request, environ), None
        return head, _stream(partial(self._called, plan, request, environ))

    def _called(
        self, plan: serving.Call, request: serving.Request, environ: Environ
    ) -> WireResponse:
        response = self._call(plan, request, environ)
        return self._surface.finished(plan, response, now=time.time())

    def _call(self, plan: serving.Call, request: serving.Request, environ: Environ) -> WireResponse:
        app = self._surface.app
        frozen = _frozen(environ)
        try:
            platform = engine.Platform(
                engine.server_limits(frozen, _event(environ), app.settings.front_door_limit),
                frozen is None,
                request.headers,
                environ,
            )
            call = engine.fetched(app, plan.request)
            execution = engine.execution_of(app, plan.function, call, platform)
        except OnwardError as error:
            return engine.refusal(error)
        try:
            return _drive(execution)
        except Hung:
            _wait_for_the_kill()
            raise


def serve(app: App, path: str = "/api/inngest") -> Served:
    """A WSGI app that serves `app` at `path`: introspection, registration and call requests.

    Raises ConfigurationError when `path` does not begin with a slash, or a variable of the
    environment makes no sense.
    """
    return Served(app, path)


def drain() -> None:
    """This process is about to end: flush, begin no new step, and continue in another one.

    It returns at once. Call it from the server's own hook for that, or have `drain_on_sigterm` call
    it: WSGI itself says nothing of the end.
    """
    drain_all()


def _wait_for_the_kill() -> None:
    """Everything is flushed, but code that cannot be stopped would thaw in the next call."""
    threading.Event().wait()


def _frozen(environ: Environ) -> Any:
    """Lambda's context, where the process is frozen between calls."""
    return next((environ[name] for name in _CONTEXTS if name in environ), None)


def _event(environ: Environ) -> Any:
    """What Lambda was called with."""
    return next((environ[name] for name in _EVENTS if name in environ), None)


def _stream(call: Callable[[], WireResponse]) -> Iterator[bytes]:
    """Keep the connection busy until `call`, on a thread of Onward's, has answered."""
    from concurrent.futures import Future

    done: Future[WireResponse] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again for whoever waits
            done.set_exception(error)

    workers.submit(run)
    while True:
        try:
            answer = done.result(serving.KEEP_ALIVE_S)
        except TimeoutError:
            yield serving.KEEP_ALIVE
        else:
            break
    yield encode_stream(answer)


def _drive(execution: Execution) -> WireResponse:
    if not execution.function.is_async:
        return engine.drive_blocking(execution)
    from onward.execution.side_loop import await_on_side_loop

    answer: WireResponse = await_on_side_loop(engine.drive_async(execution))
    return answer


def _request(environ: Environ, body: bytes = b"") -> serving.Request:
    names = (name for name in environ if name.startswith("HTTP_"))
    pairs = [(name[5:].replace("_", "-"), environ[name]) for name in names]
    if environ.get("CONTENT_LENGTH"):
        pairs.append(("content-length", environ["CONTENT_LENGTH"]))
    if "HTTP_HOST" not in environ:
        pairs.append(("host", f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"))
    return serving.Request(
        environ["REQUEST_METHOD"],
        _text(environ.get("PATH_INFO", "")),
        environ.get("QUERY_STRING", ""),
        serving.fields_of(pairs),
        body,
        environ.get("wsgi.url_scheme", "http"),
        _text(environ.get("SCRIPT_NAME", "")).rstrip("/"),
    )


def _text(path: str) -> str:
    """WSGI carries the bytes of paths as Latin-1."""
    return path.encode("latin-1").decode("utf-8", "replace")


def _read_body(environ: Environ, request: serving.Request) -> bytes:
    """The whole body. Raises OnwardError for one that is too large or incomplete."""
    length = request.header("content-length")
    if not length and not environ.get("wsgi.input_terminated"):
        if request.header("transfer-encoding"):
            raise serving.no_length()
        return b""
    left = int(length.lstrip("0") or 0) if length else serving.BODY_LIMIT + 1
    parts: list[bytes] = []
    while left:
        part = environ["wsgi.input"].read(min(left, _CHUNK))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    if length and left:
        raise serving.incomplete()
    if not length and not left:
        raise serving.too_large()
    return b"".join(parts)
