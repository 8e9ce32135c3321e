"""Orchestrated ops beside steps, planned steps, targeted calls, the classic mode."""

from __future__ import annotations

import json
from typing import Any

import pytest

from onward.core.buffer import FlushPolicy
from onward.core.calls import CallState
from onward.core.ids import hash_step
from onward.core.invocation import OUTSIDE_GRACE, TARGET_GRACE
from onward.core.ops import Opcode
from tests.core.driving import THREE, Driven, broke, failed_memo, memo

RACE = {"parallelMode": "race"}


# ---------------------------------------------------------------------- beside orchestrated ops


def test_a_sleep_alone_is_answered() -> None:
    it = Driven()
    it.sleep("nap", 1.5)
    (op,) = it.answers(("Sleep", "nap")).ops
    assert op.opts == {"duration": "1500ms", **RACE}
    assert op.name == "1500ms"


def test_a_sleep_began_when_it_was_called() -> None:
    it = Driven()
    a, _ = it.call("a", branch=1), it.sleep("nap", 10)
    assert it.core.running == ()
    (plan, nap) = it.answers(("StepPlanned", "a"), ("Sleep", "nap")).ops
    assert plan.id == a.id
    assert nap.opts["duration"] == "10000ms"


def test_what_runs_may_end_before_a_sleep_is_answered() -> None:
    it = Driven(policy=THREE)
    a, b, c = it.calls("a", "b", "c")
    it.starts(a, b, c)
    it.settle(a, after=1.0)
    it.delivers(a)
    it.sleep("nap", 10)
    it.call("d")
    it.rests()
    it.settle(b, after=1.0)
    it.delivers(b)
    it.rests()
    it.settle(c, after=1.0)
    it.confirms("a", "b", "c")
    it.delivers(c)
    (nap, _) = it.answers(("Sleep", "nap"), ("StepPlanned", "d")).ops
    assert nap.opts["duration"] == "8000ms"


def test_a_failed_step_beside_a_sleep_is_planned_not_reported() -> None:
    it = Driven()
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.fail(a)
    it.settle(b)
    it.confirms("b")
    it.delivers(b)
    it.sleep("nap", 1)
    it.answers(("StepPlanned", "a"), ("Sleep", "nap"))


def test_a_step_that_failed_for_good_beside_a_sleep_is_reported() -> None:
    it = Driven()
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.fail(a, broke(retriable=False))
    it.settle(b)
    it.confirms("b")
    it.delivers(b)
    it.sleep("nap", 1)
    it.answers(("StepFailed", "a"))


def test_open_ops_are_reported_again_until_their_result_is_there() -> None:
    it = Driven([memo("nap", None)])
    nap, event = it.sleep("nap", 1), it.call("event", Opcode.WAIT_FOR_EVENT)
    it.delivers(nap)
    it.call("a")
    it.answers(("WaitForEvent", "event"), ("StepPlanned", "a"))
    assert event.state is CallState.OPEN


def test_eager_again_when_nothing_orchestrated_is_open() -> None:
    it = Driven([memo("nap", None)])
    it.delivers(it.sleep("nap", 1))
    it.starts(it.call("a"), it.call("b"))


def test_a_step_that_was_planned_beside_a_sleep_is_not_run_beside_its_own_call() -> None:
    it = Driven([memo("nap", None)])
    nap = it.sleep("nap", 1)
    it.call("a")
    it.delivers(nap)
    it.call("b")
    it.answers(("StepPlanned", "a"), ("StepPlanned", "b"))


def test_where_two_results_may_have_come_at_once_one_step_is_planned_for_all_their_calls() -> None:
    it = Driven([memo("one", None), memo("two", None)])
    one, two = it.sleep("one", 1), it.sleep("two", 1)
    it.delivers(one)
    it.delivers(two)
    it.call("a")
    it.call("b")
    it.answers(("StepPlanned", "a"))


def test_eager_again_after_the_step_that_was_planned_for_all() -> None:
    it = Driven([memo("one", None), memo("two", None), memo("a")])
    one, two = it.sleep("one", 1), it.sleep("two", 1)
    it.delivers(one)
    it.delivers(two)
    a, b = it.call("a"), it.call("b")
    it.delivers(a)
    it.starts(b, it.call("c"))


def test_where_the_function_plans_parallel_steps_their_results_may_come_at_once() -> None:
    it = Driven([memo("a"), memo("b")], plan_parallel=True)
    a, b = it.call("a"), it.call("b")
    it.delivers(a)
    it.delivers(b)
    it.call("c")
    it.answers(("StepPlanned", "c"))


@pytest.mark.parametrize(
    ("code", "name"),
    [(Opcode.WAIT_FOR_SIGNAL, "WaitForSignal"), (Opcode.INVOKE_FUNCTION, "InvokeFunction")],
)
def test_every_orchestrated_op_is_answered_in_race_mode(code: Opcode, name: str) -> None:
    it = Driven()
    it.call("x", code, opts={"a": 1})
    (op,) = it.answers((name, "x")).ops
    assert op.opts == {"a": 1, **RACE}


