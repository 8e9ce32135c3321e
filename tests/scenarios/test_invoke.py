"""Functions that functions invoke: their results, their failures, and the time they get."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from onward import App, BlockingContext, Context, Event, NonRetriableError, ResultError, StepError
from tests.support.harness import APP, World

NEVER = Event("scenario/never")


@dataclass
class Total:
    cents: int


def same(value: Any) -> Any:
    return value


async def total_async(ctx: Context) -> Total:
    return Total(await ctx.step.run("double", same, ctx.event.data["cents"] * 2))


def total_blocking(ctx: BlockingContext) -> Total:
    return Total(ctx.step.run("double", same, ctx.event.data["cents"] * 2))


def child(app: App, world: World, in_async: Any, in_blocking: Any, **options: Any) -> Any:
    """Register a function to be invoked; its handler."""
    handler = in_async if world.driver == "async" else in_blocking
    return app.function(options.pop("id", "child"), trigger=NEVER, **options)(handler)


@pytest.mark.parametrize("by", ["handler", "id", "composite id"])
def test_the_result_is_of_the_type_that_the_handler_promises(world: World, by: str) -> None:
    target: dict[str, Any] = {"id": "child", "composite id": f"{APP}-child"}

    async def in_async(ctx: Context) -> Any:
        function = target.get(by, total_async)
        got = await ctx.step.invoke("call", function, data={"cents": 21})
        return [type(got).__name__, got.cents]

    def in_blocking(ctx: BlockingContext) -> Any:
        function = target.get(by, total_blocking)
        got = ctx.step.invoke("call", function, data={"cents": 21})
        return [type(got).__name__, got.cents]

    app = world.define(in_async, in_blocking)
    child(app, world, total_async, total_blocking)
    run = world.run()
    assert run.result == ["Total", 42]
    assert run.starts == {"double": 1}
    (op,) = run.invocations[0].body
    assert op["op"] == "InvokeFunction"
    assert "name" not in op
    assert op["opts"] == {
        "function_id": f"{APP}-child",
        "payload": {"data": {"cents": 21}},
        "parallelMode": "race",
    }


def test_a_given_type_data_of_a_model_and_a_result_of_another_type(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        got = await ctx.step.invoke("call", "child", data=Total(1), type=dict)
        try:
            await ctx.step.invoke("wrong", "child", data=Total(1), type=int)
        except ResultError as error:
            return [got, type(error).__name__]

    def in_blocking(ctx: BlockingContext) -> Any:
        got = ctx.step.invoke("call", "child", data=Total(1), type=dict)
        try:
            ctx.step.invoke("wrong", "child", data=Total(1), type=int)
        except ResultError as error:
            return [got, type(error).__name__]

    app = world.define(in_async, in_blocking)
    child(app, world, total_async, total_blocking)
    assert world.run().result == [{"cents": 2}, "ResultError"]


def failing(retriable: bool) -> Any:
    def body() -> None:
        raise ValueError("no luck") if retriable else NonRetriableError("no hope")

    async def in_async(ctx: Context) -> None:
        await ctx.step.run("bad", body)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("bad", body)

    return in_async, in_blocking


@pytest.mark.parametrize(
    ("retriable", "name", "tries"),
    [(True, "ValueError", 2), (False, "NonRetriableError", 1)],
)
def test_a_failed_function_raises_its_own_error(
    world: World, retriable: bool, name: str, tries: int
) -> None:
    """Its own retries come before; the step that invokes it is not tried again."""

    async def in_async(ctx: Context) -> Any:
        try:
            await ctx.step.invoke("call", "child")
        except StepError as error:
            return [error.name, error.message, error.step_id, await ctx.step.run("b", same, 1)]

    def in_blocking(ctx: BlockingContext) -> Any:
        try:
            ctx.step.invoke("call", "child")
        except StepError as error:
            return [error.name, error.message, error.step_id, ctx.step.run("b", same, 1)]

    app = world.define(in_async, in_blocking)
    child(app, world, *failing(retriable), retries=1)
    run = world.run()
    assert run.result == [name, "no luck" if retriable else "no hope", "call", 1]
    assert run.starts == {"bad": tries, "b": 1}


def test_an_error_that_nobody_catches_fails_the_run_at_once(world: World) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.invoke("call", "child")

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.invoke("call", "child")

    app = world.define(in_async, in_blocking)
    child(app, world, *failing(retriable=False))
    run = world.run()
    assert (run.error["name"], run.error["message"]) == ("NonRetriableError", "no hope")
    assert run.starts == {"bad": 1}
    assert run.kinds.split()[-1] == "error"


def test_a_function_that_takes_too_long(world: World) -> None:
    async def slow_async(ctx: Context) -> None:
        await ctx.step.sleep("long", "60s")

    def slow_blocking(ctx: BlockingContext) -> None:
        ctx.step.sleep("long", "60s")

    async def in_async(ctx: Context) -> Any:
        try:
            await ctx.step.invoke("call", "child", timeout="40ms")
        except StepError as error:
            return [error.name, error.message]

    def in_blocking(ctx: BlockingContext) -> Any:
        try:
            ctx.step.invoke("call", "child", timeout=0.04)
        except StepError as error:
            return [error.name, error.message]

    app = world.define(in_async, in_blocking)
    child(app, world, slow_async, slow_blocking)
    run = world.run()
    name, message = run.result
    assert name == "InngestInvokeTimeoutError"
    assert "Timed out waiting for invoked function" in message
    assert run.invocations[0].body[0]["opts"]["timeout"] == "40ms"


def test_a_function_that_nobody_has(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        try:
            await ctx.step.invoke("call", "elsewhere-missing")
        except StepError as error:
            return [error.name, error.message]

    def in_blocking(ctx: BlockingContext) -> Any:
        try:
            ctx.step.invoke("call", "elsewhere-missing")
        except StepError as error:
            return [error.name, error.message]

    world.define(in_async, in_blocking)
    name, message = world.run().result
    assert name == "UnknownFunctionError"
    assert "elsewhere-missing" in message


def test_several_at_once_beside_a_step_and_a_sleep(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        calls = [ctx.step.invoke(f"call-{n}", total_async, data={"cents": n}) for n in range(3)]
        *totals, one, _ = await asyncio.gather(
            *calls, ctx.step.run("one", same, 1), ctx.step.sleep("nap", "10ms")
        )
        return [[total.cents for total in totals], one, await ctx.step.run("end", same, 2)]

    def in_blocking(ctx: BlockingContext) -> Any:
        calls: list[Any] = [
            lambda n=n: ctx.step.invoke(f"call-{n}", total_blocking, data={"cents": n})
            for n in range(3)
        ]
        *totals, one, _ = ctx.step.gather(
            *calls, lambda: ctx.step.run("one", same, 1), lambda: ctx.step.sleep("nap", "10ms")
        )
        return [[total.cents for total in totals], one, ctx.step.run("end", same, 2)]

    app = world.define(in_async, in_blocking)
    child(app, world, total_async, total_blocking)
    run = world.run()
    assert run.result == [[0, 2, 4], 1, 2]
    assert run.starts == {"double": 3, "one": 1, "end": 1}


def test_what_the_invoked_function_sees(world: World) -> None:
    async def seen_async(ctx: Context) -> Any:
        return [ctx.event.name, ctx.event.data.get("cents"), ctx.run_id]

    def seen_blocking(ctx: BlockingContext) -> Any:
        return [ctx.event.name, ctx.event.data.get("cents"), ctx.run_id]

    async def in_async(ctx: Context) -> Any:
        seen = await ctx.step.invoke("call", seen_async)
        return [*seen[:2], seen[2] == ctx.run_id]

    def in_blocking(ctx: BlockingContext) -> Any:
        seen = ctx.step.invoke("call", seen_blocking)
        return [*seen[:2], seen[2] == ctx.run_id]

    app = world.define(in_async, in_blocking)
    child(app, world, seen_async, seen_blocking)
    assert world.run().result == ["inngest/function.invoked", None, False]


def test_data_that_do_not_fit_into_one_response_go_one_after_the_other(world: World) -> None:
    """Each is far below the limit, all of them are not."""
    large = "x" * 1_400_000

    async def size_async(ctx: Context) -> int:
        return len(ctx.event.data["text"])

    def size_blocking(ctx: BlockingContext) -> int:
        return len(ctx.event.data["text"])

    async def in_async(ctx: Context) -> Any:
        return await asyncio.gather(
            *(ctx.step.invoke(f"call-{n}", size_async, data={"text": large}) for n in range(4))
        )

    def in_blocking(ctx: BlockingContext) -> Any:
        return ctx.step.gather(
            *(
                lambda n=n: ctx.step.invoke(f"call-{n}", size_blocking, data={"text": large})
                for n in range(4)
            )
        )

    app = world.define(in_async, in_blocking)
    child(app, world, size_async, size_blocking)
    run = world.run()
    assert run.result == [len(large)] * 4
    assert max(len(invocation.answer.body) for invocation in run.invocations) < 3_000_000


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no function": ({"function": 5}, "StepUsageError", "no handler of app 'scenarios'"),
    "no handler": ({"function": same}, "StepUsageError", "no handler of app 'scenarios'"),
    "two functions": ({"function": failing}, "StepUsageError", "'first' and 'second'"),
    "data that are no object": ({"data": [1]}, "StepUsageError", "named fields"),
    "data that are no JSON": ({"data": {"at": object()}}, "ResultError", "data of invoke 'call'"),
    "data that are too large": ({"data": {"x": "x" * 3_000_000}}, "EventError", "3,000,008 bytes"),
    "timeout": ({"timeout": "soon"}, "DurationError", "'call'"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_invoked(world: World, bad: str) -> None:
    changed, name, said = BAD[bad]
    given: dict[str, Any] = {"function": "child", **changed}

    async def in_async(ctx: Context) -> None:
        await ctx.step.invoke("call", **given)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.invoke("call", **given)

    app = world.define(in_async, in_blocking)
    for id_ in ("first", "second"):
        app.function(id_, trigger=NEVER)(failing)
    run = world.run()
    assert run.error["name"] == name
    assert said in run.error["message"]
    assert len(run.invocations) == 1
