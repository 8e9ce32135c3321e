"""Serving an orchestrator's API over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onward.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from onward_server.orchestrator import Orchestrator

_BACKLOG = 512


class PortInUseError(ConfigurationError):
    """Another process listens on the port."""

    code = "port_in_use"


@dataclass(frozen=True, slots=True)
class Serving:
    """Where something is served. `url` has no slash at its end."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Its address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises PortInUseError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named: else 40 ms a request.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"Cannot listen on {host}:{port} ({error.strerror}). Another process uses the port:"
            " stop it, or choose another with --port (0 takes any that is free)."
        ) from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    """Signals are the caller's: a library must not take them over."""
    yield


@contextlib.asynccontextmanager
async def serve_asgi(
    app: ASGIApp, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Serving]:
    """Serves any ASGI app in the running loop until the block ends.

    Raises PortInUseError, and MissingExtraError where uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError(
            "Serving needs uvicorn and starlette: pip install 'onward[server]'."
        ) from None
    listener = listen(host, port)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    ready = asyncio.Event()
    startup = server.startup

    async def tell(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets=sockets)
        ready.set()

    server.startup = tell  # type: ignore[method-assign]
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        yield Serving(host, listener.getsockname()[1])
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task
        listener.close()


@contextlib.asynccontextmanager
async def serve(
    orchestrator: Orchestrator, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Serving]:
    """Serves the API of a started orchestrator in the running loop until the block ends.

    Raises PortInUseError.
    """
    async with serve_asgi(orchestrator.asgi, host, port) as serving:
        yield serving
