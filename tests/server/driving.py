"""Short ways to start runs, checkpoint as a function does, and wait for what happens."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from onward_server import Orchestrator, TraceEvent
from tests.server.fakes import Call, Function, registration


def client_of(orchestrator: Orchestrator) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=orchestrator.asgi)
    return httpx.AsyncClient(transport=transport, base_url="http://orchestrator")


async def checkpoint(client: httpx.AsyncClient, call: Call, *ops: dict[str, Any]) -> httpx.Response:
    ctx = call.ctx
    body = {
        "run_id": ctx["run_id"],
        "fn_id": ctx["fn_id"],
        "qi_id": ctx["qi_id"],
        "request_id": ctx["request_id"],
        "generation_id": ctx["generation_id"],
        "steps": list(ops),
        "ts": 1,
    }
    return await client.post(f"/v1/checkpoint/{ctx['run_id']}/async", json=body)


def happens(orchestrator: Orchestrator, kind: str, times: int = 1) -> asyncio.Future[None]:
    """Is done when `kind` has happened so often."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = [times]

    def seen(event: TraceEvent) -> None:
        left[0] -= event.kind == kind
        if left[0] <= 0 and not future.done():
            future.set_result(None)

    orchestrator.subscribe(seen)
    return future


async def begin(orchestrator: Orchestrator, function: Function, **options: Any) -> str:
    await orchestrator.register(registration("f", **options), function)
    [event_id] = await orchestrator.send([{"name": "app/f", "data": {"n": 1}}])
    [run_id] = await orchestrator.runs_of(event_id)
    return run_id
