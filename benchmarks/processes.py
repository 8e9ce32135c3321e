"""The embedded orchestrator and a served app, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.figures import ROOT, environment

DEADLINE = 120.0


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(db: Path, pids: list[int] | None = None) -> AsyncIterator[str]:
    """Both, registered with each other; the orchestrator's URL. `pids` gets its and the app's."""
    port, app_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    started: list[Process] = []
    try:
        arguments = ["-m", "onward_server", "--db", str(db), "--port", str(port)]
        started.append(await _start(arguments))
        app = ["-m", "uvicorn", "benchmarks.served:asgi", "--host", "127.0.0.1"]
        options = ["--port", str(app_port), "--log-level", "warning"]
        started.append(await _start([*app, *options], INNGEST_DEV=url))
        if pids is not None:
            pids += [process.pid for process in started]
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
            await _until_up(client, f"{url}/health")
            await _until_up(client, f"http://127.0.0.1:{app_port}/api/inngest")
            (await client.put(f"http://127.0.0.1:{app_port}/api/inngest")).raise_for_status()
        yield url
    finally:
        for process in started:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def _start(arguments: list[str], **changes: str) -> Process:
    return await create_subprocess_exec(
        sys.executable, *arguments, env=environment(**changes), cwd=ROOT, stdout=PIPE
    )


async def _until_up(client: httpx.AsyncClient, url: str) -> None:
    until = time.monotonic() + DEADLINE
    while True:
        try:
            await client.get(url)
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.02)
        else:
            return


async def run_of(url: str, name: str, steps: int) -> Any:
    """Run the served function `name` to its end; its result."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=DEADLINE) as client:
        event = {"name": f"bench/{name}", "data": {"steps": steps}}
        (id_,) = (await client.post("/e/bench", json=event)).json()["ids"]
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            runs = (await client.get(f"/v1/events/{id_}/runs")).json()["data"]
            if runs and runs[0]["status"] != "Running":
                output = runs[0]["output"]
                return json.loads(output) if isinstance(output, str) else output
            await asyncio.sleep(0.05)
    message = f"{name} with {steps} steps did not end within {DEADLINE:.0f} s"
    raise TimeoutError(message)
