"""The chain that benchmarks/chain.py measures, on Onward."""

from __future__ import annotations

import time
from typing import Any

import onward

app = onward.App("chain-onward")
_begun: dict[str, float] = {}


async def body(number: int) -> dict[str, int | bool]:
    """A small result."""
    return {"number": number, "ok": True}


async def _chain(ctx: onward.Context) -> dict[str, float]:
    begun = _begun.setdefault(ctx.run_id, time.perf_counter())
    for number in range(ctx.event.data["steps"]):
        await ctx.step.run(f"step-{number}", body, number)
    return {"seconds": time.perf_counter() - begun}


def _define(id_: str, checkpointing: Any) -> None:
    @app.function(id_, trigger=onward.Event(f"chain-onward/{id_}"), checkpointing=checkpointing)
    async def function(ctx: onward.Context) -> dict[str, float]:
        return await _chain(ctx)


_define("confirmed", checkpointing=True)
_define("buffered", checkpointing=onward.Checkpointing(buffered_steps=10))
_define("classic", checkpointing=False)
asgi = onward.asgi.serve(app)
