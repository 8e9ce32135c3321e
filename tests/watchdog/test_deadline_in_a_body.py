"""The deadline comes while a body runs: what is finished is flushed, and the body is stopped."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

import onward
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import Entry, LambdaEntry, call_request, request_after, shape_of
from tests.support.linear import Ledger, linear_app
from tests.watchdog.bodies import LONG_S, sleep_holding_the_gil, spin, sum_for

#: What the platform says remains; half of it is the margin.
REMAINING = 0.8
MARGIN = "0.4s"

BUFFERED = onward.Checkpointing(buffered_steps=100)


def never() -> bool:
    return False


def then_spin(hold: Callable[[float], object]) -> None:
    hold(0.7)
    spin(never)


class Cut:
    """What became of a body that was stopped."""

    def __init__(self) -> None:
        self.cleaned_up = 0

    def around(self, body: Callable[[], Any]) -> Callable[[], Any]:
        def wrapped() -> Any:
            try:
                return body()
            finally:
                self.cleaned_up += 1

        return wrapped

    def around_async(self, seconds: float) -> Callable[[], Any]:
        async def wrapped() -> None:
            try:
                await asyncio.sleep(seconds)
            finally:
                self.cleaned_up += 1

        return wrapped


BODIES: dict[str, Callable[[], Any]] = {
    "python": lambda: spin(never),
    "gil held past the deadline": lambda: then_spin(sleep_holding_the_gil),
    "a built-in past the deadline": lambda: then_spin(sum_for),
}


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ("asgi", "python"),
        ("asgi", "async"),
        ("asgi", "a built-in past the deadline"),
        ("lambda", "python"),
        ("lambda", "async"),
        ("lambda", "gil held past the deadline"),
    ],
    indirect=["entry"],
)
def test_finished_steps_are_flushed_and_the_body_is_cut(
    entry: Entry, driver: str, kind: str, api: CheckpointApi
) -> None:
    ledger, cut = Ledger(), Cut()
    long = cut.around_async(LONG_S) if kind == "async" else cut.around(BODIES[kind])
    plan = [*ledger.bodies("s1", "s2"), ("long", long), *ledger.bodies("s4")]
    app = linear_app(driver, ledger, plan, checkpointing=BUFFERED, deadline_margin=MARGIN)
    remaining = 1.2 if "past" in kind else REMAINING
    answer = entry.call(app, call_request(), remaining=remaining)
    # The invocation made progress, so the step that was cut has not failed: it comes first next.
    assert shape_of(answer) == "continue"
    assert api.stored() == ["s1", "s2"]
    assert len(api.checkpoints) == 1
    assert cut.cleaned_up == 1
    assert ledger.ended == ["s1", "s2"]
    assert ledger.unwound == 1


def test_a_step_that_was_cut_has_the_next_invocation_to_itself(
    entry: Entry, driver: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    tries: list[float] = []

    def needs_time() -> str:
        tries.append(1)
        spin(lambda: len(tries) > 1)
        return "done"

    async def needs_time_async() -> str:
        tries.append(1)
        await asyncio.sleep(LONG_S if len(tries) < 2 else 0)
        return "done"

    body = needs_time_async if driver == "async" else needs_time
    plan = [*ledger.bodies("s1"), ("long", body), *ledger.bodies("s3")]
    app = linear_app(driver, ledger, plan, checkpointing=BUFFERED, deadline_margin=MARGIN)
    assert shape_of(entry.call(app, call_request(), remaining=REMAINING)) == "continue"
    answer = entry.call(app, request_after(api), remaining=30.0)
    assert answer.ops[-1]["data"] == ["result of s1", "done", "result of s3"]
    assert ledger.ended == ["s1", "s3"]
    assert len(tries) == 2


@pytest.mark.parametrize(("entry", "attempt"), [("asgi", 0), ("lambda", 3)], indirect=["entry"])
def test_without_progress_it_is_step_timed_out(
    entry: Entry, driver: str, attempt: int, api: CheckpointApi
) -> None:
    ledger, cut = Ledger(), Cut()
    plan = [("long", cut.around(lambda: spin(never))), *ledger.bodies("s2")]
    app = linear_app(driver, ledger, plan, deadline_margin=MARGIN)
    answer = entry.call(app, call_request(attempt=attempt), remaining=REMAINING)
    assert answer.brief == [("StepError" if attempt == 0 else "StepFailed", "long")]
    assert answer.headers["x-inngest-no-retry"] == ("false" if attempt == 0 else "true")
    error = answer.ops[0]["error"]
    assert error["name"] == "StepTimedOutError"
    assert "'long' ran for 0." in error["message"]
    assert "split it, or raise the platform's timeout" in error["message"]
    assert cut.cleaned_up == 1
    assert api.checkpoints == []


@pytest.mark.parametrize("entry", ["asgi"], indirect=True)
def test_a_replay_is_no_progress(entry: Entry, driver: str, api: CheckpointApi) -> None:
    ledger = Ledger()
    plan = [*ledger.bodies("s1"), ("long", lambda: spin(never))]
    app = linear_app(driver, ledger, plan, deadline_margin=MARGIN)
    assert shape_of(entry.call(app, call_request(), remaining=REMAINING)) == "continue"
    answer = entry.call(app, request_after(api), remaining=REMAINING)
    assert answer.brief == [("StepError", "long")]
    assert answer.ops[0]["error"]["name"] == "StepTimedOutError"
    assert ledger.ended == ["s1"]


def test_time_spent_outside_of_steps(entry: Entry, driver: str, api: CheckpointApi) -> None:
    app = onward.App("lab", deadline_margin=MARGIN)
    register = app.function("idle", trigger=onward.Event("test/asked"))
    cleaned_up: list[str] = []

    async def idle(ctx: onward.Context) -> None:
        try:
            await asyncio.sleep(LONG_S)
        finally:
            cleaned_up.append("yes")

    def idle_blocking(ctx: onward.BlockingContext) -> None:
        try:
            spin(never)
        finally:
            cleaned_up.append("yes")

    register(idle if driver == "async" else idle_blocking)
    answer = entry.call(app, call_request(), remaining=REMAINING)
    assert shape_of(answer) == "error"
    assert answer.status == 500
    assert answer.body["name"] == "InvocationTooSlowError"
    assert "Put the slow code into `ctx.step.run`" in answer.body["message"]
    assert cleaned_up == ["yes"]


def test_a_sleeping_call_on_the_main_thread_is_interrupted(
    api: CheckpointApi,
) -> None:
    """Lambda runs blocking functions there: a signal ends the system call itself."""
    ledger, cut = Ledger(), Cut()
    plan = [*ledger.bodies("s1"), ("long", cut.around(lambda: time.sleep(LONG_S)))]
    app = linear_app("blocking", ledger, plan, deadline_margin=MARGIN)
    answer = LambdaEntry().call(app, call_request(), remaining=REMAINING)
    assert shape_of(answer) == "continue"
    assert cut.cleaned_up == 1


def test_several_bodies_are_cut_together(entry: Entry, driver: str, api: CheckpointApi) -> None:
    ledger, cut = Ledger(), Cut()
    app = onward.App("lab", checkpointing=BUFFERED, deadline_margin=MARGIN)
    register = app.function("wide", trigger=onward.Event("test/asked"))
    bodies = [cut.around(lambda: spin(never)), cut.around_async(LONG_S), ledger.body("quick")]

    async def wide(ctx: onward.Context) -> None:
        async with asyncio.TaskGroup() as group:
            for number, body in enumerate(bodies):
                group.create_task(ctx.step.run(f"b{number}", body))

    def wide_blocking(ctx: onward.BlockingContext) -> None:
        def branch(number: int) -> Any:
            return ctx.step.run(f"b{number}", bodies[number])

        ctx.step.gather(lambda: branch(0), lambda: branch(1), lambda: branch(2))

    register(wide if driver == "async" else wide_blocking)
    answer = entry.call(app, call_request(), remaining=REMAINING)
    assert shape_of(answer) == "continue"
    assert api.stored() == ["b2"]
    assert cut.cleaned_up == 2
    assert json.dumps(answer.body).count("DiscoveryRequest") == 1
