"""Events whose data has a schema: models in the function, and clear ends where they do not fit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from onward import BlockingContext, Context, Event, NewEvent
from tests.support.harness import EVENT, World


class Paid(BaseModel):
    order: int
    total: Decimal = Decimal(0)


PAID = Event(EVENT, schema=Paid)


def _told(data: object) -> str:
    assert type(data) is Paid
    return f"{data.order} for {data.total}"


def test_the_function_is_given_the_model(world: World) -> None:
    async def in_async(ctx: Context) -> list[str]:
        order: Paid = ctx.event.data
        return [_told(order), *(_told(event.data) for event in ctx.events)]

    def in_blocking(ctx: BlockingContext) -> list[str]:
        order: Paid = ctx.event.data
        return [_told(order), *(_told(event.data) for event in ctx.events)]

    world.define(in_async, in_blocking, trigger=PAID)
    assert world.run({"order": "7", "total": "1.50"}).result == ["7 for 1.50", "7 for 1.50"]


def test_an_event_that_does_not_fit_fails_the_run_at_once(world: World) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.run("never", lambda: None)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("never", lambda: None)

    world.define(in_async, in_blocking, trigger=PAID, retries=5)
    run = world.run({"order": "many"})
    assert run.error["name"] == "EventSchemaError"
    assert f"'{EVENT}'" in run.error["message"]
    assert "data.order: Input should be a valid integer" in run.error["message"]
    assert "function 'function' of app 'scenarios'" in run.error["message"]
    assert len(run.invocations) == 1
    assert not run.starts


def test_what_a_step_sends_is_checked_once_and_for_all(world: World) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.send_event("tell", NewEvent(EVENT, {"total": 1}))

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.send_event("tell", NewEvent(EVENT, {"total": 1}))

    world.define(in_async, in_blocking, trigger=PAID, retries=5)
    run = world.run({"order": 1})
    assert run.error["name"] == "EventSchemaError"
    assert "data.order: Field required" in run.error["message"]
    assert run.starts == {"tell": 1}
    assert len(world.sent_events()) == 1


def test_a_model_is_sent_and_received(world: World) -> None:
    sent = Paid(order=8, total=Decimal("0.10"))

    async def in_async(ctx: Context) -> Any:
        if ctx.event.data.order == sent.order:
            return _told(ctx.event.data)
        return await ctx.step.send_event("tell", [NewEvent(EVENT, sent)])

    def in_blocking(ctx: BlockingContext) -> Any:
        if ctx.event.data.order == sent.order:
            return _told(ctx.event.data)
        return ctx.step.send_event("tell", [NewEvent(EVENT, sent)])

    world.define(in_async, in_blocking, trigger=PAID)
    (event_id,) = world.run({"order": 1}).result
    (child,) = world.runs_of(event_id)
    assert world.finish(child).result == "8 for 0.10"
