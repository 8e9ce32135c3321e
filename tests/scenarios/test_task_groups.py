"""asyncio's own ways of waiting, over steps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from onward import Context, StepError
from tests.support.harness import World


def same(value: Any) -> Any:
    return value


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="bodies run beside one another"
)
def test_a_task_group(async_world: World) -> None:
    async def in_async(ctx: Context) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.step.run(f"p{n}", same, n)) for n in range(3)]
        await ctx.step.sleep("nap", "10ms")
        return [task.result() for task in tasks]

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == [0, 1, 2]
    assert run.kinds == "e a"
    assert run.once


def test_a_suspended_task_group_sees_a_cancellation_and_no_error(async_world: World) -> None:
    seen: list[str] = []

    async def in_async(ctx: Context) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step.sleep("nap", "10ms"))
                group.create_task(ctx.step.sleep("nap2", "20ms"))
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
        return "done"

    async_world.define(in_async, None)
    assert async_world.run().result == "done"
    assert seen
    assert set(seen) == {"CancelledError"}


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="bodies run beside one another"
)
def test_a_failed_branch_cancels_its_group(async_world: World) -> None:
    """The step that failed for good is raised in the group, which cancels the other branch."""
    seen: list[str] = []

    def bad() -> None:
        raise ValueError("bad")

    async def in_async(ctx: Context) -> str:
        async def sibling() -> None:
            await ctx.step.run("sibling", same, 1)
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        caught = ""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step.run("bad", bad))
                group.create_task(sibling())
        except* StepError as errors:
            caught = str(errors.exceptions[0])
        return caught

    async_world.define(in_async, None, retries=0)
    run = async_world.run()
    assert run.result == "step 'bad': ValueError: bad"
    assert run.starts["bad"] == 1
    assert "cancelled" in seen


def test_as_completed(async_world: World) -> None:
    async def in_async(ctx: Context) -> list[int]:
        steps = [ctx.step.run(f"p{n}", same, n) for n in range(4)]
        results = [await done for done in asyncio.as_completed(steps)]
        await ctx.step.sleep("nap", "10ms")
        return sorted(results)

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == [0, 1, 2, 3]
    assert run.once


def test_a_semaphore_bounds_concurrency(async_world: World) -> None:
    """Branches that wait for something of the function's own are no reason to give up."""
    running = most = 0

    async def body(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return n

    async def in_async(ctx: Context) -> int:
        limit = asyncio.Semaphore(2)

        async def branch(n: int) -> int:
            async with limit:
                return await ctx.step.run(f"p{n}", body, n)

        return sum(await asyncio.gather(*map(branch, range(10))))

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == 45
    assert most <= 2
    assert run.once
