"""Bodies that raise."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest

from onward import (
    BlockingContext,
    Context,
    NonRetriableError,
    RetryAfterError,
    StepError,
)
from tests.support.harness import World

PATIENCE_S = 30.0


class Flaky:
    """A body that fails so many times first."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.left = failures
        self.error = error or ValueError("flaky")

    def __call__(self) -> str:
        if self.left:
            self.left -= 1
            raise self.error
        return "ok"


def same(value: str) -> str:
    return value


def simple(world: World, body: Any, **options: Any) -> None:
    """A step, the one that fails, and another step."""

    async def in_async(ctx: Context) -> Any:
        await ctx.step.run("before", same, "before")
        result = await ctx.step.run("flaky", body)
        await ctx.step.run("after", same, "after")
        return result

    def in_blocking(ctx: BlockingContext) -> Any:
        ctx.step.run("before", same, "before")
        result = ctx.step.run("flaky", body)
        ctx.step.run("after", same, "after")
        return result

    world.define(in_async, in_blocking, **options)


def test_a_step_that_fails_is_tried_again_and_others_are_not(world: World) -> None:
    simple(world, Flaky(2))
    run = world.run()
    assert run.result == "ok"
    assert run.starts == {"before": 1, "flaky": 3, "after": 1}
    failed = [i for i in run.invocations if i.shape == ["StepError flaky"]]
    assert [i.attempt for i in failed] == [0, 1]


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="the first call gets as far as the error"
)
def test_a_step_out_of_retries_fails_the_run(world: World) -> None:
    simple(world, Flaky(9), retries=2)
    run = world.run()
    assert run.error["name"] == "ValueError"
    assert run.error["message"] == "flaky"
    assert run.starts == {"before": 1, "flaky": 3}
    assert run.kinds == "b b b error"


def test_each_failing_step_has_retries_of_its_own(world: World) -> None:
    first, second = Flaky(2), Flaky(2)

    async def in_async(ctx: Context) -> list[str]:
        return [await ctx.step.run("first", first), await ctx.step.run("second", second)]

    def in_blocking(ctx: BlockingContext) -> list[str]:
        return [ctx.step.run("first", first), ctx.step.run("second", second)]

    world.define(in_async, in_blocking, retries=2)
    run = world.run()
    assert run.result == ["ok", "ok"]
    assert run.starts == {"first": 3, "second": 3}


