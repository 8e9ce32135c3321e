"""A real WSGI server: the standard library's, with a thread for each request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.validate import validator


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """A test's output is not for access logs."""


class WsgiThread:
    """The server, on a thread; what it `serves` may be changed between requests.

    Every request goes through the standard library's validator, so that a breach of WSGI fails.
    """

    def __init__(self) -> None:
        self.serves: Callable[..., Any] | None = None
        self._server = _Server(("127.0.0.1", 0), _Quiet)
        self._server.set_app(validator(self._dispatch))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), name="wsgi-server", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _dispatch(self, environ: Any, start_response: Any) -> Any:
        assert self.serves is not None
        return self.serves(environ, start_response)

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def tasks(self) -> set[str]:
        """What an event loop would have under way; there is none."""
        return set()
