"""`onward dev`: the embedded orchestrator, and the app beside it in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onward_deploy.dev.runlog import JsonLog, RunLog
from onward_deploy.dev.served import ServedApp
from onward_deploy.errors import EXIT_OK
from onward_deploy.loading import parse_target
from onward_deploy.run.command import worker_environment
from onward_server.serving import Serving, listen, url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from onward_server import Orchestrator

MEMORY = ":memory:"


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What `onward dev` was asked for. Without `db`, runs are kept in memory."""

    target: str
    host: str = "127.0.0.1"
    port: int = 8288
    db: str | None = None
    as_json: bool = False


def dev(options: DevOptions) -> int:
    """Serve until Ctrl-C or SIGTERM. Returns the exit status.

    Raises UsageError for an app or an address that cannot be used, and the store's own errors.
    """
    asyncio.run(serve(options))
    return EXIT_OK


async def serve(options: DevOptions) -> None:
    """Start orchestrator and app, and stop both when a signal comes."""
    target = str(parse_target(options.target))
    log: RunLog | JsonLog = JsonLog() if options.as_json else RunLog()
    with listen(options.host, options.port) as listener, _until_signal() as stopped:
        url = url_of(listener)
        app = ServedApp(
            target,
            environment=worker_environment(url, os.environ),
            output=log.output,
            notice=log.notice,
        )
        try:
            async with _orchestrator(options.db) as orchestrator:
                orchestrator.subscribe(log)
                async with Serving(orchestrator.asgi, listener):
                    registration = await app.start()
                    await orchestrator.register(registration)
                    log.ready(url, registration, db=options.db)
                    await _watch(app, orchestrator, stopped)
        finally:
            await app.stop()


async def _watch(app: ServedApp, orchestrator: Orchestrator, stopped: asyncio.Event) -> None:
    watching = asyncio.create_task(app.watch(orchestrator.register))
    waiting = asyncio.create_task(stopped.wait())
    try:
        done, _ = await asyncio.wait({watching, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        waiting.cancel()
    if watching in done:
        watching.result()


@contextlib.asynccontextmanager
async def _orchestrator(db: str | None) -> AsyncIterator[Orchestrator]:
    from onward_server import Orchestrator, trace

    trace.notices.disabled = True  # the run log says them
    orchestrator = Orchestrator(db=db or MEMORY)
    await orchestrator.start()
    try:
        yield orchestrator
    finally:
        await orchestrator.stop()


@contextlib.contextmanager
def _until_signal() -> Iterator[asyncio.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second one interrupts."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
        stopped.set()

    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        yield stopped
    finally:
        stop()
