"""With INNGEST_STREAMING a run is the same; its answers come in streams."""

from __future__ import annotations

import pytest

from onward import BlockingContext, Context
from tests.support.harness import World


def test_a_run_whose_answers_are_streamed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNGEST_STREAMING", "1")
    tries: list[int] = []

    def fails_once() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("once")
        return "text"

    async def in_async(ctx: Context) -> str:
        await ctx.step.run("a", int)
        await ctx.step.sleep("nap", "5ms")
        return await ctx.step.run("b", fails_once)

    def in_blocking(ctx: BlockingContext) -> str:
        ctx.step.run("a", int)
        ctx.step.sleep("nap", "5ms")
        return ctx.step.run("b", fails_once)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == "text"
    assert len(tries) == 2
