"""Steps where no step can run: clear errors, and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from onward import BlockingContext, Context
from onward.errors import StepUsageError
from tests.support.harness import World


def same(value: str) -> str:
    return value


def test_a_step_inside_a_step(world: World) -> None:
    async def in_async(ctx: Context) -> None:
        async def outer() -> str:
            return await ctx.step.run("inner", same, "x")

        await ctx.step.run("outer", outer)

    def in_blocking(ctx: BlockingContext) -> None:
        def outer() -> str:
            return ctx.step.run("inner", same, "x")

        ctx.step.run("outer", outer)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "StepUsageError"
    for part in ("'inner'", "'outer'", "do not nest"):
        assert part in run.error["message"]
    assert run.starts == {"outer": 1}


def test_a_step_after_the_function_returned(async_world: World) -> None:
    """A task that outlives its function is stopped; what it calls is refused."""
    seen: list[BaseException] = []

    async def in_async(ctx: Context) -> str:
        async def outlives() -> None:
            try:
                await asyncio.sleep(30)
            finally:
                try:
                    await ctx.step.run("late", same, "x")
                except StepUsageError as error:
                    seen.append(error)

        asyncio.create_task(outlives())  # noqa: RUF006 - that is the point
        await asyncio.sleep(0)
        return "done"

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == "done"
    assert run.starts == {}
    (error,) = seen
    assert "'late'" in str(error)
    assert "returned" in str(error)


def test_a_step_in_a_finally_block_while_suspending(world: World) -> None:
    seen: list[str] = []

    async def in_async(ctx: Context) -> str:
        try:
            await ctx.step.sleep("nap", "5ms")
        finally:
            try:
                await ctx.step.run("clean-up", same, "x")
            except StepUsageError as error:
                seen.append(str(error))
        return "done"

    def in_blocking(ctx: BlockingContext) -> str:
        try:
            ctx.step.sleep("nap", "5ms")
        finally:
            try:
                ctx.step.run("clean-up", same, "x")
            except StepUsageError as error:
                seen.append(str(error))
        return "done"

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == "done"
    assert run.starts == {"clean-up": 1}  # in the second invocation, where nothing suspends
    (message,) = seen
    assert "'clean-up'" in message
    assert "suspending" in message


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="its checkpoints are looked at"
)
def test_a_function_that_swallows_its_suspension(world: World) -> None:
    """It cannot go on: whatever it does then is refused, and the run ends as it should."""
    swallowed: list[str] = []

    async def in_async(ctx: Context) -> str:
        try:
            await ctx.step.sleep("nap", "5ms")
        except asyncio.CancelledError:
            swallowed.append("x")
        return await ctx.step.run("after", same, "after")

    def in_blocking(ctx: BlockingContext) -> str:
        try:
            ctx.step.sleep("nap", "5ms")
        except BaseException as error:  # noqa: BLE001 - that is the point
            swallowed.append(str(error))
        return ctx.step.run("after", same, "after")

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == "after"
    assert run.kinds == "e a"
    assert run.once
    assert len(swallowed) == 1
    if world.driver == "blocking":
        assert "suspending this function" in swallowed[0]


def test_except_exception_catches_no_suspension(world: World) -> None:
    caught: list[Exception] = []

    async def in_async(ctx: Context) -> str:
        try:
            await ctx.step.sleep("nap", "5ms")
        except Exception as error:  # noqa: BLE001 - that is the point
            caught.append(error)
        return "done"

    def in_blocking(ctx: BlockingContext) -> str:
        try:
            ctx.step.sleep("nap", "5ms")
        except Exception as error:  # noqa: BLE001 - that is the point
            caught.append(error)
        return "done"

    world.define(in_async, in_blocking)
    assert world.run().result == "done"
    assert caught == []


def test_a_step_on_a_thread_of_the_users_own(blocking_world: World) -> None:
    seen: list[BaseException] = []

    def in_blocking(ctx: BlockingContext) -> str:
        def elsewhere() -> None:
            try:
                ctx.step.run("elsewhere", same, "x")
            except StepUsageError as error:
                seen.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return ctx.step.run("here", same, "here")

    blocking_world.define(None, in_blocking)
    run = blocking_world.run()
    assert run.result == "here"
    assert "'elsewhere'" in str(seen[0])
    assert run.starts == {"here": 1}


@pytest.mark.parametrize("bad", ["", None, 7])
def test_what_is_no_step_id(world: World, bad: Any) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.run(bad, same, "x")

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run(bad, same, "x")

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "StepUsageError"
    assert repr(bad) in run.error["message"]


def test_what_is_no_body(world: World) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.run("bad", same("x"))  # type: ignore[call-overload]

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("bad", same("x"))  # type: ignore[call-overload]

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "StepUsageError"
    assert "ctx.step.run('id', function, argument)" in run.error["message"]


def test_a_step_that_was_never_awaited_is_no_step(async_world: World) -> None:
    async def in_async(ctx: Context) -> str:
        ctx.step.run("forgotten", same, "x").close()
        return "done"

    async_world.define(in_async, None)
    run = async_world.run()
    assert run.result == "done"
    assert run.starts == {}
