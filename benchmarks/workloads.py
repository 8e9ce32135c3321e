"""Functions to measure, and a way to drive one invocation without any IO."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import onward
from onward.core.ids import hash_step
from onward.execution import engine
from onward.execution.session import Execution

#: Large enough that no checkpoint comes due.
UNBOUNDED = onward.Checkpointing(buffered_steps=10**9)

app = onward.App("bench", checkpointing=UNBOUNDED, orchestrator="http://127.0.0.1:9")


async def async_body(number: int) -> dict[str, Any]:
    """A small dict, from an async body."""
    return {"number": number, "ok": True}


def blocking_body(number: int) -> dict[str, Any]:
    """A small dict, from a blocking body."""
    return {"number": number, "ok": True}


class Timed:
    """How long a function took: from its first statement to its last."""

    seconds = 0.0


@app.function("async", trigger=onward.Event("bench"))
async def run_async(ctx: onward.Context) -> int:
    """Steps with async bodies in an async function."""
    count = ctx.event.data["steps"]
    begun = time.perf_counter()
    for number in range(count):
        await ctx.step.run(f"step-{number}", async_body, number)
    Timed.seconds = time.perf_counter() - begun
    return int(count)


@app.function("mixed", trigger=onward.Event("bench"))
async def run_mixed(ctx: onward.Context) -> int:
    """Steps with blocking bodies in an async function."""
    count = ctx.event.data["steps"]
    begun = time.perf_counter()
    for number in range(count):
        await ctx.step.run(f"step-{number}", blocking_body, number)
    Timed.seconds = time.perf_counter() - begun
    return int(count)


@app.function("blocking", trigger=onward.Event("bench"))
def run_blocking(ctx: onward.BlockingContext) -> int:
    """Steps with blocking bodies in a blocking function."""
    count = ctx.event.data["steps"]
    begun = time.perf_counter()
    for number in range(count):
        ctx.step.run(f"step-{number}", blocking_body, number)
    Timed.seconds = time.perf_counter() - begun
    return int(count)


def call_request(steps: int, memoized: int = 0) -> dict[str, Any]:
    """A call request for a run of `steps`, of which the journal has the first `memoized`."""
    ids = [hash_step(f"step-{number}", 0) for number in range(memoized)]
    event = {"name": "bench", "data": {"steps": steps}}
    return {
        "ctx": {
            "run_id": "01BENCH",
            "request_id": "01REQUEST",
            "attempt": 0,
            "max_attempts": 1,
            "stack": {"stack": ids, "current": memoized},
        },
        "event": event,
        "events": [event],
        "steps": {id_: {"data": {"number": n, "ok": True}} for n, id_ in enumerate(ids)},
    }


def seconds_of(function: str, steps: int, memoized: int = 0) -> float:
    """Seconds that one invocation spends in the function; nothing goes over the network."""
    request = call_request(steps, memoized)
    execution = engine.prepare(app, f"bench-{function}", "step", request, engine.Platform())
    gc.collect()
    if execution.function.is_async:
        asyncio.run(_drive_async(execution))
    else:
        _drive_blocking(execution)
    return Timed.seconds


class _NoCheckpoints:
    """A session whose last flush is not sent: only user code is measured."""

    def send(self, _action: object) -> None:
        from onward.core.retry import Verdict

        self.core.checkpointed(Verdict.CONFIRMED)  # type: ignore[attr-defined]


def _drive_blocking(execution: Execution) -> None:
    from onward.execution.blocking_driver import BlockingDriver

    class Driver(_NoCheckpoints, BlockingDriver):
        """Blocking, without a network."""

    Driver(execution).run()


async def _drive_async(execution: Execution) -> None:
    from onward.execution.asyncio_driver import AsyncDriver

    class Driver(_NoCheckpoints, AsyncDriver):
        """Async, without a network."""

    await Driver(execution).run()
