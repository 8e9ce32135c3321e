"""The first result wins; what lost is stopped and never runs again."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import Any

import pytest

from onward import BlockingContext, Checkpointing, Context
from tests.support.harness import World

PATIENCE_S = 30.0


def same(value: Any) -> Any:
    return value


@pytest.mark.checkpointing(reason="a loser's result in the buffer")
@pytest.mark.parametrize("buffered", [1, 5])
@pytest.mark.parametrize("kind", ["async", "blocking"])
def test_losers_are_cancelled(async_world: World, kind: str, buffered: int) -> None:
    began, stopped = Event(), Event()

    async def loses_async() -> None:
        began.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            stopped.set()

    def loses_blocking() -> None:
        began.set()
        try:
            while not stopped.wait(0.001):
                pass
        finally:
            stopped.set()

    def wins() -> str:
        assert began.wait(PATIENCE_S)
        return "won"

    loses = loses_async if kind == "async" else loses_blocking

    async def in_async(ctx: Context) -> str:
        loser = asyncio.create_task(ctx.step.run("loser", loses))
        winner = asyncio.create_task(ctx.step.run("winner", wins))
        done, pending = await asyncio.wait({loser, winner}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        (first,) = done
        won: str = await ctx.step.run("after", same, first.result())
        return won

    async_world.define(in_async, None, checkpointing=Checkpointing(buffered_steps=buffered))
    run = async_world.run()
    assert run.result == "won"
    assert stopped.is_set()
    assert run.starts == {"loser": 1, "winner": 1, "after": 1}
    confirmed = [step for batch in run.batches for step in batch]
    assert "loser" not in confirmed
    assert all("loser" not in shape for i in run.invocations for shape in i.shape)


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="bodies run beside one another"
)
def test_a_loser_of_one_invocation_does_not_run_again_in_the_next(async_world: World) -> None:
    """The race is over in the journal: the replay's first delivery decides it the same way."""
    began = Event()

    async def loses() -> None:
        began.set()
        await asyncio.sleep(PATIENCE_S)

    def wins() -> str:
        assert began.wait(PATIENCE_S)
        return "won"

    async def in_async(ctx: Context) -> str:
        loser = asyncio.create_task(ctx.step.run("loser", loses))
        winner = asyncio.create_task(ctx.step.run("winner", wins))
        await asyncio.wait({loser, winner}, return_when=asyncio.FIRST_COMPLETED)
        loser.cancel()
        await ctx.step.sleep("nap", "10ms")
        return await winner

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == "won"
    assert run.starts == {"loser": 1, "winner": 1}


def test_a_sleep_loses(world: World) -> None:
    """A step beside a sleep is planned; the sleep that lost is left alone."""

    async def in_async(ctx: Context) -> Any:
        nap = asyncio.create_task(ctx.step.sleep("nap", "1h"))
        step = asyncio.create_task(ctx.step.run("step", same, "won"))
        await asyncio.wait({nap, step}, return_when=asyncio.FIRST_COMPLETED)
        nap.cancel()
        await ctx.step.run("after", same, 1)
        return await step

    def in_blocking(ctx: BlockingContext) -> Any:
        """A blocking function has no race: it waits for every branch."""
        return ctx.step.gather(
            lambda: ctx.step.sleep("nap", "20ms"), lambda: ctx.step.run("step", same, "won")
        )[1]

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == "won"
    assert run.once
    assert run.invocations[0].shape == ["Sleep nap", "StepPlanned step"]


def test_a_sleep_wins(async_world: World) -> None:
    """A time limit made of a sleep: the other branch waits for something that never comes."""

    async def in_async(ctx: Context) -> str:
        nap = asyncio.create_task(ctx.step.sleep("limit", "20ms"))
        long = asyncio.create_task(ctx.step.sleep("long", "1h"))
        done, _ = await asyncio.wait({nap, long}, return_when=asyncio.FIRST_COMPLETED)
        long.cancel()
        await ctx.step.run("after", same, 1)
        return "limit" if nap in done else "long"

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == "limit"
    assert run.starts == {"after": 1}
