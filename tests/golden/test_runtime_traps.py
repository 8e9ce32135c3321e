"""What hangs, starves or repeats a run on the recorded server is never answered by the runtime.

Each test drives the runtime into the situation that would tempt it. Every answer is checked against
what a response may contain, and against what was confirmed before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import onward.transport.channel
from onward import BlockingContext, Checkpointing, Context, StepError
from tests.golden.recordings import load, names
from tests.golden.runtime_replay import RETRY_BUDGET, Bench, environment
from tests.golden.tempted import Tempted, one, parallel, sequence
from tests.support.loops import LoopThread

REFUSED = (400, {"error": "invalid request body", "status": 400})
UNAVAILABLE = (503, {"error": "injected"})


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with LoopThread("traps") as loops:
        yield Bench(loops)


@pytest.fixture(params=["async", "blocking"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["asgi", "lambda"])
def entry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tempted(
    bench: Bench, driver: str, entry: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tempted]:
    environment(monkeypatch, signed=False)
    monkeypatch.setattr(onward.transport.channel, "RETRY_BUDGET", RETRY_BUDGET)
    tempted = Tempted(bench, driver, entry)
    yield tempted
    tempted.app.channel.close()


BUFFERED = Checkpointing(buffered_steps=10)


# Which test shows which trap to be unreachable

SHOWN_BY = {
    "edge-checkpoint-does-not-reset-attempt": "test_a_retried_call_that_gets_on_counts_anew",
    "edge-checkpointed-and-answered": "test_several_results_at_a_sleep_are_confirmed_before_it",
    "edge-continue-repeated-id-hangs": "test_each_call_continues_under_an_id_of_its_own",
    "edge-continue-resets-attempt": "test_a_step_that_always_fails_uses_up_its_attempts",
    "edge-continue-unique-ids": "test_each_call_continues_under_an_id_of_its_own",
    "edge-none-op-empty-id": "test_a_run_that_is_over_ends_quietly",
    "edge-none-op-with-id": "test_a_run_that_is_over_ends_quietly",
    "edge-planned-branches-race": "test_branches_with_sleeps_as_recorded",
    "edge-sleep-beside-wait-race-once": "test_sleeps_beside_each_other_race_in_every_answer",
    "edge-sleep-beside-wait-starves": "test_sleeps_beside_each_other_race_in_every_answer",
    "edge-steprun-then-stepfailed-hangs": "test_a_confirmed_step_is_never_failed_later",
    "edge-stepruns-beside-discovery": "test_several_results_at_the_deadline_are_confirmed",
    "edge-stepruns-beside-plan": "test_several_results_at_a_sleep_are_confirmed_before_it",
    "edge-stepruns-beside-steperror": "test_results_before_a_failed_step_are_confirmed_before_it",
    "edge-three-stepruns-in-one-response": "test_results_that_nothing_confirms_come_with_a_plan",
    "edge-two-steperrors": "test_two_failed_branches_make_one_error",
    "edge-wait-beside-discovery-hangs": "test_no_continuation_beside_a_sleep",
}


def test_every_trap_is_shown_to_be_unreachable() -> None:
    assert set(SHOWN_BY) == {name for name in names() if name.startswith("edge-")}
    assert all(callable(globals()[test]) for test in SHOWN_BY.values())


# The traps


@pytest.mark.parametrize(
    "recorded", ["edge-sleep-beside-wait-starves", "edge-sleep-beside-wait-race-once"]
)
def test_sleeps_beside_each_other_race_in_every_answer(tempted: Tempted, recorded: str) -> None:
    async def in_async(ctx: Context) -> str:
        async def branch() -> None:
            await ctx.step.sleep("nap", "1s")
            await ctx.step.run("b", one)

        await ctx.step.run("a", one)
        await asyncio.gather(branch(), ctx.step.sleep("wait", "8s"))
        return "ok"

    def in_blocking(ctx: BlockingContext) -> str:
        def branch() -> None:
            ctx.step.sleep("nap", "1s")
            ctx.step.run("b", one)

        ctx.step.run("a", one)
        ctx.step.gather(branch, lambda: ctx.step.sleep("wait", "8s"))
        return "ok"

    tempted.define(in_async, in_blocking)
    first = tempted.call(recorded)
    assert (first.batches, first.shape) == ([["a"]], ["Sleep nap", "Sleep wait"])
    a, nap, wait = first.sent[0][0]["id"], first.ops[0]["id"], first.ops[1]["id"]
    after_nap = {a: {"data": 1}, nap: None}
    second = tempted.call(recorded, steps=after_nap, disable_immediate_execution=True)
    assert second.shape == ["Sleep wait", "StepPlanned b"]
    b = second.ops[1]["id"]
    third = tempted.call(
        recorded, steps=after_nap, target=b, disable_immediate_execution=True, step_id=b
    )
    assert (third.kind, third.shape, third.begun) == ("d", ["StepRun b"], ["b"])
    fourth = tempted.call(recorded, steps={**after_nap, b: {"data": 1}})
    assert fourth.shape == ["Sleep wait"]
    fifth = tempted.call(recorded, steps={**after_nap, b: {"data": 1}, wait: None})
    assert (fifth.kind, fifth.begun) == ("a", [])


def test_branches_with_sleeps_as_recorded(tempted: Tempted) -> None:
    """The ten recorded calls that starve nothing, each answered with the same ops in some order.

    The recorded wait is a sleep here.
    """

    async def in_async(ctx: Context) -> str:
        async def first() -> None:
            await ctx.step.sleep("nap", "1s")
            await ctx.step.run("X", one)
            await ctx.step.run("X2", one)

        async def second() -> None:
            await ctx.step.sleep("nap2", "1500ms")
            await ctx.step.run("Y", one)

        await asyncio.gather(first(), second(), ctx.step.sleep("wait", "6s"))
        return "ok"

    def in_blocking(ctx: BlockingContext) -> str:
        def first() -> None:
            ctx.step.sleep("nap", "1s")
            ctx.step.run("X", one)
            ctx.step.run("X2", one)

        def second() -> None:
            ctx.step.sleep("nap2", "1500ms")
            ctx.step.run("Y", one)

        ctx.step.gather(first, second, lambda: ctx.step.sleep("wait", "6s"))
        return "ok"

    tempted.define(in_async, in_blocking)
    name = "edge-planned-branches-race"
    for number, call in enumerate(load(name).calls):
        ours = tempted.call(name, number, target=call.query["stepId"])
        recorded = [
            (op["op"].replace("WaitForEvent", "Sleep"), op["id"])
            for op in call.exchange.response["body"]
        ]
        assert sorted((op["op"], op["id"]) for op in ours.ops) == sorted(recorded), number
        assert ours.sent == []


def test_several_results_at_a_sleep_are_confirmed_before_it(tempted: Tempted) -> None:
    sequence(tempted, "a", "b", "c", "nap", checkpointing=BUFFERED)
    ours = tempted.call("edge-three-stepruns-in-one-response")
    assert (ours.batches, ours.shape) == ([["a", "b", "c"]], ["Sleep nap"])


def test_several_results_at_the_deadline_are_confirmed(tempted: Tempted) -> None:
    minutes = Checkpointing(buffered_steps=10, max_runtime="10m")
    sequence(tempted, "a", "b", "c", checkpointing=minutes, expected={"c": "1h"})
    ours = tempted.call("edge-stepruns-beside-discovery")
    assert (ours.batches, ours.shape) == ([["a", "b"]], ["DiscoveryRequest continue"])
    assert ours.begun == ["a", "b"]


def test_results_before_a_failed_step_are_confirmed_before_it(tempted: Tempted) -> None:
    sequence(tempted, "a", "b", "bad", bad="bad", checkpointing=BUFFERED)
    ours = tempted.call("edge-stepruns-beside-steperror")
    assert (ours.batches, ours.shape) == ([["a", "b"]], ["StepError bad"])


def test_results_before_a_planned_step_are_confirmed_before_it(tempted: Tempted) -> None:
    parallel(tempted, "c", "d", checkpointing=BUFFERED, parallel="orchestrated")
    ours = tempted.call("edge-stepruns-beside-plan", steps={})
    assert (ours.sent, ours.shape) == ([], ["StepPlanned c", "StepPlanned d"])
    sequence(tempted, "a", "b", "nap", checkpointing=BUFFERED)
    ours = tempted.call("edge-stepruns-beside-plan")
    assert (ours.batches, ours.shape) == ([["a", "b"]], ["Sleep nap"])


@pytest.mark.parametrize("failure", [REFUSED, UNAVAILABLE])
def test_results_that_nothing_confirms_come_with_a_plan(
    tempted: Tempted, failure: tuple[int, Any]
) -> None:
    sequence(tempted, "a", "b", "c", checkpointing=Checkpointing(buffered_steps=2))
    ours = tempted.call("edge-stepruns-beside-plan", answers=(failure,))
    assert (ours.kind, ours.begun) == ("handover", ["a", "b"])
    assert ours.shape == ["StepRun a", "StepRun b", "StepPlanned c"]


def test_a_failed_step_beside_results_that_nothing_confirms_is_planned(tempted: Tempted) -> None:
    sequence(tempted, "a", "b", "bad", bad="bad", checkpointing=BUFFERED)
    ours = tempted.call("edge-stepruns-beside-steperror", answers=(REFUSED,))
    assert ours.shape == ["StepRun a", "StepRun b", "StepPlanned bad"]
    assert ours.begun == ["a", "b", "bad"]


def test_a_sleep_is_not_answered_beside_results_that_nothing_confirms(tempted: Tempted) -> None:
    sequence(tempted, "a", "b", "nap", checkpointing=BUFFERED)
    ours = tempted.call("edge-stepruns-beside-plan", answers=(REFUSED,))
    assert ours.shape == ["StepRun a", "StepRun b"]


@pytest.mark.parametrize("bad", [("bad", "b"), ("b", "bad")])
def test_two_failed_branches_make_one_error(tempted: Tempted, bad: tuple[str, str]) -> None:
    parallel(tempted, "a", *bad, bad=bad)
    ours = tempted.call("edge-two-steperrors")
    assert (ours.batches, ours.shape) == ([["a"]], [f"StepError {bad[0]}"])


def test_two_branches_failed_for_good_make_one_failure(tempted: Tempted) -> None:
    parallel(tempted, "a", "bad", "b", bad=("bad", "b"))
    ours = tempted.call("edge-two-steperrors", attempt=2, max_attempts=3)
    assert (ours.batches, ours.shape) == ([["a"]], ["StepFailed bad"])


def test_a_failed_branch_beside_a_sleep_is_planned_and_not_reported(tempted: Tempted) -> None:
    """An error beside a sleep would starve it; the planned step fails in a call of its own."""
    parallel(tempted, "bad", "nap", bad=("bad",))
    first = tempted.call("edge-two-steperrors")
    assert (first.begun, first.shape) == ([], ["StepPlanned bad", "Sleep nap"])
    bad = first.ops[0]["id"]
    second = tempted.call("edge-two-steperrors", target=bad, step_id=bad)
    assert (second.kind, second.shape) == ("b", ["StepError bad"])


@pytest.mark.parametrize("mode", ["confirmed", "pipelined"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_confirmed_step_is_never_failed_later(tempted: Tempted, count: int, mode: Any) -> None:
    """The function raises what makes a step's failure, after the step was confirmed."""

    async def in_async(ctx: Context) -> None:
        await ctx.step.run("a", one)
        raise StepError("E", "x", step_id="a")

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("a", one)
        raise StepError("E", "x", step_id="a")

    tempted.define(in_async, in_blocking, checkpointing=Checkpointing("auto", count, 0, mode))
    ours = tempted.call("edge-steprun-then-stepfailed-hangs")
    assert (ours.batches, ours.answer.status) == ([["a"]], 400)
    assert ours.answer.body["name"] == "E"


