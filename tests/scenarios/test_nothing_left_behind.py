"""However an invocation ends, no task, no thread and no body of it goes on.

The harness itself looks for them after every run; here are the ends that leave most to clean up.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from onward import BlockingContext, Context
from tests.support.harness import World

PATIENCE_S = 30.0


def same(value: str) -> str:
    return value


class Bodies:
    """Bodies that go on until they are stopped, and say that they were."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.stopped: list[str] = []

    async def in_async(self) -> None:
        self.began.release()
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            self.stopped.append("async")

    def in_blocking(self) -> None:
        self.began.release()
        try:
            until = time.monotonic() + PATIENCE_S
            while time.monotonic() < until:
                time.sleep(0.001)
        finally:
            self.stopped.append("blocking")

    def both_run(self) -> str:
        """A body that returns when both others have begun."""
        assert self.began.acquire(timeout=PATIENCE_S)
        assert self.began.acquire(timeout=PATIENCE_S)
        return "both"


@pytest.mark.checkpointing("confirmed", reason="what is confirmed at its end")
@pytest.mark.parametrize("end", ["return", "raise"])
def test_a_function_that_ends_while_bodies_run(async_world: World, end: str) -> None:
    bodies = Bodies()

    async def in_async(ctx: Context) -> str:
        tasks = [
            asyncio.create_task(ctx.step.run("async", bodies.in_async)),
            asyncio.create_task(ctx.step.run("blocking", bodies.in_blocking)),
        ]
        await ctx.step.run("both", bodies.both_run)
        assert not any(task.done() for task in tasks)
        if end == "raise":
            raise ValueError("boom")
        return "done"

    async_world.define(in_async, None, retries=0)
    run = async_world.run()
    assert run.view.status == ("Completed" if end == "return" else "Failed")
    assert sorted(bodies.stopped) == ["async", "blocking"]
    assert run.ends == {"both": 1}
    confirmed = [step for batch in run.batches for step in batch]
    assert confirmed == ["both"]


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="bodies run beside one another"
)
def test_a_branch_that_raises_while_bodies_run(world: World) -> None:
    """An async gather raises at once; a blocking one when all its branches have ended."""
    bodies = Bodies()
    ended = threading.Event()

    def ends() -> None:
        ended.set()

    async def in_async(ctx: Context) -> None:
        async def raises() -> None:
            await ctx.step.run("both", bodies.both_run)
            raise ValueError("boom")

        await asyncio.gather(
            ctx.step.run("async", bodies.in_async),
            ctx.step.run("blocking", bodies.in_blocking),
            raises(),
        )

    def in_blocking(ctx: BlockingContext) -> None:
        def raises() -> None:
            raise ValueError("boom")

        ctx.step.gather(raises, lambda: ctx.step.run("ends", ends))

    world.define(in_async, in_blocking, retries=0)
    run = world.run()
    assert run.error["message"] == "boom"
    if world.driver == "async":
        assert sorted(bodies.stopped) == ["async", "blocking"]
    else:
        assert ended.is_set()


def test_a_suspension_runs_every_finally_block(world: World) -> None:
    cleaned: list[str] = []

    async def in_async(ctx: Context) -> str:
        async def branch(name: str) -> None:
            try:
                await ctx.step.sleep(name, "5ms")
            finally:
                cleaned.append(name)

        try:
            await asyncio.gather(branch("a"), branch("b"), branch("c"))
        finally:
            cleaned.append("function")
        return "done"

    def in_blocking(ctx: BlockingContext) -> str:
        def branch(name: str) -> None:
            try:
                ctx.step.sleep(name, "5ms")
            finally:
                cleaned.append(name)

        try:
            ctx.step.gather(*(lambda name=name: branch(name) for name in ("a", "b", "c")))
        finally:
            cleaned.append("function")
        return "done"

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == "done"
    count = len(run.invocations)
    assert {name: cleaned.count(name) for name in cleaned} == dict.fromkeys(
        ["a", "b", "c", "function"], count
    )


@pytest.mark.checkpointing("confirmed", reason="each step has its checkpoint")
def test_a_cancelled_run_stops_at_its_next_checkpoint(world: World) -> None:
    cancelled = threading.Event()

    def waits() -> str:
        assert cancelled.wait(PATIENCE_S)
        return "x"

    async def in_async(ctx: Context) -> None:
        await ctx.step.run("first", same, "x")
        await ctx.step.run("waits", waits)
        await ctx.step.run("never", same, "x")

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("first", same, "x")
        ctx.step.run("waits", waits)
        ctx.step.run("never", same, "x")

    def cancel(_: Any) -> None:
        if not cancelled.is_set():
            world.cancel_soon(run_id, cancelled)

    world.on_checkpoint = cancel
    world.define(in_async, in_blocking)
    run_id = world.start()
    run = world.finish(run_id)
    assert run.view.status == "Cancelled"
    world.until_called_back()
    assert run.starts == {"first": 1, "waits": 1}
    assert run.invocations[0].shape == ["None"]


@pytest.mark.parametrize("kind", ["async", "blocking"])
def test_a_hundred_runs_leave_nothing(world: World, kind: str) -> None:
    """Workers are kept and used again: their number depends on what runs at a time."""

    async def body_async() -> int:
        return 1

    def body_blocking() -> int:
        return 1

    body: Any = body_async if kind == "async" else body_blocking

    async def in_async(ctx: Context) -> int:
        return sum(await asyncio.gather(*(ctx.step.run(f"p{n}", body) for n in range(3))))

    def in_blocking(ctx: BlockingContext) -> int:
        return sum(ctx.step.gather(*(lambda n=n: ctx.step.run(f"p{n}", body) for n in range(3))))

    world.define(in_async, in_blocking)
    assert world.run().result == 3
    before = _own_threads()
    for _ in range(20):
        assert world.run().result == 3
    assert _own_threads() < before + 20, "not one for each run"


def _own_threads() -> int:
    """Without those of the servers, which have one for each connection."""
    return sum(thread.name.startswith("onward-") for thread in threading.enumerate())
