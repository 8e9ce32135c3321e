"""Functions that raise outside of steps."""

from __future__ import annotations

from typing import Any

import pytest

from onward import BlockingContext, Context, NonRetriableError, RetryAfterError
from tests.support.harness import World


def same(value: str) -> str:
    return value


def raising(world: World, error: Exception, failures: int, **options: Any) -> None:
    """A step, code that raises in the first `failures` attempts, another step."""

    def may_raise(attempt: int) -> None:
        if attempt < failures:
            raise error

    async def in_async(ctx: Context) -> str:
        await ctx.step.run("before", same, "before")
        may_raise(ctx.attempt)
        return await ctx.step.run("after", same, "after")

    def in_blocking(ctx: BlockingContext) -> str:
        ctx.step.run("before", same, "before")
        may_raise(ctx.attempt)
        return ctx.step.run("after", same, "after")

    world.define(in_async, in_blocking, **options)


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="the first call gets as far as the error"
)
def test_a_function_is_tried_again_and_finished_steps_are_not(world: World) -> None:
    raising(world, ValueError("boom"), 1)
    run = world.run()
    assert run.result == "after"
    assert run.starts == {"before": 1, "after": 1}
    first = run.invocations[0]
    assert (first.answer.status, first.body["name"]) == (500, "ValueError")
    assert first.answer.headers["x-inngest-no-retry"] == "false"


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="the first call gets as far as the error"
)
def test_a_function_out_of_retries_fails_its_run(world: World) -> None:
    raising(world, ValueError("boom"), 9, retries=2)
    run = world.run()
    assert (run.error["name"], run.error["message"]) == ("ValueError", "boom")
    assert [i.answer.status for i in run.invocations] == [500, 500, 400]
    assert run.starts == {"before": 1}


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="the first call gets as far as the error"
)
def test_a_function_that_cannot_be_helped(world: World) -> None:
    raising(world, NonRetriableError("stop"), 9)
    run = world.run()
    assert run.error["name"] == "NonRetriableError"
    assert len(run.invocations) == 1


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="the first call gets as far as the error"
)
def test_a_function_may_say_when_to_try_again(world: World) -> None:
    raising(world, RetryAfterError("wait", "1m30s"), 1)
    run = world.run()
    assert run.result == "after"
    assert run.invocations[0].answer.headers["retry-after"] == "90"


def test_the_error_shows_the_users_code(world: World) -> None:
    raising(world, ValueError("boom"), 9, retries=0)
    stack = world.run().error["stack"]
    assert "may_raise" in stack
    assert "execution" not in stack


def test_a_result_that_cannot_be_kept(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        return {"bad": object()}

    def in_blocking(ctx: BlockingContext) -> Any:
        return {"bad": object()}

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "ResultError"
    assert "'function'" in run.error["message"]
    assert len(run.invocations) == 1
