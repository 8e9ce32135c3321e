"""Results over a limit: the step fails once, with the size and the fix, and is not sent again."""

from __future__ import annotations

from typing import Any

import pytest

from onward import BlockingContext, Checkpointing, Context, StepError
from tests.support.harness import World


def of_size(count: int) -> str:
    return "x" * count


def three_steps(world: World, sizes: tuple[int, int, int], **options: Any) -> None:
    async def in_async(ctx: Context) -> list[str]:
        seen = []
        for n, size in enumerate(sizes):
            try:
                seen.append(str(len(await ctx.step.run(f"s{n}", of_size, size))))
            except StepError as error:
                seen.append(f"{error.name}: {error.message}")
        return seen

    def in_blocking(ctx: BlockingContext) -> list[str]:
        seen = []
        for n, size in enumerate(sizes):
            try:
                seen.append(str(len(ctx.step.run(f"s{n}", of_size, size))))
            except StepError as error:
                seen.append(f"{error.name}: {error.message}")
        return seen

    world.define(in_async, in_blocking, **options)


def test_a_result_over_what_any_orchestrator_takes(world: World) -> None:
    three_steps(world, (1, 4_100_000, 1))
    run = world.run()
    assert run.result[0] == run.result[2] == "1"
    for part in ("ResultTooLargeError", "'s1'", "4,100,002 bytes", "Store it"):
        assert part in run.result[1]
    assert run.once


@pytest.mark.checkpointing(reason="a buffer of large results")
@pytest.mark.parametrize("buffered", [1, 3])
def test_a_result_that_the_orchestrator_refuses(world: World, buffered: int) -> None:
    """Its own limit is lower: 413. The results beside it are confirmed one by one."""
    world.settings = {"max_step_bytes": 1000}
    three_steps(world, (1, 2000, 1), checkpointing=Checkpointing(buffered_steps=buffered))
    run = world.run()
    assert run.result[0] == run.result[2] == "1"
    for part in ("ResultTooLargeError", "'s1'", "2,002 bytes", "413"):
        assert part in run.result[1]
    refused = [c.steps for c in run.checkpoints if c.status == 413]
    assert refused[-1] == ["s1"]
    assert len(refused) <= 2
    assert run.starts["s0"] == run.starts["s1"] == 1


def test_a_function_result_that_is_too_large(world: World) -> None:
    async def in_async(ctx: Context) -> str:
        return of_size(4_100_000)

    def in_blocking(ctx: BlockingContext) -> str:
        return of_size(4_100_000)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "ResultTooLargeError"
    assert len(run.invocations) == 1