def test_a_step_that_may_be_confirmed_is_answered_with_the_same_result(tempted: Tempted) -> None:
    """The API stores a checkpoint, says 503, and then refuses it: the result stays what it was."""
    sequence(tempted, "a", "b")
    ours = tempted.call("edge-steprun-then-stepfailed-hangs", answers=(UNAVAILABLE, REFUSED))
    assert ours.sent[0] == ours.sent[1]
    assert ours.shape == ["StepRun a", "StepPlanned b"]
    assert ours.ops[0] == ours.sent[0][0]


def test_a_step_that_another_invocation_confirmed_is_not_failed(tempted: Tempted) -> None:
    """The call is a retry, and the one before it goes on: its result came after the call did."""
    sequence(tempted, "a", bad="a")
    name = "edge-steprun-then-stepfailed-hangs"
    (stored,) = load(name).calls[0].checkpoints[0].body["steps"]
    for journal, shape in (
        ({stored["id"]: {"data": 1}}, "DiscoveryRequest continue"),
        ({}, "StepFailed a"),
    ):
        tempted.bench.api.journal, tempted.bench.api.reads = journal, []
        ours = tempted.call(name, attempt=2, max_attempts=3)
        assert ours.shape == [shape]
        assert len(tempted.bench.api.reads) == 1
    tempted.bench.api.journal = {}


