"""Steps one after the other."""

from __future__ import annotations

import pytest

from onward import BlockingContext, Checkpointing, Context
from tests.support.harness import World


def double(n: int) -> int:
    return 2 * n


async def in_async(ctx: Context) -> int:
    total = 0
    for n in range(7):
        total += await ctx.step.run(f"s{n}", double, n)
    return total


def in_blocking(ctx: BlockingContext) -> int:
    total = 0
    for n in range(7):
        total += ctx.step.run(f"s{n}", double, n)
    return total


STEPS = [f"s{n}" for n in range(7)]


@pytest.mark.checkpointing("confirmed", reason="this mode's own checkpoints")
def test_each_step_is_confirmed_before_the_next(world: World) -> None:
    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == 42
    assert run.batches == [[step] for step in STEPS]
    assert run.kinds == "a"
    assert run.starts == dict.fromkeys(STEPS, 1)


@pytest.mark.checkpointing(reason="this mode's own checkpoints")
def test_buffered_steps_are_confirmed_together_and_the_rest_rides_with_the_result(
    world: World,
) -> None:
    world.define(in_async, in_blocking, checkpointing=Checkpointing(buffered_steps=3))
    run = world.run()
    assert run.result == 42
    assert run.batches == [STEPS[:3], STEPS[3:6]]
    assert run.invocations[0].shape == ["StepRun s6", "RunComplete"]
    assert run.once


@pytest.mark.checkpointing(reason="this mode's own checkpoints")
def test_pipelined_steps_are_confirmed_in_order(world: World) -> None:
    world.define(in_async, in_blocking, checkpointing=Checkpointing(mode="pipelined"))
    run = world.run()
    assert run.result == 42
    riding = [shape.removeprefix("StepRun ") for shape in run.invocations[0].shape[:-1]]
    assert [step for batch in run.batches for step in batch] + riding == STEPS
    assert run.once


@pytest.mark.checkpointing(reason="this mode's own checkpoints")
@pytest.mark.parametrize("off", [False])
def test_without_checkpointing_each_step_is_a_call(world: World, off: bool) -> None:
    world.define(in_async, in_blocking, checkpointing=off)
    run = world.run()
    assert run.result == 42
    assert run.batches == []
    assert run.kinds == "d d d d d d d result"
    assert run.once
