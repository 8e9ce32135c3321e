"""A result does not wait for its checkpoint longer than it was told to, whatever runs."""

from __future__ import annotations

from threading import Event

import pytest

from onward import BlockingContext, Checkpointing, Context
from tests.support.harness import World

PATIENCE_S = 30.0


@pytest.mark.checkpointing(reason="when a buffer is flushed")
@pytest.mark.parametrize("mode", ["confirmed", "pipelined"])
def test_a_full_interval_flushes_while_the_next_body_runs(world: World, mode: str) -> None:
    confirmed = Event()

    def quick() -> int:
        return 1

    def waits_for_the_flush() -> bool:
        return confirmed.wait(PATIENCE_S)

    async def in_async(ctx: Context) -> bool:
        await ctx.step.run("a", quick)
        return await ctx.step.run("b", waits_for_the_flush)

    def in_blocking(ctx: BlockingContext) -> bool:
        ctx.step.run("a", quick)
        return ctx.step.run("b", waits_for_the_flush)

    world.on_checkpoint = lambda _: confirmed.set()
    options = Checkpointing(buffered_steps=100, max_interval="50ms", mode=mode)  # type: ignore[arg-type]
    world.define(in_async, in_blocking, checkpointing=options)
    run = world.run()
    assert run.result is True
    assert run.batches[0] == ["a"]
    assert run.once


@pytest.mark.checkpointing(reason="when a buffer is flushed")
def test_a_megabyte_of_results_is_flushed(world: World) -> None:
    def large(n: int) -> str:
        return "x" * 600_000

    async def in_async(ctx: Context) -> int:
        return sum([len(await ctx.step.run(f"s{n}", large, n)) for n in range(3)])

    def in_blocking(ctx: BlockingContext) -> int:
        return sum(len(ctx.step.run(f"s{n}", large, n)) for n in range(3))

    world.define(in_async, in_blocking, checkpointing=Checkpointing(buffered_steps=100))
    run = world.run()
    assert run.result == 1_800_000
    assert run.batches == [["s0", "s1"]]
    assert run.invocations[0].shape == ["StepRun s2", "RunComplete"]
