"""Steps that run concurrently in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Barrier, Event
from typing import Any

import pytest

from onward import BlockingContext, Checkpointing, Context
from tests.support.harness import World

PATIENCE_S = 30.0


def same(value: Any) -> Any:
    return value


@pytest.mark.checkpointing(reason="how many results are buffered")
@pytest.mark.parametrize("buffered", [1, 10])
def test_bodies_run_at_the_same_time(world: World, buffered: int) -> None:
    """Every body waits for all others to have begun."""
    meeting = Barrier(4)

    def meets(n: int) -> int:
        meeting.wait(PATIENCE_S)
        return n

    async def in_async(ctx: Context) -> list[int]:
        return await asyncio.gather(*(ctx.step.run(f"p{n}", meets, n) for n in range(4)))

    def in_blocking(ctx: BlockingContext) -> list[int]:
        return ctx.step.gather(*(lambda n=n: ctx.step.run(f"p{n}", meets, n) for n in range(4)))

    world.define(in_async, in_blocking, checkpointing=Checkpointing(buffered_steps=buffered))
    run = world.run()
    assert run.result == [0, 1, 2, 3]
    assert run.kinds == "a"
    assert run.once


@pytest.mark.checkpointing(reason="how many results are buffered")
@pytest.mark.parametrize("mode", ["confirmed", "pipelined"])
def test_a_replay_delivers_in_the_order_in_which_results_came(world: World, mode: Any) -> None:
    """Results come in reverse; the second invocation sees them in that order, not in its own."""
    seen: list[list[int]] = []
    done = [Event() for _ in range(4)]

    def after_the_next(n: int) -> int:
        if n < 3:
            assert done[n + 1].wait(PATIENCE_S)
        done[n].set()
        return n

    async def in_async(ctx: Context) -> list[int]:
        seen.append([])

        async def branch(n: int) -> None:
            seen[-1].append(await ctx.step.run(f"p{n}", after_the_next, n))

        await asyncio.gather(*map(branch, range(4)))
        await ctx.step.sleep("nap", "10ms")
        return seen[-1]

    def in_blocking(ctx: BlockingContext) -> list[int]:
        seen.append([])

        def branch(n: int) -> Callable[[], None]:
            return lambda: seen[-1].append(ctx.step.run(f"p{n}", after_the_next, n))

        ctx.step.gather(*map(branch, range(4)))
        ctx.step.sleep("nap", "10ms")
        return seen[-1]

    world.define(in_async, in_blocking, checkpointing=Checkpointing(buffered_steps=2, mode=mode))
    run = world.run()
    assert len(seen) == 2
    assert sorted(seen[0]) == [0, 1, 2, 3]
    assert seen[0] == seen[1] == run.result
    assert [f"p{n}" for n in seen[0]] == [step for batch in run.batches for step in batch]
    assert run.once


def test_gathers_nest(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        async def branch(name: str) -> list[Any]:
            first = await ctx.step.run(f"{name}", same, name)
            rest = await asyncio.gather(
                *(ctx.step.run(f"{name}{n}", same, n) for n in range(3)),
            )
            return [first, *rest, await ctx.step.run(f"{name}-end", same, "end")]

        return await asyncio.gather(branch("a"), branch("b"))

    def in_blocking(ctx: BlockingContext) -> Any:
        def branch(name: str) -> list[Any]:
            first = ctx.step.run(f"{name}", same, name)
            rest = ctx.step.gather(
                *(lambda n=n: ctx.step.run(f"{name}{n}", same, n) for n in range(3))
            )
            return [first, *rest, ctx.step.run(f"{name}-end", same, "end")]

        return ctx.step.gather(lambda: branch("a"), lambda: branch("b"))

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == [["a", 0, 1, 2, "end"], ["b", 0, 1, 2, "end"]]
    assert len(run.starts) == 10
    assert run.once


@pytest.mark.checkpointing(reason="how many results are buffered")
def test_a_hundred_branches(world: World) -> None:
    async def in_async(ctx: Context) -> int:
        return sum(await asyncio.gather(*(ctx.step.run(f"p{n}", same, n) for n in range(100))))

    def in_blocking(ctx: BlockingContext) -> int:
        return sum(
            ctx.step.gather(*(lambda n=n: ctx.step.run(f"p{n}", same, n) for n in range(100)))
        )

    world.define(in_async, in_blocking, checkpointing=Checkpointing(buffered_steps=7))
    run = world.run()
    assert run.result == 4950
    assert run.once
    assert max(map(len, run.batches)) <= 100


def test_an_empty_gather(world: World) -> None:
    async def in_async(ctx: Context) -> list[Any]:
        return await asyncio.gather()

    def in_blocking(ctx: BlockingContext) -> list[Any]:
        return ctx.step.gather()

    world.define(in_async, in_blocking)
    assert world.run().result == []


@pytest.mark.checkpointing("confirmed", reason="its last checkpoint is looked at")
def test_each_branch_is_planned_when_asked_for(world: World) -> None:
    """Every branch is a call of its own, with its own attempts; then steps are eager again.

    Not at once: the calls of several branches may see that all have ended.
    """
    fails = {"p1": 1}

    def flaky(name: str) -> str:
        if fails.get(name, 0) > 0:
            fails[name] -= 1
            raise ValueError(name)
        return name

    async def in_async(ctx: Context) -> Any:
        await ctx.step.run("before", same, 0)
        results = await asyncio.gather(
            *(ctx.step.run(name, flaky, name) for name in ("p0", "p1", "p2"))
        )
        await ctx.step.run("after-1", same, 1)
        await ctx.step.run("after-2", same, 2)
        return results

    def in_blocking(ctx: BlockingContext) -> Any:
        ctx.step.run("before", same, 0)
        results = ctx.step.gather(
            *(lambda name=name: ctx.step.run(name, flaky, name) for name in ("p0", "p1", "p2"))
        )
        ctx.step.run("after-1", same, 1)
        ctx.step.run("after-2", same, 2)
        return results

    world.define(in_async, in_blocking, parallel="orchestrated")
    run = world.run()
    assert run.result == ["p0", "p1", "p2"]
    assert run.starts == {"before": 1, "p0": 1, "p1": 2, "p2": 1, "after-1": 1, "after-2": 1}
    first = run.invocations[0]
    assert first.shape == ["StepPlanned p0", "StepPlanned p1", "StepPlanned p2"]
    attempts = {i.shape[0]: i.attempt for i in run.invocations if i.target != "step"}
    branches = {"StepRun p0": 0, "StepError p1": 0, "StepRun p1": 1, "StepRun p2": 0}
    assert attempts == {**branches, "StepRun after-1": 0}, "the first step after all has one call"
    assert run.batches[-1:] == [["after-2"]]
