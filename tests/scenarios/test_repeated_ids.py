"""Step ids that are used more than once."""

from __future__ import annotations

import asyncio
import logging

import pytest

from onward import BlockingContext, Context
from tests.support.harness import World


def same(value: int) -> int:
    return value


def test_a_loop_may_repeat_an_id(world: World) -> None:
    async def in_async(ctx: Context) -> list[int]:
        first = [await ctx.step.run("same", same, n) for n in range(3)]
        await ctx.step.sleep("same", "5ms")
        return [*first, await ctx.step.run("same", same, 3)]

    def in_blocking(ctx: BlockingContext) -> list[int]:
        first = [ctx.step.run("same", same, n) for n in range(3)]
        ctx.step.sleep("same", "5ms")
        return [*first, ctx.step.run("same", same, 3)]

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == [0, 1, 2, 3]
    assert run.starts == {"same": 1, "same:1": 1, "same:2": 1, "same:4": 1}


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="several steps in one invocation"
)
def test_branches_that_repeat_an_id_are_warned_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def in_async(ctx: Context) -> list[int]:
        return await asyncio.gather(*(ctx.step.run("same", same, n) for n in range(4)))

    def in_blocking(ctx: BlockingContext) -> list[int]:
        return ctx.step.gather(*(lambda n=n: ctx.step.run("same", same, n) for n in range(4)))

    world.define(in_async, in_blocking)
    with caplog.at_level(logging.WARNING):
        run = world.run()
    assert run.result == [0, 1, 2, 3]
    warned = [r for r in caplog.records if "used by concurrent branches" in r.getMessage()]
    assert len(warned) == 1
    assert "'same'" in warned[0].getMessage()