# ---------------------------------------------------------------------- planned


def test_told_to_plan_it_plans_even_a_single_step() -> None:
    it = Driven(plan_always=True)
    it.call("a")
    (op,) = it.answers(("StepPlanned", "a")).ops
    assert op.opts == RACE


def test_told_to_plan_it_completes_all_the_same() -> None:
    it = Driven([memo("a")], plan_always=True)
    it.delivers(it.call("a"))
    it.core.returned("1")
    it.answers("RunComplete")


def test_planning_what_is_parallel_leaves_the_rest_eager() -> None:
    it = Driven(plan_parallel=True)
    a = it.call("a")
    it.runs(a)
    it.confirms("a")
    it.delivers(a)
    it.calls("b", "c")
    it.answers(("StepPlanned", "b"), ("StepPlanned", "c"))


def test_planning_flushes_the_buffer_first() -> None:
    it = Driven(plan_parallel=True, policy=THREE)
    a = it.call("a")
    it.runs(a)
    it.delivers(a)
    it.calls("b", "c")
    it.confirms("a")
    it.answers(("StepPlanned", "b"), ("StepPlanned", "c"))


def test_branches_that_wait_outside_of_steps_get_a_moment() -> None:
    it = Driven()
    it.sleep("nap", 1)
    it.busy = True
    it.rests()
    assert it.core.next_wake() == OUTSIDE_GRACE
    it.now = OUTSIDE_GRACE / 2
    it.call("a")
    it.rests()
    assert it.core.next_wake() == OUTSIDE_GRACE * 1.5
    it.now = OUTSIDE_GRACE * 1.5
    it.answers(("Sleep", "nap"), ("StepPlanned", "a"))


def test_a_memo_out_of_order_waits_a_moment_for_the_one_before_it() -> None:
    it = Driven([memo("a"), memo("b")])
    b = it.call("b")
    it.busy = True
    it.rests()
    assert it.core.next_wake() == OUTSIDE_GRACE
    it.now = OUTSIDE_GRACE
    it.delivers(b)
    a = it.call("a")
    it.delivers(a)
    (notice,) = it.notices()
    assert "'a'" in notice
    assert "another order" in notice


def test_without_anything_outside_a_memo_out_of_order_waits_for_nothing() -> None:
    it = Driven([memo("a"), memo("b")])
    it.delivers(it.call("b"))
    assert it.notices() == []


# ---------------------------------------------------------------------- targeted


def test_a_targeted_call_runs_its_step_alone() -> None:
    it = Driven([memo("nap", None)], target="b")
    nap = it.sleep("nap", 1)
    it.delivers(nap)
    _, b = it.calls("a", "b")
    it.sleep("other", 5)
    it.runs(b)
    (op,) = it.answers(("StepRun", "b")).ops
    assert (op.data, op.opts) == ('"b done"', RACE)


@pytest.mark.parametrize("attempt", [0, 1])
def test_a_targeted_step_that_fails_is_reported_whatever_else_is_open(attempt: int) -> None:
    it = Driven(target="b", attempt=attempt)
    it.sleep("nap", 5)
    b = it.call("b")
    it.starts(b)
    it.fail(b, broke("b", retry_after=3))
    response = it.answers(("StepError", "b"))
    assert response.retry_after == 3
    assert response.ops[0].opts == RACE


def test_a_targeted_step_fails_for_good_on_its_last_attempt() -> None:
    it = Driven(target="b", attempt=3)
    b = it.call("b")
    it.starts(b)
    it.fail(b)
    it.reads()
    assert it.answers(("StepFailed", "b")).no_retry is True


def test_a_targeted_step_is_tried_again_in_place_after_a_delay() -> None:
    it = Driven([memo("late")], target="b", attempt=1)
    b = it.call("b", in_place_left=1)
    it.starts(b)
    it.fail(b)
    it.call("late", branch=2)
    it.rests()
    wake = it.core.next_wake()
    assert wake > it.now
    it.now = wake
    it.runs(b)
    it.answers(("StepRun", "b"))


@pytest.mark.parametrize("called", [True, False])
def test_a_targeted_step_whose_result_is_there_is_answered_again(*, called: bool) -> None:
    it = Driven([memo("b", {"n": 1})], target="b")
    if called:
        it.delivers(it.call("b"))
    it.call("c")
    known_as = "b" if called else hash_step("b", 0)
    (op,) = it.answers(("StepRun", known_as)).ops
    assert json.loads(op.data or "") == {"n": 1}


def test_a_targeted_step_that_has_failed_for_good_is_answered_again() -> None:
    it = Driven([failed_memo("b")], target="b")
    it.delivers(it.call("b"))
    it.call("c")
    (op,) = it.answers(("StepFailed", "b")).ops
    assert op.error is not None
    assert op.error.message == "b broke"


