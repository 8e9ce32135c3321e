"""The app that the process benchmarks call over HTTP."""

from __future__ import annotations

import time

import onward

app = onward.App("bench")
_begun: dict[str, float] = {}


def body(number: int) -> dict[str, int | bool]:
    """A small result."""
    return {"number": number, "ok": True}


async def async_body(number: int) -> dict[str, int | bool]:
    """A small result, without a thread."""
    return {"number": number, "ok": True}


def kilobyte(number: int) -> str:
    """A result of one kilobyte."""
    return f"{number:06d}" + "x" * 1018


async def _run(ctx: onward.Context) -> dict[str, float]:
    steps = ctx.event.data["steps"]
    begun = _begun.setdefault(ctx.run_id, time.perf_counter())
    for number in range(steps):
        await ctx.step.run(f"step-{number}", async_body, number)
    return {"seconds": time.perf_counter() - begun}


@app.function("confirmed", trigger=onward.Event("bench/confirmed"))
async def confirmed(ctx: onward.Context) -> dict[str, float]:
    """Each step is confirmed before the next starts."""
    return await _run(ctx)


@app.function("classic", trigger=onward.Event("bench/classic"), checkpointing=False)
async def classic(ctx: onward.Context) -> dict[str, float]:
    """A call a step."""
    return await _run(ctx)


@app.function(
    "memory",
    trigger=onward.Event("bench/memory"),
    checkpointing=onward.Checkpointing(buffered_steps=10),
)
def memory(ctx: onward.BlockingContext) -> dict[str, int]:
    """Many steps with results of one kilobyte."""
    steps = ctx.event.data["steps"]
    for number in range(steps):
        ctx.step.run(f"step-{number}", kilobyte, number)
    return {"steps": steps}


asgi = onward.asgi.serve(app)
