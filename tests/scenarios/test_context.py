"""What a function is told about its run."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from onward import BlockingContext, Context
from tests.support.harness import EVENT, World


def same(value: str) -> str:
    return value


def test_the_event_and_the_run(world: World) -> None:
    def told(ctx: Any) -> dict[str, Any]:
        event = ctx.event
        return {
            "name": event.name,
            "data": event.data,
            "dated": event.ts > 1_700_000_000_000,
            "all": [one.id == event.id for one in ctx.events],
            "run": ctx.run_id,
            "attempt": ctx.attempt,
        }

    async def in_async(ctx: Context) -> dict[str, Any]:
        return told(ctx)

    def in_blocking(ctx: BlockingContext) -> dict[str, Any]:
        return told(ctx)

    world.define(in_async, in_blocking)
    run = world.run({"order": 7})
    assert run.result == {
        "name": EVENT,
        "data": {"order": 7},
        "dated": True,
        "all": [True],
        "run": run.view.run_id,
        "attempt": 0,
    }


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="several steps in one invocation"
)
def test_the_logger_is_silent_while_results_are_replayed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def in_async(ctx: Context) -> None:
        ctx.logger.info("begins")
        await ctx.step.run("a", same, "a")
        ctx.logger.info("has a")
        await ctx.step.sleep("nap", "5ms")
        ctx.logger.info("has slept")

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.logger.info("begins")
        ctx.step.run("a", same, "a")
        ctx.logger.info("has a")
        ctx.step.sleep("nap", "5ms")
        ctx.logger.info("has slept")

    world.define(in_async, in_blocking)
    with caplog.at_level(logging.INFO, logger="onward"):
        run = world.run()
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert len(run.invocations) == 2
    for text in ("begins", "has a", "has slept"):
        assert sum(text in message for message in messages) == 1, text
