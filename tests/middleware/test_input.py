"""What functions are given: extras, context variables, other events; and what hooks know."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from onward import App, BlockingContext, Context, Event
from onward.context import InboundEvent
from onward.middleware import Call, EncryptionMiddleware, Input, Middleware, Outcome
from tests.support.harness import APP, COMPOSITE, EVENT, World

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Tenants(Middleware):
    """Adds to what the function gets."""

    def transform_event(self, call: Call, event: InboundEvent) -> InboundEvent:
        return replace(event, data={**event.data, "seen": True})

    def transform_input(self, call: Call, given: Input) -> Input:
        tenant.set(given.event.data["tenant"])
        event = replace(given.event, data={**given.event.data, "order": 7})
        return replace(given, event=event, events=(event,)).with_extras(
            database=f"of {call.run_id}", steps=[outcome.data for outcome in given.steps.values()]
        )


class Second(Middleware):
    def transform_input(self, call: Call, given: Input) -> Input:
        assert given.event.data["order"] == 7
        return given.with_extras(second=given.extras["database"])


async def in_async(ctx: Context) -> dict[str, Any]:
    body = await ctx.step.run("one", tenant.get)
    await ctx.step.sleep("nap", "1ms")
    return {
        "here": tenant.get(),
        "body": body,
        "data": ctx.event.data,
        "same": ctx.events == (ctx.event,),
        **ctx.extras,
    }


def in_blocking(ctx: BlockingContext) -> dict[str, Any]:
    body = ctx.step.run("one", tenant.get)
    ctx.step.sleep("nap", "1ms")
    return {
        "here": tenant.get(),
        "body": body,
        "data": ctx.event.data,
        "same": ctx.events == (ctx.event,),
        **ctx.extras,
    }


def test_what_the_function_gets(world: World) -> None:
    world.app_options["middleware"] = [Tenants()]
    world.function_options["middleware"] = [Second()]
    world.define(in_async, in_blocking)
    run = world.run({"tenant": "acme"})
    database = f"of {run.view.run_id}"
    assert run.result == {
        "here": "acme",
        "body": "acme",
        "data": {"tenant": "acme", "seen": True, "order": 7},
        "same": True,
        "database": database,
        "second": database,
        "steps": ["acme", None],
    }
    assert tenant.get() == "nobody"


async def nothing_async(ctx: Context) -> int:
    assert ctx.extras == {}
    return ctx.attempt


def nothing_blocking(ctx: BlockingContext) -> int:
    assert ctx.extras == {}
    return ctx.attempt


class Knowing(Middleware):
    def __init__(self) -> None:
        self.calls: list[Call] = []

    def before_execution(self, call: Call) -> None:
        self.calls.append(call)


def test_what_hooks_know_of_their_call(world: World) -> None:
    knowing = Knowing()
    world.app_options["middleware"] = [knowing]
    app = world.define(nothing_async, nothing_blocking)
    run = world.run()
    (call,) = knowing.calls
    assert (call.app_id, call.function_id, call.run_id) == (APP, COMPOSITE, run.view.run_id)
    assert (call.attempt, call.max_attempts, call.recorded, call.target) == (0, 4, 0, "step")
    assert call.is_async is (world.driver == "async")
    assert call.checkpointing
    assert call.middleware == tuple(app.middleware)
    if world.entry == "lambda":
        event, context = call.raw_request
        assert event["onward"] == "call"
        assert context.get_remaining_time_in_millis() > 0
        assert call.deadline is not None
        assert call.deadline.remaining() < 900
    else:
        assert call.raw_request["type"] == "http"
        assert call.headers["content-type"] == "application/json"


class Envelope(Middleware):
    """Changes results for good: what goes out does not come back as it was."""

    def transform_output(self, call: Call, outcome: Outcome) -> Outcome:
        if outcome.error is not None:
            return outcome
        return outcome.with_data({"version": 1, "value": outcome.data})


async def sees_async(ctx: Context) -> list[Any]:
    seen = [await ctx.step.run("one", lambda: "x")]
    await ctx.step.sleep("nap", "1ms")
    return [*seen, await ctx.step.run("two", lambda: "y")]


def sees_blocking(ctx: BlockingContext) -> list[Any]:
    seen = [ctx.step.run("one", lambda: "x")]
    ctx.step.sleep("nap", "1ms")
    return [*seen, ctx.step.run("two", lambda: "y")]


def test_the_first_run_sees_what_a_replay_will(world: World) -> None:
    world.app_options["middleware"] = [Envelope()]
    world.define(sees_async, sees_blocking)
    one, two = ({"version": 1, "value": value} for value in "xy")
    assert world.run().result == {"version": 1, "value": [one, two]}


class Paid(BaseModel):
    encrypted: dict[str, int]


async def typed_async(ctx: Context) -> str:
    return f"{type(ctx.event.data).__name__} {ctx.event.data.encrypted['amount']}"


def typed_blocking(ctx: BlockingContext) -> str:
    return f"{type(ctx.event.data).__name__} {ctx.event.data.encrypted['amount']}"


def test_schemas_are_for_what_was_decrypted(world: World) -> None:
    middleware = EncryptionMiddleware("a key")
    world.app_options |= {"middleware": [middleware], "schemas": {EVENT: Paid}}
    app = world.define(typed_async, typed_blocking)
    (event,) = middleware.before_send_events(
        Call(APP), ({"name": EVENT, "data": {"encrypted": {"amount": 7}}},)
    )
    chain = app.chain()
    assert chain is not None
    assert chain.opened(world.run(event["data"]).result) == "Paid 7"


def test_an_app_without_middleware_has_no_chain() -> None:
    app = App("shop", middleware=[])
    app.function("f", trigger=Event("e"))(nothing_async)
    assert app.chain() is None
    assert app.chain(app.find("shop-f")) is None
