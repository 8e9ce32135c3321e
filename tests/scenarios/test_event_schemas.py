"""Events whose data has a schema: models in the function, and clear ends where they do not fit."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from onward import BlockingContext, Context, Event, InboundEvent, NewEvent, StepError
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


class Answer(BaseModel):
    says: str


ANSWERED = "scenario/answered"


def test_an_awaited_event_is_given_as_its_model(world: World) -> None:
    event = Event(ANSWERED, schema=Answer)
    sent = NewEvent(ANSWERED, Answer(says="yes"))

    async def in_async(ctx: Context) -> str:
        answer, _ = await asyncio.gather(
            ctx.step.wait_for_event("answer", event=event, timeout="1h"),
            ctx.step.send_event("send", sent),
        )
        assert answer is not None
        assert type(answer.data) is Answer
        return answer.data.says

    def in_blocking(ctx: BlockingContext) -> str:
        answer, _ = ctx.step.gather(
            lambda: ctx.step.wait_for_event("answer", event=event, timeout="1h"),
            lambda: ctx.step.send_event("send", sent),
        )
        assert isinstance(answer, InboundEvent)
        assert type(answer.data) is Answer
        return answer.data.says

    world.define(in_async, in_blocking)
    assert world.run().result == "yes"


def test_an_awaited_event_that_does_not_fit_fails_the_run(world: World) -> None:
    sent = NewEvent(ANSWERED, {"says": 7})

    async def in_async(ctx: Context) -> None:
        await asyncio.gather(
            ctx.step.wait_for_event("answer", event=ANSWERED, timeout="1h", type=Answer),
            ctx.step.send_event("send", sent),
        )

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.gather(
            lambda: ctx.step.wait_for_event("answer", event=ANSWERED, timeout="1h", type=Answer),
            lambda: ctx.step.send_event("send", sent),
        )

    world.define(in_async, in_blocking, retries=5)
    run = world.run()
    assert run.error["name"] == "EventSchemaError"
    assert f"'{ANSWERED}'" in run.error["message"]
    assert "data.says: Input should be a valid string" in run.error["message"]
    assert run.once


def test_an_invoked_run_is_checked_as_its_trigger_says(world: World) -> None:
    """The error names the step that invoked it; the sender gets it too."""

    async def in_async(ctx: Context) -> Any:
        if isinstance(ctx.event.data, Paid) and ctx.event.data.order == 1:
            good = await ctx.step.invoke("good", "function", data=Paid(order=2))
            with pytest.raises(StepError, match=r"data\.order: Input should be .* not 'x'") as info:
                await ctx.step.invoke("bad", "function", data={"order": "x"})
            return [good, info.value.message]
        return ctx.event.data.order

    def in_blocking(ctx: BlockingContext) -> Any:
        if isinstance(ctx.event.data, Paid) and ctx.event.data.order == 1:
            good = ctx.step.invoke("good", "function", data=Paid(order=2))
            with pytest.raises(StepError, match=r"data\.order: Input should be .* not 'x'") as info:
                ctx.step.invoke("bad", "function", data={"order": "x"})
            return [good, info.value.message]
        return ctx.event.data.order

    world.define(in_async, in_blocking, trigger=PAID)
    good, told = world.run({"order": 1}).result
    assert good == 2
    assert "from the step 'bad' that invoked 'function'" in told
