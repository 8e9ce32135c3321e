"""Example apps in full: a real orchestrator, real HTTP between it and the app."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from onward_server import Orchestrator, RunView, TraceEvent
from onward_server.serving import Serving, listen
from tests.cli.command import PATIENCE_S, environment

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@dataclass
class Observed:
    """An orchestrator that serves on loopback, and all that it said about its runs."""

    orchestrator: Orchestrator
    url: str
    trace: list[TraceEvent] = field(default_factory=list)

    async def run(self, event: str, data: dict[str, Any]) -> RunView:
        """Send the event and wait for the one run that it starts."""
        event_ids = await self.orchestrator.send([{"name": event, "data": data}])
        (run_id,) = await self.orchestrator.runs_of(event_ids[0])
        async with asyncio.timeout(PATIENCE_S):
            return await self.orchestrator.result(run_id)

    def told(self, kind: str, key: str) -> list[Any]:
        """What the events of one kind say under `key`, in order."""
        return [event.data[key] for event in self.trace if event.kind == kind]


@pytest.fixture
async def observed() -> AsyncIterator[Observed]:
    orchestrator = Orchestrator(db=":memory:")
    await orchestrator.start()
    try:
        with listen() as listener:
            async with Serving(orchestrator.asgi, listener) as serving:
                watched = Observed(orchestrator, serving.url)
                orchestrator.subscribe(watched.trace.append)
                yield watched
    finally:
        await orchestrator.stop()


@asynccontextmanager
async def uvicorn(target: str, orchestrator_url: str) -> AsyncIterator[str]:
    """`uvicorn TARGET` in a process of its own, from the checkout's root. Gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", target, "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=environment(INNGEST_DEV=orchestrator_url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        await _answers(url, process)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _answers(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(trust_env=False) as client:
        while process.returncode is None:
            with contextlib.suppress(httpx.TransportError):
                await client.get(url)
                return
            await asyncio.sleep(0.02)
    assert process.stderr is not None
    raise AssertionError(f"the server ended: {(await process.stderr.read()).decode()}")