def test_a_targeted_step_that_lost_its_race_ends_the_call_quietly() -> None:
    it = Driven([memo("a")], target="b")
    a, b = it.calls("a", "b")
    it.delivers(a)
    it.core.closed(b)
    it.call("c")
    it.answers("None")


def test_a_race_that_was_lost_before_the_step_was_reached_is_no_error() -> None:
    it = Driven([memo("a")], target="b2")
    a, b = it.calls("a", "b")
    it.delivers(a)
    it.core.closed(b)
    it.call("c")
    it.answers("None")


def test_a_targeted_step_that_is_never_reached_is_an_error_that_names_what_is() -> None:
    it = Driven(target="gone")
    it.call("here")
    response = it.errs()
    assert response.status == 500
    assert response.error is not None
    assert response.error.name == "StepNotFoundError"
    assert "'here'" in response.error.message


def test_a_targeted_step_behind_something_that_is_no_step_is_waited_for() -> None:
    it = Driven(target="b")
    it.call("a")
    it.busy = True
    it.rests()
    assert it.core.next_wake() == TARGET_GRACE
    it.now = TARGET_GRACE / 2
    it.busy = False
    it.starts(it.call("b"))


def test_what_a_targeted_call_has_begun_is_all_that_it_answers_for() -> None:
    """Else a result that comes up late could cancel the step, and nobody would be called."""
    it = Driven([memo("late")], target="b")
    b = it.call("b")
    it.starts(b)
    it.call("late", branch=2)
    it.rests()
    it.settle(b)
    it.answers(("StepRun", "b"))


def test_a_targeted_call_may_find_the_function_at_its_end() -> None:
    it = Driven([memo("a")], target="b")
    a, b = it.calls("a", "b")
    it.delivers(a)
    it.core.closed(b)
    it.core.returned("1")
    it.answers("RunComplete")


def test_a_function_that_fails_in_a_targeted_call_fails() -> None:
    it = Driven([memo("a")], target="b", attempt=1)
    a, _ = it.calls("a", "b")
    it.delivers(a)
    it.core.raised(broke())
    assert it.errs().status == 500


# ---------------------------------------------------------------------- classic


def test_classic_runs_one_step_a_call() -> None:
    it = Driven(policy=None)
    a = it.call("a")
    it.runs(a)
    (op,) = it.answers(("StepRun", "a")).ops
    assert op.opts == {}


def test_classic_plans_what_is_parallel() -> None:
    it = Driven(policy=None)
    it.calls("a", "b")
    it.answers(("StepPlanned", "a"), ("StepPlanned", "b"))


def test_classic_returns_a_plain_result() -> None:
    it = Driven([memo("a")], policy=None)
    it.delivers(it.call("a"))
    it.core.returned('{"n": 1}')
    action = it.next()
    response: Any = getattr(action, "response", None)
    assert (response.status, response.result, response.ops) == (200, '{"n": 1}', ())


def test_classic_reports_a_failed_step() -> None:
    it = Driven(policy=None)
    a = it.call("a")
    it.starts(a)
    it.fail(a)
    it.answers(("StepError", "a"))


def test_classic_goes_on_after_a_step_that_its_branch_gave_up() -> None:
    """It must not continue: nothing was achieved, and the next call would do the same."""
    it = Driven(policy=None)
    a = it.call("a")
    it.starts(a)
    assert it.core.closed(a)
    b = it.call("b")
    it.runs(b)
    it.answers(("StepRun", "b"))


def test_classic_never_checkpoints() -> None:
    it = Driven(policy=None)
    a = it.call("a")
    it.starts(a)
    it.call("b", branch=2)
    it.settle(a)
    assert it.core.flush_due(1000.0) is None
    it.answers(("StepRun", "a"))


def test_a_large_window_of_results_is_flushed_before_a_sleep() -> None:
    it = Driven(policy=FlushPolicy(100))
    for n in range(20):
        call = it.call(f"s{n}")
        it.runs(call)
        it.delivers(call)
    it.sleep("nap", 1)
    it.confirms(*(f"s{n}" for n in range(20)))
    it.answers(("Sleep", "nap"))


def test_what_one_response_cannot_carry_is_planned_when_something_is_resolved() -> None:
    calls = [("a", 2_000_000), ("b", 2_000_000), ("c", 1_000_000), ("d", 1)]
    it = Driven()
    for name, size in calls:
        it.call(name, Opcode.INVOKE_FUNCTION, branch=name, size=size)
    kind = "InvokeFunction"
    it.answers((kind, "a"), (kind, "c"))
    it = Driven([memo("a")])
    for name, size in calls:
        it.call(name, Opcode.INVOKE_FUNCTION, branch=name, size=size)
    it.delivers(it.core._calls[hash_step("a", 0)])
    it.answers((kind, "b"), (kind, "c"))
