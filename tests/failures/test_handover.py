"""A checkpoint API that fails for good: finished steps are handed over in the response."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

import onward
from tests.failures.faults import (
    FAILURES,
    NAMES,
    OUTAGES,
    REFUSALS,
    NotYetError,
    fail_after,
    finish,
    linear,
    take,
)
from tests.support.checkpoint_api import HANG, UNAVAILABLE, CheckpointApi, Reply
from tests.support.entries import Entry, call_request, request_after, shape_of, step_id
from tests.support.linear import Ledger

pytestmark = pytest.mark.usefixtures("budget")

#: Options, how many checkpoints get through, what is handed over, and the step planned beside it.
POINTS: dict[str, tuple[dict[str, Any], int, list[str], str]] = {
    "first": ({}, 0, ["s1"], "s2"),
    "middle": ({}, 2, ["s3"], "s4"),
    "first of three": ({"buffered_steps": 3}, 0, ["s1", "s2", "s3"], "s4"),
}


SOME = ["503", "stored, then no answer", "truncated", "401", "422"]


@pytest.mark.parametrize(
    ("point", "failure"),
    [
        *(("first", failure) for failure in (*OUTAGES, *REFUSALS)),
        *(("middle", failure) for failure in SOME),
        *(("first of three", failure) for failure in SOME),
    ],
)
def test_finished_steps_are_handed_over(
    entry: Entry, driver: str, point: str, failure: str, api: CheckpointApi
) -> None:
    options, before, finished, planned = POINTS[point]
    ledger = Ledger()
    app = linear(driver, ledger, **options)
    fail_after(before, api, FAILURES[failure])
    answer = entry.call(app, call_request())
    assert shape_of(answer, unconfirmable=True) == "handover"
    assert answer.brief == [*(("StepRun", name) for name in finished), ("StepPlanned", planned)]
    tries = len(api.checkpoints) - before
    assert tries == 1 if failure in REFUSALS else tries >= 1
    assert ledger.unwound == 1

    take(answer, api)
    last = finish(entry, app, api)
    assert last.ops[-1]["data"][0] == "result of s1"
    assert api.stored() == NAMES
    assert ledger.ended == NAMES


@pytest.mark.parametrize("failure", SOME)
def test_pipelined_steps_are_handed_over(
    entry: Entry, driver: str, failure: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    plan = ledger.bodies(*NAMES)
    # The second body ends only after the checkpoint of the first has come.
    plan[1] = ("s2", ledger.body("s2", lambda: api.wait_for(1)))
    app = linear(driver, ledger, plan, mode="pipelined")
    fail_after(0, api, FAILURES[failure])
    answer = entry.call(app, call_request())
    handed = [name for kind, name in answer.brief if kind == "StepRun"]
    assert shape_of(answer, unconfirmable=True) in {"handover", "complete"}
    assert handed == ledger.ended
    assert handed[:2] == ["s1", "s2"]

    take(answer, api)
    last = answer if answer.ops[-1]["op"] == "RunComplete" else finish(entry, app, api)
    assert last.ops[-1]["data"][0] == "result of s1"
    assert ledger.ended == NAMES


@pytest.mark.parametrize("failure", ["503", "no answer", "400"])
def test_at_the_last_checkpoint_the_results_ride_with_the_completion(
    entry: Entry, driver: str, failure: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    app = linear(driver, ledger)
    fail_after(4, api, FAILURES[failure])
    answer = entry.call(app, call_request())
    assert answer.brief == [("StepRun", "s5"), ("RunComplete", "")]
    assert ledger.ended == NAMES


@pytest.mark.parametrize("failure", ["503", "reset", "403"])
def test_before_a_completion_that_is_too_large_to_ride_with(
    entry: Entry, driver: str, failure: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    names = [f"s{n}" for n in range(130)]
    app = linear(driver, ledger, ledger.bodies(*names), buffered_steps=1000)
    fail_after(0, api, FAILURES[failure])
    answer = entry.call(app, call_request())
    assert shape_of(answer) == "complete"
    assert [op["displayName"] for op in answer.ops[:-1]] == names
    assert ledger.ended == names


@pytest.mark.parametrize("failure", ["503", "hung up", "no answer", "422"])
@pytest.mark.parametrize("finished", [["s1"], ["s1", "s2"]])
def test_before_a_sleep(
    entry: Entry, driver: str, finished: list[str], failure: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    plan = [*ledger.bodies(*finished), ("pause", "1h"), *ledger.bodies("after")]
    app = linear(driver, ledger, plan, buffered_steps=10)
    fail_after(0, api, FAILURES[failure])
    answer = entry.call(app, call_request())
    # A sleep beside them would starve: they go alone, and the sleep is reported by the next call.
    assert answer.brief == [("StepRun", name) for name in finished]
    assert ledger.unwound == 1

    take(answer, api)
    again = entry.call(app, request_after(api))
    assert shape_of(again) == "plan"
    assert again.brief == [("Sleep", "pause")]
    finish(entry, app, api)
    assert ledger.ended == [*finished, "after"]


@pytest.mark.parametrize("failure", ["503", "429", "truncated", "no answer", "401", "403"])
def test_before_a_failed_step(entry: Entry, driver: str, failure: str, api: CheckpointApi) -> None:
    ledger = Ledger()

    def fail_once() -> str:
        if ledger.began.count("bad") == 1:
            raise NotYetError("not yet")
        return "at last"

    plan = [*ledger.bodies("s1", "s2"), ("bad", ledger.body("bad", fail_once))]
    app = linear(driver, ledger, plan, buffered_steps=10)
    fail_after(0, api, FAILURES[failure])
    answer = entry.call(app, call_request())
    # StepError beside them would run the failed step again beside its own retry: it is planned.
    assert answer.brief == [("StepRun", "s1"), ("StepRun", "s2"), ("StepPlanned", "bad")]

    take(answer, api)
    last = finish(entry, app, api)
    assert last.ops[-1]["data"] == ["result of s1", "result of s2", "at last"]
    assert ledger.began == ["s1", "s2", "bad", "bad"]


@pytest.mark.parametrize("failure", ["503", "no answer", "403"])
def test_before_an_error_of_the_function(
    entry: Entry, driver: str, failure: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    app = onward.App("lab", checkpointing=onward.Checkpointing(buffered_steps=10))
    register = app.function("failing", trigger=onward.Event("test/asked"))

    async def failing(ctx: onward.Context) -> None:
        await ctx.step.run("s1", ledger.body("s1"))
        raise NotYetError("the function gives up")

    def failing_blocking(ctx: onward.BlockingContext) -> None:
        ctx.step.run("s1", ledger.body("s1"))
        raise NotYetError("the function gives up")

    register(failing if driver == "async" else failing_blocking)
    fail_after(0, api, FAILURES[failure])
    answer = entry.call(app, call_request())
    assert answer.brief == [("StepRun", "s1")]

    take(answer, api)
    again = entry.call(app, request_after(api))
    assert again.status == 500
    assert again.body["name"] == "NotYetError"
    assert ledger.ended == ["s1"]


@pytest.mark.parametrize("failure", ["503", "no answer", "403"])
def test_while_a_body_runs(entry: Entry, driver: str, failure: str, api: CheckpointApi) -> None:
    ledger = Ledger()
    plan = [
        ("s1", ledger.body("s1")),
        ("s2", ledger.body("s2", partial(api.wait_for, 1))),
        *ledger.bodies("s3"),
    ]
    app = linear(driver, ledger, plan, buffered_steps=10, max_interval=0.02)
    fail_after(0, api, FAILURES[failure])
    answer = entry.call(app, call_request())
    assert answer.brief == [("StepRun", "s1"), ("StepRun", "s2"), ("StepPlanned", "s3")]
    take(answer, api)
    finish(entry, app, api)
    assert ledger.ended == ["s1", "s2", "s3"]


def test_before_a_continuation(entry: Entry, driver: str, api: CheckpointApi) -> None:
    """The deadline comes, and what is buffered cannot be confirmed."""
    ledger = Ledger()
    app = onward.App("lab", checkpointing=onward.Checkpointing(buffered_steps=10))
    register = app.function("long", trigger=onward.Event("test/asked"))

    async def long(ctx: onward.Context) -> None:
        await ctx.step.run("s1", ledger.body("s1"))
        await ctx.step.run("s2", ledger.body("s2"), expected="1h")

    def long_blocking(ctx: onward.BlockingContext) -> None:
        ctx.step.run("s1", ledger.body("s1"))
        ctx.step.run("s2", ledger.body("s2"), expected="1h")

    register(long if driver == "async" else long_blocking)
    fail_after(0, api, UNAVAILABLE)
    answer = entry.call(app, call_request(), remaining=60.0)
    assert answer.brief == [("StepRun", "s1"), ("StepPlanned", "s2")]
    assert ledger.began == ["s1"]


@pytest.mark.parametrize("size", [900_000, 2_500_000])
def test_a_response_holds_what_fits_and_the_rest_runs_again(
    entry: Entry, driver: str, size: int, api: CheckpointApi
) -> None:
    """Five results of which one response holds three, or one."""
    ledger = Ledger()
    app = onward.App("lab", checkpointing=onward.Checkpointing(mode="pipelined"))
    register = app.function("large", trigger=onward.Event("test/asked"))

    def result_of(name: str) -> str:
        # As long as the first checkpoint has not failed, results gather.
        if name == "s2":
            api.wait_for(1)
        return name * (size // 2)

    async def large(ctx: onward.Context) -> list[int]:
        return [
            len(await ctx.step.run(name, ledger.body(name, partial(result_of, name))))
            for name in NAMES
        ]

    def large_blocking(ctx: onward.BlockingContext) -> list[int]:
        return [
            len(ctx.step.run(name, ledger.body(name, partial(result_of, name)))) for name in NAMES
        ]

    register(large if driver == "async" else large_blocking)
    fail_after(0, api, Reply(fault=HANG))
    answer = entry.call(app, call_request())
    assert shape_of(answer, unconfirmable=True) in {"step", "steps", "handover"}
    handed = [name for kind, name in answer.brief if kind == "StepRun"]
    finished = list(ledger.ended)
    assert handed == finished[: len(handed)]
    take(answer, api)
    last = finish(entry, app, api)
    assert last.ops[-1]["data"] == [size // 2 * 2] * 5
    for name in NAMES:
        again = name in finished and name not in handed
        assert ledger.ended.count(name) == (2 if again else 1)


def test_step_ids_of_what_is_handed_over(entry: Entry, driver: str, api: CheckpointApi) -> None:
    ledger = Ledger()
    app = linear(driver, ledger, ledger.bodies("s1", "s1", "s2"), buffered_steps=2)
    api.default = Reply(403)
    answer = entry.call(app, call_request())
    assert [op["id"] for op in answer.ops] == [step_id("s1"), step_id("s1", 1), step_id("s2")]
