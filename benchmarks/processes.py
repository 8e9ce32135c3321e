"""The embedded orchestrator and a served app, each in a process of its own."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import onward
from benchmarks.figures import ROOT, environment

DEADLINE = 120.0


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class App:
    """An app and the command that serves it, in which `{port}` stands for its port.

    `environment` is added to the process's; `PORT` is the port too.
    """

    id: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


SERVED = App(
    "bench",
    (
        sys.executable,
        *("-m", "uvicorn", "benchmarks.served:asgi", "--host", "127.0.0.1"),
        *("--port", "{port}", "--log-level", "warning"),
    ),
)


@asynccontextmanager
async def serving(db: Path, pids: list[int] | None = None) -> AsyncIterator[str]:
    """Both, registered with each other; the orchestrator's URL. `pids` gets its and the app's."""
    async with embedded(db, pids) as url, serving_app(SERVED, url, pids):
        yield url


@asynccontextmanager
async def embedded(db: Path, pids: list[int] | None = None) -> AsyncIterator[str]:
    """The embedded orchestrator; its URL."""
    port = free_port()
    command = (sys.executable, "-m", "onward_server", "--db", str(db), "--port", str(port))
    async with _running(command, {}, pids):
        await _until_up(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def serving_app(app: App, url: str, pids: list[int] | None = None) -> AsyncIterator[None]:
    """`app`, registered with the orchestrator at `url`."""
    port = free_port()
    command = tuple(part.format(port=port) for part in app.command)
    variables = {"INNGEST_DEV": url, "PORT": str(port), **app.environment}
    async with _running(command, variables, pids):
        address = f"http://127.0.0.1:{port}/api/inngest"
        await _until_up(address)
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
            (await client.put(address)).raise_for_status()
        yield


@asynccontextmanager
async def _running(
    command: tuple[str, ...], variables: Mapping[str, str], pids: list[int] | None
) -> AsyncIterator[None]:
    process = await create_subprocess_exec(
        *command, env=environment(**variables), cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    if pids is not None:
        pids.append(process.pid)
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _until_up(url: str) -> None:
    until = time.monotonic() + DEADLINE
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
        while True:
            try:
                await client.get(url)
            except httpx.TransportError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.02)
            else:
                return


async def run_of(url: str, event_name: str, steps: int) -> Any:
    """Send an event and await the end of the run that it starts; its result."""
    app = onward.App("bench", orchestrator=url, dev=True)
    (id_,) = await app.send_async({"name": event_name, "data": {"steps": steps}})
    (run, *_) = await app.runs_of_async(id_, timeout=DEADLINE)
    return await run.result_async(timeout=DEADLINE)
