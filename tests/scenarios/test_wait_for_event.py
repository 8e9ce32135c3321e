"""Waits for events: matched by name and condition, or timed out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from onward import BlockingContext, Context, Event, InboundEvent
from tests.support.harness import World

APPROVED = "scenario/approved"
MATCHES = "async.data.order == event.data.order && async.data.cents > 100"


@dataclass
class Approval:
    order: str
    cents: int


def same(value: Any) -> Any:
    return value


def approvals(*orders: str, cents: int = 500) -> list[dict[str, Any]]:
    return [{"name": APPROVED, "data": {"order": order, "cents": cents}} for order in orders]


def test_the_event_that_matches_ends_the_wait(world: World) -> None:
    """Others come before it, by another name, of another order, and of too little."""
    sent = [
        {"name": "scenario/other", "data": {"order": "a", "cents": 500}},
        *approvals("b"),
        *approvals("a", cents=5),
        *approvals("a"),
    ]

    async def in_async(ctx: Context) -> Any:
        await ctx.step.run("before", same, 1)
        event, _ = await asyncio.gather(
            ctx.step.wait_for_event("wait", event=APPROVED, timeout="30s", if_=MATCHES),
            ctx.step.send_event("send", sent),
        )
        assert isinstance(event, InboundEvent)
        return [event.name, event.data, await ctx.step.run("after", same, 2)]

    def in_blocking(ctx: BlockingContext) -> Any:
        ctx.step.run("before", same, 1)
        event, _ = ctx.step.gather(
            lambda: ctx.step.wait_for_event("wait", event=APPROVED, timeout=30, if_=MATCHES),
            lambda: ctx.step.send_event("send", sent),
        )
        assert isinstance(event, InboundEvent)
        return [event.name, event.data, ctx.step.run("after", same, 2)]

    world.define(in_async, in_blocking)
    run = world.run({"order": "a"})
    assert run.result == [APPROVED, {"order": "a", "cents": 500}, 2]
    assert run.starts == {"before": 1, "send": 1, "after": 1}


@pytest.mark.checkpointing("confirmed", "buffered", "pipelined", reason="its calls are counted")
@pytest.mark.parametrize("sends", [False, True], ids=["nothing", "another"])
def test_without_a_match_it_times_out(world: World, sends: bool) -> None:
    async def in_async(ctx: Context) -> Any:
        wait = ctx.step.wait_for_event("wait", event=APPROVED, timeout="60ms", if_=MATCHES)
        if not sends:
            return await wait
        return (await asyncio.gather(wait, ctx.step.send_event("send", approvals("b"))))[0]

    def in_blocking(ctx: BlockingContext) -> Any:
        def wait() -> Any:
            return ctx.step.wait_for_event("wait", event=APPROVED, timeout="60ms", if_=MATCHES)

        if not sends:
            return wait()
        return ctx.step.gather(wait, lambda: ctx.step.send_event("send", approvals("b")))[0]

    world.define(in_async, in_blocking)
    run = world.run({"order": "a"})
    assert run.result is None
    if not sends:
        assert run.kinds == "e a"
        (op,) = run.invocations[0].body
        assert (op["op"], op["name"]) == ("WaitForEvent", APPROVED)
        assert op["opts"] == {
            "event": APPROVED,
            "timeout": "60ms",
            "if": MATCHES,
            "parallelMode": "race",
        }


@pytest.mark.parametrize("by_event", [False, True], ids=["type", "Event"])
def test_data_of_a_type(world: World, by_event: bool) -> None:
    given: dict[str, Any] = {"event": APPROVED, "type": Approval}
    if by_event:
        given = {"event": Event(APPROVED, schema=Approval)}

    async def in_async(ctx: Context) -> int:
        event, _ = await asyncio.gather(
            ctx.step.wait_for_event("wait", timeout="30s", **given),
            ctx.step.send_event("send", approvals("a")),
        )
        assert event is not None
        assert isinstance(event.data, Approval)
        return event.data.cents

    def in_blocking(ctx: BlockingContext) -> int:
        event, _ = ctx.step.gather(
            lambda: ctx.step.wait_for_event("wait", timeout="30s", **given),
            lambda: ctx.step.send_event("send", approvals("a")),
        )
        assert isinstance(event, InboundEvent)
        assert isinstance(event.data, Approval)
        return event.data.cents

    world.define(in_async, in_blocking)
    assert world.run().result == 500


def test_data_of_another_type_fail_the_run_at_once(world: World) -> None:
    sent = {"name": APPROVED, "data": {"order": "a", "cents": "many"}}

    async def in_async(ctx: Context) -> None:
        await asyncio.gather(
            ctx.step.wait_for_event("wait", event=APPROVED, timeout="30s", type=Approval),
            ctx.step.send_event("send", sent),
        )

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.gather(
            lambda: ctx.step.wait_for_event("wait", event=APPROVED, timeout="30s", type=Approval),
            lambda: ctx.step.send_event("send", sent),
        )

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "EventSchemaError"
    for part in (APPROVED, "'wait'", "cents", "many"):
        assert part in run.error["message"]
    (failed,) = [invocation for invocation in run.invocations if invocation.kind == "error"]
    assert failed.answer.headers["x-inngest-no-retry"] == "true"


def test_a_wait_beside_steps_and_a_sleep(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        async def steps() -> Any:
            first = await ctx.step.run("one", same, 1)
            await ctx.step.sleep("nap", "10ms")
            await ctx.step.send_event("send", approvals("a"))
            return first + await ctx.step.run("two", same, 2)

        event, total = await asyncio.gather(
            ctx.step.wait_for_event("wait", event=APPROVED, timeout="30s"), steps()
        )
        return [event.data["order"] if event else None, total, await ctx.step.run("end", same, 3)]

    def in_blocking(ctx: BlockingContext) -> Any:
        def steps() -> Any:
            first = ctx.step.run("one", same, 1)
            ctx.step.sleep("nap", "10ms")
            ctx.step.send_event("send", approvals("a"))
            return first + ctx.step.run("two", same, 2)

        event, total = ctx.step.gather(
            lambda: ctx.step.wait_for_event("wait", event=APPROVED, timeout="30s"), steps
        )
        return [event.data["order"] if event else None, total, ctx.step.run("end", same, 3)]

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == ["a", 3, 3]
    assert run.once


def test_several_waits_for_one_event_and_one_after_the_other(world: World) -> None:
    """One event ends all waits that it matches; a repeated id is a wait of its own."""

    async def in_async(ctx: Context) -> Any:
        both = await asyncio.gather(
            ctx.step.wait_for_event("left", event=APPROVED, timeout="30s"),
            ctx.step.wait_for_event("right", event=APPROVED, timeout="30s"),
            ctx.step.send_event("send", approvals("a")),
        )
        late = [
            await ctx.step.wait_for_event("late", event=APPROVED, timeout="5ms") for _ in range(2)
        ]
        return [event.data["order"] for event in both[:2] if event], late

    def in_blocking(ctx: BlockingContext) -> Any:
        both: list[Any] = ctx.step.gather(
            lambda: ctx.step.wait_for_event("left", event=APPROVED, timeout="30s"),
            lambda: ctx.step.wait_for_event("right", event=APPROVED, timeout="30s"),
            lambda: ctx.step.send_event("send", approvals("a")),
        )
        late = [ctx.step.wait_for_event("late", event=APPROVED, timeout="5ms") for _ in range(2)]
        return [event.data["order"] for event in both[:2] if event], late

    world.define(in_async, in_blocking)
    assert world.run().result == [["a", "a"], [None, None]]


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "expression": ({"if_": "async.data.id =="}, "ExpressionError", "if_ of wait_for_event 'wait'"),
    "expression of another type": ({"if_": 5}, "StepUsageError", "CEL"),
    "timeout": ({"timeout": "soon"}, "DurationError", "'wait'"),
    "event": ({"event": ""}, "StepUsageError", "no event"),
    "condition": ({"event": Event(APPROVED, "true")}, "StepUsageError", "if_= of the wait"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_wait(world: World, bad: str) -> None:
    changed, name, said = BAD[bad]
    given: dict[str, Any] = {"event": APPROVED, "timeout": "1s", **changed}

    async def in_async(ctx: Context) -> None:
        await ctx.step.wait_for_event("wait", **given)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.wait_for_event("wait", **given)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == name
    assert said in run.error["message"]
    assert len(run.invocations) == 1
