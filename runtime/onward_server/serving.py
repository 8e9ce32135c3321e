"""Serving an orchestrator's API, or any ASGI app, over HTTP in the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from onward.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import uvicorn
    from starlette.types import ASGIApp

    from onward_server.orchestrator import Orchestrator

_BACKLOG = 512

#: Seconds that open connections get to end on a stop.
GRACE_S = 1


class AddressError(ConfigurationError):
    """Nothing can listen on an address: it is taken, not ours to take, or no address here."""

    code = "address_unusable"


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises AddressError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named: else 40 ms a request.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressError(_refusal(host, port, error)) from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use, perhaps by another `onward dev`. Stop that one, or"
            f" choose another port: `--port {port + 1}`, or `--port 0` for any free one."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than this user has. Choose one over 1023: `--port`."
    return (
        f"Nothing can listen on {host}:{port}: {error.strerror or error}. Try `--host 127.0.0.1`."
    )


def url_of(listener: socket.socket) -> str:
    """The address of `listener` for a client on this machine, without a slash at its end."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build_server(app: ASGIApp) -> uvicorn.Server:
    """A uvicorn server for `app` that writes no log and leaves signals to the caller.

    Raises MissingExtraError without uvicorn.
    """
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError(
            "Serving over HTTP needs uvicorn and starlette. Run: pip install 'onward[server]'"
        ) from None

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        app,
        interface="asgi3",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )
    return Server(config)


class Serving:
    """`async with Serving(app, listener):` answers on `listener` until the block ends."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self.url = url_of(listener)
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._server = build_server(app)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """The listener takes connections from the beginning; they wait for the server."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End open connections and the server."""
        self._server.should_exit = True
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._listener.close()


def serve_asgi(app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> Serving:
    """Serves any ASGI app. Raises AddressError, and MissingExtraError without uvicorn."""
    return Serving(app, listen(host, port))


def serve(orchestrator: Orchestrator, host: str = "127.0.0.1", port: int = 0) -> Serving:
    """Serves the API of a started orchestrator. Raises AddressError."""
    return serve_asgi(orchestrator.asgi, host, port)
