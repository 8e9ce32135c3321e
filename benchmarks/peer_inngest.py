"""From nothing to the first answer with PyPI's inngest: one call request, in this process."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import fastapi
import inngest
import inngest.fast_api

client = inngest.Inngest(app_id="bench", is_production=False)


@client.create_function(fn_id="one", trigger=inngest.TriggerEvent(event="bench"))
async def one(ctx: inngest.Context) -> int:
    """One step."""

    async def body() -> int:
        return 1

    return await ctx.step.run("step-0", body)


app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, [one])
EVENT = {"name": "bench", "data": {}, "id": "1", "ts": 1, "user": {}}
CONTEXT = {"run_id": "R", "attempt": 0, "stack": {"stack": [], "current": 0}, "use_api": False}
REQUEST = {
    "ctx": {**CONTEXT, "disable_immediate_execution": False},
    "event": EVENT,
    "events": [EVENT],
    "steps": {},
    "use_api": False,
}


async def answer() -> int:
    """The status of the answer to one call request."""
    body = json.dumps(REQUEST).encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/inngest",
        "raw_path": b"/api/inngest",
        "query_string": b"fnId=bench-one&stepId=step",
        "headers": [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")],
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "root_path": "",
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])


if __name__ == "__main__":
    status = asyncio.run(answer())
    if status != 206:  # noqa: PLR2004 - what a step is answered with
        message = f"inngest answered {status}"
        raise SystemExit(message)