def test_each_call_continues_under_an_id_of_its_own(tempted: Tempted) -> None:
    """A second answer to one call (it was delivered twice) is the same: it makes no second call."""
    minutes = Checkpointing(max_runtime="10m")
    sequence(tempted, "a", "b", checkpointing=minutes, expected={"b": "1h"})
    name = "edge-continue-unique-ids"
    ids = [tempted.call(name, n).ops[0]["id"] for n in range(len(load(name).calls))]
    assert len(set(ids)) == len(ids)
    again = [tempted.call(name, n).ops[0]["id"] for n in (0, 0)]
    assert again == [ids[0], ids[0]]


def test_nothing_continues_that_did_not_get_on(tempted: Tempted) -> None:
    """Time goes outside of steps: an error that is tried again, until the last attempt."""

    async def in_async(ctx: Context) -> None:
        await asyncio.sleep(60)
        await ctx.step.run("a", one)

    def in_blocking(ctx: BlockingContext) -> None:
        until = ctx.deadline
        while until.remaining() > 0:
            pass
        ctx.step.run("a", one)

    tempted.define(in_async, in_blocking, checkpointing=Checkpointing(max_runtime="400ms"))
    for attempt, status in ((0, 500), (1, 500), (2, 400)):
        ours = tempted.call("edge-continue-resets-attempt", attempt=attempt, max_attempts=3)
        assert (ours.answer.status, ours.answer.body["name"]) == (status, "InvocationTooSlowError")
        assert ours.begun == []


