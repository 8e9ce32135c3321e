"""Events that a function sends."""

from __future__ import annotations

from typing import Any

import pytest

from onward import BlockingContext, Context, NewEvent, StepError, client
from onward.core.ids import event_seed, hash_id
from onward_server.seeds import seeded_ids
from tests.support.harness import EVENT, World


@pytest.mark.parametrize(("tries", "bodies"), [(1, 2), (2, 1)], ids=["step", "request"])
def test_an_event_is_sent_once_although_it_is_sent_again(
    tries: int, bodies: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try's answer is lost after the event was taken: the second sends no twin.

    Whether the request is tried again, or the step.
    """
    monkeypatch.setattr(client, "SEND_TRIES", tries)
    lost = {"left": 1}

    def lose(path: str) -> bool:
        if path.startswith("/e/") and lost["left"]:
            lost["left"] -= 1
            return True
        return False

    events = [{"name": EVENT, "data": {"child": n}} for n in range(2)]

    async def in_async(ctx: Context) -> Any:
        if "child" in ctx.event.data:
            return "child"
        return await ctx.step.send_event("tell", events)

    def in_blocking(ctx: BlockingContext) -> Any:
        if "child" in ctx.event.data:
            return "child"
        return ctx.step.send_event("tell", events)

    world.lose_answer = lose
    world.define(in_async, in_blocking)
    run = world.run()
    assert run.starts == {"tell": bodies}
    ids = run.result
    assert len(ids) == len(set(ids)) == 2
    children = [run_id for event_id in world.sent_events() for run_id in world.runs_of(event_id)]
    assert len(children) == 3  # the run itself, and one for each event


def test_one_event_and_its_own_id(world: World) -> None:
    event = NewEvent("scenario/unheard", {"n": 1}, id="mine")

    async def in_async(ctx: Context) -> list[str]:
        return await ctx.step.send_event("tell", event)

    def in_blocking(ctx: BlockingContext) -> list[str]:
        return ctx.step.send_event("tell", event)

    world.define(in_async, in_blocking)
    run = world.run()
    assert len(run.result) == 1
    reported = [op for checkpoint in run.checkpoints for op in checkpoint.ops]
    answered = [op for each in run.invocations if each.answer.status == 206 for op in each.body]
    (op,) = [op for op in (*reported, *answered) if op["op"] == "StepRun"]
    assert op["opts"] == {"type": "step.sendEvent"}


def test_what_is_no_event(world: World) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.send_event("tell", {"data": {}})

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.send_event("tell", {"data": {}})

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "StepUsageError"
    assert "'tell'" in run.error["message"]


def test_an_event_over_the_limit_is_named_with_its_size(world: World) -> None:
    event = {"name": "scenario/large", "data": {"text": "x" * 3_200_000}}

    async def in_async(ctx: Context) -> Any:
        try:
            await ctx.step.send_event("tell", [{"name": "scenario/small"}, event])
        except StepError as error:
            return [error.name, error.message]

    def in_blocking(ctx: BlockingContext) -> Any:
        try:
            ctx.step.send_event("tell", [{"name": "scenario/small"}, event])
        except StepError as error:
            return [error.name, error.message]

    world.define(in_async, in_blocking)
    run = world.run()
    name, message = run.result
    assert name == "EventError"
    for part in ("events[1]", "'scenario/large'", "3,200,0", "3,145,728", "Nothing was sent"):
        assert part in message
    assert run.starts == {"tell": 1}
    assert len(world.sent_events()) == 1  # the one that started the run


def test_the_ids_are_those_of_the_steps_own_seed(world: World) -> None:
    """Whoever knows run and step knows them: that is why a retry sends no twins."""
    events = [{"name": "scenario/unheard", "data": {"n": n}} for n in range(3)]

    async def in_async(ctx: Context) -> Any:
        return [ctx.run_id, await ctx.step.send_event("tell", events)]

    def in_blocking(ctx: BlockingContext) -> Any:
        return [ctx.run_id, ctx.step.send_event("tell", events)]

    world.define(in_async, in_blocking)
    run_id, ids = world.run().result
    assert ids == seeded_ids(event_seed(run_id, hash_id("tell"), 0), 3)
