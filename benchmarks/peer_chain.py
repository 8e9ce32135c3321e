"""The chain that benchmarks/chain.py measures, on PyPI's inngest."""

from __future__ import annotations

import logging
import time

import fastapi
import inngest
import inngest.fast_api

logging.getLogger("inngest").setLevel(logging.ERROR)
client = inngest.Inngest(app_id="chain-py", logger=logging.getLogger("inngest"))
_begun: dict[str, float] = {}


@client.create_function(
    fn_id="classic", trigger=inngest.TriggerEvent(event="chain-py/classic"), retries=0
)
async def classic(ctx: inngest.Context) -> dict[str, float]:
    """A call a step: this SDK has no checkpoints."""
    begun = _begun.setdefault(ctx.run_id, time.perf_counter())

    async def body(number: int) -> dict[str, int | bool]:
        return {"number": number, "ok": True}

    for number in range(int(str(ctx.event.data["steps"]))):
        await ctx.step.run(f"step-{number}", body, number)
    return {"seconds": time.perf_counter() - begun}


asgi = fastapi.FastAPI()
inngest.fast_api.serve(asgi, client, [classic])
