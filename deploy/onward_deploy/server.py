"""An ASGI app on a loopback port, inside the caller's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any

from onward_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    import uvicorn

BACKLOG = 2048
#: Seconds that open connections get to end on a stop.
GRACE_S = 2


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises UsageError when the port is in use, is not ours to take, or `host` is no address here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(_refusal(host, port, error)) from None
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
    """The address of `listener` for a client on this machine."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build_server(app: Any) -> uvicorn.Server:
    """A uvicorn server for `app` that writes no log and leaves signals to the caller.

    Raises MissingExtraError without uvicorn.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        if error.name != "uvicorn":
            raise
        from onward.errors import MissingExtraError

        raise MissingExtraError(
            "Serving over HTTP needs uvicorn, which is not installed. Run:"
            " pip install 'onward[deploy]'"
        ) from None

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        app,
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    return Server(config)


class Serving:
    """`async with Serving(app, listener):` answers on `listener` until the block ends."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        self.url = url_of(listener)
        self._listener = listener
        self._server = build_server(app)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