def test_a_step_that_always_fails_uses_up_its_attempts(tempted: Tempted) -> None:
    sequence(tempted, "bad", bad="bad")
    shapes = [
        tempted.call("edge-continue-resets-attempt", attempt=attempt, max_attempts=3).shape
        for attempt in range(3)
    ]
    assert shapes == [["StepError bad"], ["StepError bad"], ["StepFailed bad"]]


def test_a_retried_call_that_gets_on_counts_anew(tempted: Tempted) -> None:
    """Attempts are counted by call: the first new result of a retried one is answered at once."""
    sequence(tempted, "a", "b", "bad", bad="bad")
    name = "edge-checkpoint-does-not-reset-attempt"
    ours = tempted.call(name, 1)  # attempt 1, a is memoized
    assert (ours.sent, ours.shape, ours.begun) == ([], ["StepRun b"], ["b"])
    parallel(tempted, "a", "b", "c")
    ours = tempted.call(name, 1)
    assert [sorted(batch) for batch in ours.batches] == [["b", "c"]]
    assert ours.shape == ["DiscoveryRequest continue"]


def test_a_retried_call_without_new_results_keeps_its_attempt(tempted: Tempted) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.run("a", one)
        raise ValueError("boom")

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("a", one)
        raise ValueError("boom")

    tempted.define(in_async, in_blocking)
    name = "edge-checkpoint-does-not-reset-attempt"
    statuses = [tempted.call(name, n, max_attempts=3).answer.status for n in range(3)]
    assert statuses == [500, 500, 400]


@pytest.mark.parametrize(
    "gone",
    [
        (400, {"error": "run not found in state store", "status": 400}),
        (409, {"error": "stale generation", "status": 409}),
        (410, {"error": "runtime state is no longer available", "status": 410}),
    ],
)
def test_a_run_that_is_over_ends_quietly(tempted: Tempted, gone: tuple[int, Any]) -> None:
    sequence(tempted, "a", "b", "c")
    ours = tempted.call("edge-none-op-with-id", answers=(gone,))
    assert (ours.kind, ours.shape, ours.begun) == ("f", ["None"], ["a"])
    assert ours.ops[0]["id"]
    assert len(ours.sent) == 1


def test_no_continuation_beside_a_sleep(tempted: Tempted) -> None:
    """Time is over for a step beside a sleep: both are answered, and nothing continues."""

    async def in_async(ctx: Context) -> None:
        await ctx.step.run("a", one)
        await asyncio.gather(ctx.step.sleep("wait", "6s"), ctx.step.run("late", one, expected="1h"))

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("a", one)
        ctx.step.gather(
            lambda: ctx.step.sleep("wait", "6s"),
            lambda: ctx.step.run("late", one, expected="1h"),
        )

    tempted.define(in_async, in_blocking, checkpointing=Checkpointing(max_runtime="10m"))
    ours = tempted.call("edge-wait-beside-discovery-hangs")
    assert (ours.batches, ours.shape) == ([["a"]], ["Sleep wait", "StepPlanned late"])
    assert ours.begun == ["a"]
