"""A run that failed for good has its handler called, which knows the error and the event."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from onward import BlockingContext, Context, Event, NonRetriableError
from tests.support.harness import APP, EVENT, FUNCTION, World
from tests.support.loops import eventually


class Paid(BaseModel):
    order: int


def _told(ctx: Context | BlockingContext) -> dict[str, Any]:
    failure = ctx.failure
    order: Paid = failure.event.data
    return {
        "order": order.order,
        "orders": [event.data.order for event in failure.events],
        "event": failure.event.name,
        "error": [failure.error.name, failure.error.message, "ValueError" in failure.error.stack],
        "function": failure.function_id,
        "run": failure.run_id,
        "raw": ctx.event.data["error"]["message"],
    }


def test_the_handler_knows_the_error_and_the_event(world: World) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.run("pay", _broken)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("pay", _broken)

    async def handled(ctx: Context) -> None:
        told.append(await ctx.step.run("tell", _told, ctx))

    def handled_blocking(ctx: BlockingContext) -> None:
        told.append(ctx.step.run("tell", _told, ctx))

    told: list[dict[str, Any]] = []
    world.define(
        in_async,
        in_blocking,
        trigger=Event(EVENT, schema=Paid),
        retries=1,
        on_failure=handled if world.driver == "async" else handled_blocking,
    )
    run_id = world.start({"order": "7"})
    assert world.finish(run_id).error["message"] == "no money"
    eventually(lambda: len(_runs(world)) == 2, "the handler was not called")
    world.finish(next(run for run in _runs(world) if run != run_id))
    assert told == [
        {
            "order": 7,
            "orders": [7],
            "event": EVENT,
            "error": ["ValueError", "no money", True],
            "function": f"{APP}-{FUNCTION}",
            "run": run_id,
            "raw": "no money",
        }
    ]


def test_the_other_kind_of_handler(world: World) -> None:
    """The handler of an async function may be blocking, and the other way round."""

    async def in_async(ctx: Context) -> None:
        raise NonRetriableError("at once")

    def in_blocking(ctx: BlockingContext) -> None:
        raise NonRetriableError("at once")

    async def handled(ctx: Context) -> None:
        told.append(ctx.failure.error.message)

    def handled_blocking(ctx: BlockingContext) -> None:
        told.append(ctx.failure.error.message)

    told: list[str] = []
    other = handled_blocking if world.driver == "async" else handled
    world.define(in_async, in_blocking, on_failure=other)
    run_id = world.start({})
    assert world.finish(run_id).error["message"] == "at once"
    eventually(lambda: len(_runs(world)) == 2, "the handler was not called")
    world.finish(next(run for run in _runs(world) if run != run_id))
    assert told == ["at once"]


def test_an_event_that_did_not_fit_is_told_as_it_came(world: World) -> None:
    async def in_async(ctx: Context) -> None: ...

    def in_blocking(ctx: BlockingContext) -> None: ...

    async def handled(ctx: Context) -> None:
        told.append((ctx.failure.error.name, ctx.failure.event.data))

    told: list[Any] = []
    world.define(in_async, in_blocking, trigger=Event(EVENT, schema=Paid), on_failure=handled)
    run_id = world.start({"order": "many"})
    assert world.finish(run_id).error["name"] == "EventSchemaError"
    eventually(lambda: len(_runs(world)) == 2, "the handler was not called")
    world.finish(next(run for run in _runs(world) if run != run_id))
    assert told == [("EventSchemaError", {"order": "many"})]


def test_a_run_that_completes_has_no_failure(world: World) -> None:
    async def in_async(ctx: Context) -> str:
        return ctx.failure.run_id

    def in_blocking(ctx: BlockingContext) -> str:
        return ctx.failure.run_id

    world.define(in_async, in_blocking, retries=0)
    error = world.run().error
    assert error["name"] == "StepUsageError"
    assert f"'{EVENT}'" in error["message"]
    assert "on_failure=…" in error["message"]


def _broken() -> None:
    raise ValueError("no money")


def _runs(world: World) -> list[str]:
    return [run for event in world.sent_events() for run in world.runs_of(event)]
