"""Branches that wait for something outside of steps: not durable, but nothing hangs or starves."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from onward import Context
from tests.support.harness import World


def same(value: str) -> str:
    return value


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="several steps in one invocation"
)
def test_a_branch_that_waits_outside_beside_steps(async_world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        async def outside() -> str:
            await asyncio.sleep(0.05)
            return await ctx.step.run("late", same, "late")

        async def inside() -> str:
            for n in range(3):
                await ctx.step.run(f"s{n}", same, "x")
            return "inside"

        return await asyncio.gather(outside(), inside())

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == ["late", "inside"]
    assert run.once
    assert run.kinds == "a"


def test_a_branch_that_waits_outside_beside_a_sleep(async_world: World) -> None:
    """It gets a moment; then the sleep is answered, and it begins anew in the next invocation."""
    begun = 0

    async def in_async(ctx: Context) -> Any:
        async def outside() -> str:
            nonlocal begun
            begun += 1
            await asyncio.sleep(0.2)
            return await ctx.step.run("late", same, "late")

        async def sleeps() -> str:
            await ctx.step.sleep("nap", "10ms")
            return await ctx.step.run("after", same, "after")

        return await asyncio.gather(outside(), sleeps())

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == ["late", "after"]
    assert run.once
    assert begun == len(run.invocations)


@pytest.mark.parametrize("first", ["outside", "sleep"])
def test_no_order_of_branches_hangs(async_world: World, first: str) -> None:
    async def in_async(ctx: Context) -> Any:
        async def outside() -> str:
            await asyncio.sleep(0.001)
            a = await ctx.step.run("a", same, "a")
            await asyncio.sleep(0.001)
            return a + await ctx.step.run("b", same, "b")

        async def sleeps() -> str:
            await ctx.step.sleep("nap", "5ms")
            await asyncio.sleep(0.001)
            await ctx.step.sleep("nap2", "5ms")
            return await ctx.step.run("c", same, "c")

        branches = [outside(), sleeps()]
        results = await asyncio.gather(*(branches if first == "outside" else reversed(branches)))
        return sorted(results)

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == ["ab", "c"]
    assert run.once


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="several steps in one invocation"
)
def test_an_order_that_cannot_be_reached_again_warns_once(
    async_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The first invocation sees the branch that waits outside first; the second one last."""
    waits = iter((0.0, 0.2, 0.2))

    async def in_async(ctx: Context) -> Any:
        wait = next(waits)
        seen: list[str] = []

        async def outside() -> None:
            await asyncio.sleep(wait)
            seen.append(await ctx.step.run("outside", same, "outside"))

        async def inside() -> None:
            for name in ("x", "y", "z"):
                seen.append(await ctx.step.run(name, same, name))  # noqa: PERF401 - one by one

        if wait == 0:
            await outside()
            await inside()
        else:
            await asyncio.gather(outside(), inside())
        await ctx.step.sleep("nap", "5ms")
        return seen

    async_world.define(in_async, None)
    with caplog.at_level(logging.WARNING, logger="onward"):
        run = async_world.run()
    assert run.result == ["x", "y", "z", "outside"]
    assert run.once
    warned = [r.getMessage() for r in caplog.records if "in another order" in r.getMessage()]
    assert len(warned) == 1
    assert "'outside'" in warned[0]


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="several steps in one invocation"
)
def test_a_timeout_of_asyncios_around_a_step(async_world: World) -> None:
    """Not deterministic, and yet it ends: the step that was given up is stopped."""

    async def slow() -> None:
        await asyncio.sleep(30)

    async def in_async(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.03):
                await ctx.step.run("slow", slow)
        except TimeoutError:
            return await ctx.step.run("plan-b", same, "plan b")
        return "in time"

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == "plan b"
    assert run.starts == {"slow": 1, "plan-b": 1}
    assert run.ends == {"plan-b": 1}
