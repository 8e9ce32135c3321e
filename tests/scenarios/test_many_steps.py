"""Runs of very many steps: one warning before the server's limit, whichever invocation it is in."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from onward import BlockingContext, Checkpointing, Context
from tests.support.harness import World

MANY = Checkpointing(buffered_steps=500)


def same(value: int) -> int:
    return value


@pytest.mark.checkpointing(reason="it would take a call a step")
@pytest.mark.parametrize("nap_at", [400, 799, 800], ids=["before", "the sleep itself", "after"])
def test_more_than_800_steps_are_warned_about_once(
    world: World, caplog: pytest.LogCaptureFixture, nap_at: int
) -> None:
    """`nap_at` steps come before a sleep, which is a step too."""

    async def in_async(ctx: Context) -> Any:
        total = sum(await ctx.step.map("first", [1] * nap_at, same, concurrency=50))
        await ctx.step.sleep("nap", "5ms")
        return total + sum(await ctx.step.map("then", [1] * (810 - nap_at), same))

    def in_blocking(ctx: BlockingContext) -> Any:
        total = sum(ctx.step.run(f"first-{n}", same, 1) for n in range(nap_at))
        ctx.step.sleep("nap", "5ms")
        return total + sum(ctx.step.run(f"then-{n}", same, 1) for n in range(810 - nap_at))

    world.define(in_async, in_blocking, checkpointing=MANY)
    with caplog.at_level(logging.WARNING, "onward"):
        run = world.run()
    assert run.result == 810
    assert run.once
    warnings = [r.getMessage() for r in caplog.records if "800 steps" in r.getMessage()]
    assert len(warnings) == 1
    assert "more than 1,000 by default" in warnings[0]
