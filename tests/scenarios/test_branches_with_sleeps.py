"""Branches that sleep beside branches that work: each step once, and none waits for another."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import Any

import pytest

from onward import BlockingContext, Checkpointing, Context
from tests.support.harness import World


def same(value: str) -> str:
    return value


def test_each_step_once(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        async def first() -> str:
            await ctx.step.sleep("nap-1", "100ms")
            return await ctx.step.run("X", same, "x") + await ctx.step.run("X2", same, "x2")

        async def second() -> str:
            await ctx.step.sleep("nap-2", "150ms")
            return await ctx.step.run("Y", same, "y")

        async def third() -> str:
            await ctx.step.sleep("wait", "400ms")
            return "w"

        return await asyncio.gather(first(), second(), third())

    def in_blocking(ctx: BlockingContext) -> Any:
        def first() -> str:
            ctx.step.sleep("nap-1", "100ms")
            return ctx.step.run("X", same, "x") + ctx.step.run("X2", same, "x2")

        def second() -> str:
            ctx.step.sleep("nap-2", "150ms")
            return ctx.step.run("Y", same, "y")

        def third() -> str:
            ctx.step.sleep("wait", "400ms")
            return "w"

        return ctx.step.gather(first, second, third)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == ["xx2", "y", "w"]
    assert run.starts == {"X": 1, "X2": 1, "Y": 1}


def test_nothing_starves_beside_a_sleep_that_does_not_end(async_world: World) -> None:
    """Were one branch called back only when all have slept, the run would not end."""

    async def in_async(ctx: Context) -> Any:
        async def first() -> str:
            await ctx.step.sleep("nap-1", "50ms")
            x = await ctx.step.run("X", same, "x")
            await ctx.step.sleep("nap-3", "50ms")
            return x + await ctx.step.run("X2", same, "x2")

        async def second() -> str:
            await ctx.step.sleep("nap-2", "70ms")
            return await ctx.step.run("Y", same, "y")

        endless = asyncio.create_task(ctx.step.sleep("wait", "1w"))
        results = await asyncio.gather(first(), second())
        endless.cancel()
        return results

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == ["xx2", "y"]
    assert run.starts == {"X": 1, "X2": 1, "Y": 1}


@pytest.mark.checkpointing(reason="what is buffered when a sleep begins")
def test_steps_that_run_when_a_sleep_begins_end_first(world: World) -> None:
    """A branch comes to a sleep while another one's body runs: its result is not lost."""
    asleep = Event()

    def long() -> str:
        assert asleep.wait(30)
        return "long"

    def short() -> str:
        return "short"

    async def in_async(ctx: Context) -> Any:
        async def sleeper() -> str:
            result = await ctx.step.run("short", short)
            asleep.set()
            await ctx.step.sleep("nap", "10ms")
            return result

        return await asyncio.gather(ctx.step.run("long", long), sleeper())

    def in_blocking(ctx: BlockingContext) -> Any:
        def sleeper() -> str:
            result = ctx.step.run("short", short)
            asleep.set()
            ctx.step.sleep("nap", "10ms")
            return result

        return ctx.step.gather(lambda: ctx.step.run("long", long), sleeper)

    world.define(in_async, in_blocking, checkpointing=Checkpointing(buffered_steps=5))
    run = world.run()
    assert run.result == ["long", "short"]
    assert run.once
    assert run.invocations[0].shape == ["Sleep nap"]
    assert run.batches == [["short", "long"]]
