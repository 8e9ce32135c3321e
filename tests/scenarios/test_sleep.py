"""Sleeps: the run goes on later, in another invocation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from onward import BlockingContext, Context
from tests.support.harness import World


def same(value: str) -> str:
    return value


def test_steps_around_a_sleep_run_once(world: World) -> None:
    async def in_async(ctx: Context) -> str:
        before = await ctx.step.run("before", same, "before")
        await ctx.step.sleep("nap", "20ms")
        return before + await ctx.step.run("after", same, "after")

    def in_blocking(ctx: BlockingContext) -> str:
        before = ctx.step.run("before", same, "before")
        ctx.step.sleep("nap", timedelta(milliseconds=20))
        return before + ctx.step.run("after", same, "after")

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == "beforeafter"
    assert run.once
    assert "e" in run.kinds


@pytest.mark.checkpointing("confirmed", "buffered", "pipelined", reason="its calls are counted")
@pytest.mark.parametrize("text", [True, False])
def test_sleep_until(world: World, text: bool) -> None:
    def soon() -> datetime:
        return datetime.now(UTC) + timedelta(milliseconds=50)

    def until(at: datetime) -> Any:
        return at.isoformat() if text else at

    async def in_async(ctx: Context) -> bool:
        at = await ctx.step.run("at", soon)
        await ctx.step.sleep_until("nap", until(at))
        return datetime.now(UTC) >= at - timedelta(milliseconds=1)

    def in_blocking(ctx: BlockingContext) -> bool:
        at = ctx.step.run("at", soon)
        ctx.step.sleep_until("nap", until(at))
        return datetime.now(UTC) >= at - timedelta(milliseconds=1)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result is True
    assert run.kinds == "e a"


def test_sleep_until_an_instant_that_has_passed(world: World) -> None:
    past = "2001-01-01T00:00:00Z"

    async def in_async(ctx: Context) -> str:
        await ctx.step.sleep_until("nap", past)
        return "up"

    def in_blocking(ctx: BlockingContext) -> str:
        ctx.step.sleep_until("nap", past)
        return "up"

    world.define(in_async, in_blocking)
    assert world.run().result == "up"


@pytest.mark.checkpointing("confirmed", "buffered", "pipelined", reason="its calls are counted")
def test_several_sleeps_in_a_row(world: World) -> None:
    async def in_async(ctx: Context) -> int:
        for n in range(3):
            await ctx.step.sleep(f"nap-{n}", 0.005)
        return 3

    def in_blocking(ctx: BlockingContext) -> int:
        for n in range(3):
            ctx.step.sleep(f"nap-{n}", 0.005)
        return 3

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == 3
    assert run.kinds == "e e e a"


@pytest.mark.parametrize("bad", ["5 parsecs", -1, "tomorrow"])
def test_a_sleep_that_is_no_duration(world: World, bad: Any) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.sleep("nap", bad)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.sleep("nap", bad)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "DurationError"
    assert "'nap'" in run.error["message"]
    assert len(run.invocations) == 1


@pytest.mark.parametrize("bad", ["soon", datetime(2030, 1, 1)])  # noqa: DTZ001 - that is the point
def test_a_sleep_until_what_is_no_instant(world: World, bad: Any) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.sleep_until("nap", bad)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.sleep_until("nap", bad)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "StepUsageError"
    assert "aware datetime" in run.error["message"]
