"""A run outlives its invocations."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from onward import BlockingContext, Checkpointing, Context
from tests.support.harness import World

#: A deadline that even a slow machine reaches with some steps done. The margin takes half of it.
SHORT = "600ms"


def slow(n: int) -> int:
    time.sleep(0.05)
    return n


def same(value: str) -> str:
    return value


@pytest.mark.checkpointing(reason="what an invocation with a limit confirms before it continues")
@pytest.mark.parametrize("buffered", [1, 3])
def test_a_run_goes_on_in_as_many_invocations_as_it_takes(world: World, buffered: int) -> None:
    async def in_async(ctx: Context) -> int:
        return sum([await ctx.step.run(f"s{n}", slow, n) for n in range(12)])

    def in_blocking(ctx: BlockingContext) -> int:
        return sum(ctx.step.run(f"s{n}", slow, n) for n in range(12))

    options = Checkpointing(max_runtime=SHORT, buffered_steps=buffered)
    world.define(in_async, in_blocking, checkpointing=options)
    run = world.run()
    assert run.result == 66
    assert run.once
    kinds = run.kinds.split()
    assert len(kinds) > 1
    assert set(kinds[:-1]) == {"c"}
    assert kinds[-1] == "a"
    ids = [i.body[0]["id"] for i in run.invocations[:-1]]
    assert len(set(ids)) == len(ids)


@pytest.mark.checkpointing(reason="what an invocation with a limit confirms before it continues")
def test_parallel_steps_go_on_too(world: World) -> None:
    async def in_async(ctx: Context) -> int:
        total = 0
        for chunk in range(6):
            steps = (ctx.step.run(f"c{chunk}-{n}", slow, n) for n in range(3))
            total += sum(await asyncio.gather(*steps))
        return total

    def in_blocking(ctx: BlockingContext) -> int:
        total = 0
        for chunk in range(6):
            steps = (
                lambda n=n, chunk=chunk: ctx.step.run(f"c{chunk}-{n}", slow, n) for n in range(3)
            )
            total += sum(ctx.step.gather(*steps))
        return total

    options = Checkpointing(max_runtime="400ms", buffered_steps=2)
    world.define(in_async, in_blocking, checkpointing=options)
    run = world.run()
    assert run.result == 18
    assert run.once
    assert set(run.kinds.split()[:-1]) <= {"c"}


@pytest.mark.checkpointing(reason="what an invocation with a limit confirms before it continues")
@pytest.mark.parametrize("kind", ["async", "blocking"])
def test_a_step_that_is_cut_comes_first_next_time(world: World, kind: str) -> None:
    """It does not fit into what is left, but into an invocation of its own."""
    tries: list[float] = []
    first_was_cut = threading.Event()

    def begins() -> bool:
        tries.append(time.monotonic())
        return len(tries) > 1

    async def long_async() -> str:
        try:
            await asyncio.sleep(0 if begins() else 30)
        finally:
            first_was_cut.set()
        return "long"

    def long_blocking() -> str:
        try:
            until = time.monotonic() + (0 if begins() else 30)
            while time.monotonic() < until:
                time.sleep(0.001)
        finally:
            first_was_cut.set()
        return "long"

    long = long_async if kind == "async" else long_blocking

    async def in_async(ctx: Context) -> Any:
        await ctx.step.run("quick", same, "quick")
        return await ctx.step.run("long", long, expected="1ms")

    def in_blocking(ctx: BlockingContext) -> Any:
        ctx.step.run("quick", same, "quick")
        return ctx.step.run("long", long, expected="1ms")

    world.define(in_async, in_blocking, checkpointing=Checkpointing(max_runtime=SHORT), retries=0)
    run = world.run()
    assert run.result == "long"
    assert first_was_cut.is_set()
    assert run.starts == {"quick": 1, "long": 2}
    assert run.kinds == "c a"


@pytest.mark.checkpointing(reason="what an invocation with a limit confirms before it continues")
@pytest.mark.parametrize("kind", ["async", "blocking"])
def test_a_step_too_long_for_any_invocation_ends_the_run(world: World, kind: str) -> None:
    async def long_async() -> None:
        await asyncio.sleep(30)

    def long_blocking() -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            time.sleep(0.001)

    long = long_async if kind == "async" else long_blocking

    async def in_async(ctx: Context) -> None:
        await ctx.step.run("quick", same, "quick")
        await ctx.step.run("long", long, expected="1ms")

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("quick", same, "quick")
        ctx.step.run("long", long, expected="1ms")

    world.define(in_async, in_blocking, checkpointing=Checkpointing(max_runtime="400ms"), retries=1)
    run = world.run()
    assert run.error["name"] == "StepTimedOutError"
    assert "'long'" in run.error["message"]
    assert run.starts == {"quick": 1, "long": 3}
    assert [i.shape for i in run.invocations] == [
        ["DiscoveryRequest"],
        ["StepError long"],
        ["StepFailed long"],
        [],
    ]


@pytest.mark.checkpointing(reason="what an invocation with a limit confirms before it continues")
def test_time_that_goes_outside_of_steps_ends_the_run(world: World) -> None:
    async def in_async(ctx: Context) -> None:
        await asyncio.sleep(30)
        await ctx.step.run("never", same, "x")

    def in_blocking(ctx: BlockingContext) -> None:
        while True:
            time.sleep(0.001)

    world.define(in_async, in_blocking, checkpointing=Checkpointing(max_runtime="200ms"), retries=1)
    run = world.run()
    assert run.error["name"] == "InvocationTooSlowError"
    assert "outside of steps" in run.error["message"]
    assert [i.answer.status for i in run.invocations] == [500, 400]
    assert run.starts == {}


@pytest.mark.checkpointing(reason="what an invocation with a limit confirms before it continues")
def test_the_remaining_time_is_there_to_be_asked_for(world: World) -> None:
    async def in_async(ctx: Context) -> bool:
        return 0 < ctx.deadline.remaining() <= 60

    def in_blocking(ctx: BlockingContext) -> bool:
        return 0 < ctx.deadline.remaining() <= 60

    world.define(in_async, in_blocking, checkpointing=Checkpointing(max_runtime="1m"))
    assert world.run().result is True


def test_without_limits_there_is_no_deadline(world: World) -> None:
    async def in_async(ctx: Context) -> str:
        return str(ctx.deadline.remaining())

    def in_blocking(ctx: BlockingContext) -> str:
        return str(ctx.deadline.remaining())

    world.define(in_async, in_blocking)
    expected = "89" if world.entry == "lambda" else "inf"
    assert world.run().result.startswith(expected)
