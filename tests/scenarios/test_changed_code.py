"""A function that is changed under a running run: each change has its stated outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

import onward
from onward import BlockingContext, Context
from tests.support.harness import World


def same(value: str) -> str:
    return value


def other(value: str) -> str:
    return f"new {value}"


def wrap(value: str) -> list[int]:
    return [len(value)]


def version(world: World, steps: Sequence[str], body: Any = same, **options: Any) -> None:
    """Steps in order; `nap` sleeps. The result are the results of the steps."""

    async def in_async(ctx: Context) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for step in steps:
            if step == "nap":
                await ctx.step.sleep("nap", "5ms")
            else:
                results[step] = await ctx.step.run(step, body, step)
        return results

    def in_blocking(ctx: BlockingContext) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for step in steps:
            if step == "nap":
                ctx.step.sleep("nap", "5ms")
            else:
                results[step] = ctx.step.run(step, body, step)
        return results

    world.define(in_async, in_blocking, **options)


class Changed:
    """A run whose first invocation has the first version, and every later one the second."""

    def __init__(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        self.world = world
        self.caplog = caplog

    def run(self, before: Sequence[str], after: Sequence[str], **changes: Any) -> Any:
        """The run. Its first version suspends at `nap`."""
        version(self.world, before)

        def deploy(call: int) -> None:
            if call == 2:
                version(self.world, after, **changes)

        self.world.before_call = deploy
        with self.caplog.at_level(logging.WARNING, logger="onward"):
            return self.world.run()

    def warnings(self, part: str) -> list[str]:
        """The warnings that say `part`."""
        return [r.getMessage() for r in self.caplog.records if part in r.getMessage()]


@pytest.fixture
def changed(world: World, caplog: pytest.LogCaptureFixture) -> Changed:
    return Changed(world, caplog)


def test_an_added_step_runs_when_it_is_reached(changed: Changed) -> None:
    run = changed.run(["a", "nap", "b"], ["a", "new", "nap", "b"])
    assert run.result == {"a": "a", "new": "new", "b": "b"}
    assert run.starts == {"a": 1, "new": 1, "b": 1}


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="several steps in one invocation"
)
def test_a_renamed_step_runs_again_under_its_new_id(changed: Changed) -> None:
    run = changed.run(["a", "old", "nap"], ["a", "renamed", "nap"])
    assert run.result == {"a": "a", "renamed": "renamed"}
    assert run.starts == {"a": 1, "old": 1, "renamed": 1}
    assert len(changed.warnings("1 recorded result(s)")) == 1


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="several steps in one invocation"
)
def test_reordered_steps_keep_their_results(changed: Changed) -> None:
    run = changed.run(["a", "b", "c", "nap"], ["c", "a", "b", "nap"])
    assert run.result == {"c": "c", "a": "a", "b": "b"}
    assert run.once
    (warning,) = changed.warnings("in another order")
    assert "'a'" in warning


def test_a_deleted_steps_result_stays_unused(changed: Changed) -> None:
    run = changed.run(["a", "b", "nap", "c"], ["b", "nap", "c"])
    assert run.result == {"b": "b", "c": "c"}
    assert run.once
    assert len(changed.warnings("1 recorded result(s)")) == 1


def test_a_changed_body_leaves_finished_steps_alone(changed: Changed) -> None:
    run = changed.run(["a", "nap", "b"], ["a", "nap", "b"], body=other)
    assert run.result == {"a": "a", "b": "new b"}
    assert changed.warnings("") == []


def test_a_recorded_result_that_does_not_fit_its_new_type(changed: Changed) -> None:
    run = changed.run(["a", "nap"], ["a", "nap"], body=wrap)
    assert run.error["name"] == "ResultError"
    assert "'a'" in run.error["message"]
    assert run.starts == {"a": 1}


def test_a_deleted_sleep_is_not_waited_for_again(changed: Changed) -> None:
    run = changed.run(["a", "nap", "b"], ["a", "b"])
    assert run.result == {"a": "a", "b": "b"}
    assert run.once


def test_a_planned_step_that_is_gone(world: World) -> None:
    """The orchestrator asks for the step; the error says what the function waits for instead."""

    def deploy(with_the_step: bool) -> None:
        async def in_async(ctx: Context) -> None:
            steps = [ctx.step.run("old", same, "x")] if with_the_step else []
            await asyncio.gather(*steps, ctx.step.sleep("nap", "1w"))

        def in_blocking(ctx: BlockingContext) -> None:
            steps = [lambda: ctx.step.run("old", same, "x")] if with_the_step else []
            ctx.step.gather(*steps, lambda: ctx.step.sleep("nap", "1w"))

        world.define(in_async, in_blocking, retries=1)

    deploy(with_the_step=True)
    world.before_call = lambda call: deploy(with_the_step=False) if call == 2 else None
    run = world.run()
    assert run.error["name"] == "StepNotFoundError"
    assert "'nap'" in run.error["message"]
    assert [i.answer.status for i in run.invocations] == [206, 500, 400]
    assert run.starts == {}


def test_a_function_that_is_gone(world: World) -> None:
    """Its calls fail until it is back: a deployment in between loses nothing."""
    version(world, ["a", "nap", "b"])
    whole = world.app
    assert whole is not None

    def deploy(call: int) -> None:
        present = call != 2
        app = whole if present else onward.App(whole.id, orchestrator=whole.orchestrator)
        world.deploy(app)

    world.before_call = deploy
    run = world.run()
    assert run.result == {"a": "a", "b": "b"}
    assert run.invocations[1].body["name"] == "UnknownFunctionError"
    assert run.once


#: What `x` was, what it is now, and the result or the error that it has now.
KINDS: dict[str, tuple[str, str, Any]] = {
    "run, now a sleep": ("run", "sleep", None),
    "run, now an invoked function": ("run", "invoke", "x"),
    "run, now a wait": ("run", "wait", "WaitForEvent"),
    "run, now a signal": ("run", "signal", "WaitForSignal"),
    "sleep, now a run": ("sleep", "run", None),
    "sleep, now a wait": ("sleep", "wait", None),
    "wait that timed out, now a run": ("wait", "run", None),
    "invoked function, now a run": ("invoke", "run", "child of x"),
}


def of_kind(world: World, kind: str, **options: Any) -> None:
    """A function of one step `x` of this kind and a sleep. Its result is that of `x`."""
    made: dict[str, Any] = {
        "run": lambda step: step.run("x", lambda: "x"),
        "sleep": lambda step: step.sleep("x", "5ms"),
        "invoke": lambda step: step.invoke("x", "child", data={"of": "x"}),
        "wait": lambda step: step.wait_for_event("x", event="scenario/never", timeout="5ms"),
        "signal": lambda step: step.wait_for_signal("x", signal="never", timeout="5ms"),
    }

    async def in_async(ctx: Context) -> Any:
        result = await made[kind](ctx.step)
        await ctx.step.sleep("nap", "5ms")
        return result

    def in_blocking(ctx: BlockingContext) -> Any:
        result = made[kind](ctx.step)
        ctx.step.sleep("nap", "5ms")
        return result

    async def child_async(ctx: Context) -> Any:
        return f"child of {ctx.event.data['of']}"

    def child_blocking(ctx: BlockingContext) -> Any:
        return f"child of {ctx.event.data['of']}"

    world.define(in_async, in_blocking, **options)
    child: Any = child_async if world.driver == "async" else child_blocking
    assert world.app is not None
    world.app.function("child", trigger=onward.Event("scenario/never"))(child)


@pytest.mark.parametrize("change", KINDS)
def test_a_step_becomes_one_of_another_kind(world: World, change: str) -> None:
    """What can be read as the new kind's result is; else nothing runs, and the error says why."""
    before, after, expected = KINDS[change]
    of_kind(world, before, retries=1)

    def deploy(_: int) -> None:
        waits = [call for call in world.invocations if "Sleep nap" in call.shape]
        if waits:
            of_kind(world, after, retries=1)

    world.before_call = deploy
    run = world.run()
    if expected in ("WaitForEvent", "WaitForSignal"):
        assert run.error["name"] == "MalformedCallRequestError"
        assert f"of kind {expected}" in run.error["message"]
        assert [call.answer.status for call in run.invocations][-2:] == [500, 400]
    else:
        assert run.result == expected
    assert run.starts == ({"x": 1} if before == "run" else {})


@pytest.mark.checkpointing(reason="each version of it has a mode of its own")
def test_checkpointing_may_change_at_any_call(world: World) -> None:
    modes = [True, False, onward.Checkpointing(buffered_steps=5), onward.PERFORMANT]
    steps = ["a", "b", "nap", "c", "d"]
    version(world, steps, checkpointing=modes[0])
    world.before_call = lambda call: version(world, steps, checkpointing=modes[call % len(modes)])
    run = world.run()
    assert run.result == {step: step for step in steps if step != "nap"}
    assert run.once