def test_a_step_error_may_be_caught(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        try:
            await ctx.step.run("bad", Flaky(9, KeyError("where")))
        except StepError as error:
            plan_b = f"{error.name} {error.message} {error.step_id} {'where' in error.stack}"
        return await ctx.step.run("fallback", same, plan_b)

    def in_blocking(ctx: BlockingContext) -> Any:
        try:
            ctx.step.run("bad", Flaky(9, KeyError("where")))
        except StepError as error:
            plan_b = f"{error.name} {error.message} {error.step_id} {'where' in error.stack}"
        return ctx.step.run("fallback", same, plan_b)

    world.define(in_async, in_blocking, retries=1)
    run = world.run()
    assert run.result == "KeyError 'where' bad True"
    assert run.starts == {"bad": 2, "fallback": 1}


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="the first call gets as far as the error"
)
def test_what_cannot_help_is_not_tried_again(world: World) -> None:
    simple(world, Flaky(9, NonRetriableError("stop")))
    run = world.run()
    assert (run.error["name"], run.error["message"]) == ("NonRetriableError", "stop")
    assert run.starts == {"before": 1, "flaky": 1}
    assert run.invocations[0].answer.headers["x-inngest-no-retry"] == "true"


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="the first call gets as far as the error"
)
@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        ("90s", 90, 90),
        (0.2, 1, 1),
        (timedelta(days=3), 86400, 86400),
        (datetime.now(UTC) + timedelta(hours=1), 3000, 3600),
    ],
)
def test_a_body_may_say_when_to_try_again(
    world: World, retry_after: Any, least: int, most: int
) -> None:
    simple(world, Flaky(1, RetryAfterError("wait", retry_after)))
    run = world.run()
    assert run.result == "ok"
    assert least <= int(run.invocations[0].answer.headers["retry-after"]) <= most
    assert run.starts == {"before": 1, "flaky": 2, "after": 1}


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="the first call gets as far as the error"
)
def test_retries_in_place_stay_in_the_invocation(world: World) -> None:
    flaky = Flaky(2)

    async def in_async(ctx: Context) -> str:
        return await ctx.step.run("flaky", flaky, retry_in_place=2)

    def in_blocking(ctx: BlockingContext) -> str:
        return ctx.step.run("flaky", flaky, retry_in_place=2)

    world.define(in_async, in_blocking, retries=0)
    run = world.run()
    assert run.result == "ok"
    assert run.starts == {"flaky": 3}
    assert run.kinds == "a"


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="the first call gets as far as the error"
)
def test_siblings_of_a_failed_branch_end_and_are_kept(world: World) -> None:
    """Both run when one fails: the other one's result is confirmed, and it never runs again."""
    failing = Event()
    flaky = Flaky(1)

    def fails_first() -> str:
        failing.set()
        return flaky()

    def ends_later() -> str:
        assert failing.wait(PATIENCE_S)
        return "sibling"

    async def in_async(ctx: Context) -> Any:
        return await asyncio.gather(
            ctx.step.run("flaky", fails_first), ctx.step.run("sibling", ends_later)
        )

    def in_blocking(ctx: BlockingContext) -> Any:
        return ctx.step.gather(
            lambda: ctx.step.run("flaky", fails_first),
            lambda: ctx.step.run("sibling", ends_later),
        )

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == ["ok", "sibling"]
    assert run.starts == {"flaky": 2, "sibling": 1}
    assert run.invocations[0].shape == ["StepError flaky"]
    assert run.batches[0] == ["sibling"]


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="the first call gets as far as the error"
)
def test_branches_that_fail_together_are_all_tried_again(world: World) -> None:
    bodies = {name: Flaky(1) for name in ("a", "b", "c")}

    async def in_async(ctx: Context) -> Any:
        return await asyncio.gather(*(ctx.step.run(n, body) for n, body in bodies.items()))

    def in_blocking(ctx: BlockingContext) -> Any:
        return ctx.step.gather(
            *(lambda n=n, body=body: ctx.step.run(n, body) for n, body in bodies.items())
        )

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == ["ok", "ok", "ok"]
    assert all(count >= 2 for count in run.starts.values())
    assert [shape for i in run.invocations for shape in i.shape if "Error" in shape] == [
        "StepError a"
    ]


def test_a_branch_that_failed_for_good_does_not_stop_the_others(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        results = await asyncio.gather(
            ctx.step.run("bad", Flaky(9)),
            ctx.step.run("good", same, "good"),
            return_exceptions=True,
        )
        await ctx.step.run("after", same, "after")
        return [str(result) for result in results]

    def in_blocking(ctx: BlockingContext) -> Any:
        def bad() -> str:
            try:
                return ctx.step.run("bad", Flaky(9))
            except StepError as error:
                return str(error)

        results = ctx.step.gather(bad, lambda: ctx.step.run("good", same, "good"))
        ctx.step.run("after", same, "after")
        return results

    world.define(in_async, in_blocking, retries=1)
    run = world.run()
    assert run.result == ["step 'bad': ValueError: flaky", "good"]
    assert run.starts == {"bad": 2, "good": 1, "after": 1}


def test_a_result_that_cannot_be_kept_names_where(world: World) -> None:
    def unserializable() -> dict[str, Any]:
        return {"items": [{"when": object()}]}

    simple(world, unserializable)
    run = world.run()
    assert run.error["name"] == "ResultError"
    for part in ("'flaky'", "object", "items[0].when"):
        assert part in run.error["message"]
    assert run.starts["flaky"] == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_body_that_wants_to_end_the_process_fails_its_step(
    world: World, error: BaseException
) -> None:
    """Whatever a body raises is its outcome: the process goes on."""

    def leaves() -> str:
        raise error

    simple(world, leaves, retries=0)
    run = world.run()
    assert run.error["name"] == type(error).__name__
