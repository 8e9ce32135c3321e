"""The deadline: what is begun before it, what is cut at it, what is answered after it."""

from __future__ import annotations

from math import inf

import pytest

from onward.core.actions import Hang
from onward.core.buffer import FlushPolicy
from onward.core.deadline import Deadline, Durations
from onward.core.ids import continuation_id
from onward.core.retry import Verdict
from tests.core.driving import PIPELINED, TEN_SECONDS, THREE, Driven, broke, memo


def test_at_the_deadline_it_confirms_and_continues() -> None:
    it = Driven(policy=THREE, deadline=TEN_SECONDS)
    a = it.call("a")
    it.runs(a)
    it.delivers(a)
    it.call("b", expected=20.0)
    it.confirms("a")
    (op,) = it.answers("DiscoveryRequest").ops
    assert op.id == continuation_id("request-1")


def test_a_step_that_is_not_expected_to_fit_is_not_begun() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a = it.call("a")
    it.starts(a)
    it.settle(a, after=6.0)
    it.confirms("a")
    it.delivers(a)
    it.call("b", expected=4.5)
    it.answers("DiscoveryRequest")


def test_a_step_that_fits_is_begun_before_one_that_does_not() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a = it.call("a")
    it.starts(a)
    it.settle(a, after=6.0)
    it.confirms("a")
    it.delivers(a)
    _, short = it.call("long", branch=1, expected=4.5), it.call("short", branch=2, expected=1.0)
    it.starts(short)
    it.settle(short, after=1.0)
    it.confirms("short")
    it.delivers(short)
    it.answers("DiscoveryRequest")


def test_without_progress_a_step_is_begun_although_it_is_not_expected_to_fit() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a, _ = it.call("a", branch=1, expected=60.0), it.call("b", branch=2, expected=60.0)
    it.starts(a)


def test_the_longest_body_of_a_callable_tells_what_the_next_may_need() -> None:
    durations = Durations()
    it = Driven(deadline=TEN_SECONDS, durations=durations)
    a = it.call("a", callable_key="slow")
    it.starts(a)
    it.settle(a, after=5.0)
    assert durations.expected("slow") == 7.0
    it.confirms("a")
    it.delivers(a)
    it.call("b", callable_key="slow")
    it.answers("DiscoveryRequest")


def test_a_callable_never_seen_is_not_begun_in_the_last_moments() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a = it.call("a")
    it.starts(a)
    it.settle(a, after=9.1)
    it.confirms("a")
    it.delivers(a)
    it.call("b")
    it.answers("DiscoveryRequest")


def test_running_bodies_may_end_before_it_continues() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a, after=9.5)
    it.confirms("a")
    it.delivers(a)
    it.call("a2")
    it.rests()
    it.settle(b, after=0.2)
    it.confirms("b")
    it.delivers(b)
    it.answers("DiscoveryRequest")


def test_the_watchdog_flushes_shortly_before_the_deadline() -> None:
    it = Driven(policy=FlushPolicy(10), deadline=TEN_SECONDS)
    a = it.call("a")
    it.runs(a)
    it.delivers(a)
    it.starts(it.call("b"))
    soft = TEN_SECONDS.soft_at(len('"a done"'))
    assert it.core.next_wake() == soft
    assert it.core.flush_due(soft - 0.001) is None
    flush = it.core.flush_due(soft)
    assert flush is not None
    assert [op.user_id for op in flush.ops] == ["a"]


def test_bodies_are_cut_at_the_deadline_and_those_with_progress_continue() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.confirms("a")
    it.delivers(a)
    c = it.call("c")
    it.starts(c)
    assert it.core.next_wake() == 10.0
    it.now = 10.0
    it.cuts(b, c)
    it.rests()
    it.core.was_cut(b, 10.1)
    it.core.was_cut(c, 10.1)
    it.now = 10.1
    it.answers("DiscoveryRequest")


def test_a_body_that_ends_while_it_is_cut_is_confirmed() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a = it.call("a")
    it.starts(a)
    it.now = 10.0
    it.cuts(a)
    it.settle(a, after=0.01)
    it.core.was_cut(a, 10.1)
    it.confirms("a")
    it.answers("DiscoveryRequest")


@pytest.mark.parametrize(
    ("attempt", "kind"), [(0, "StepError"), (1, "StepError"), (3, "StepFailed")]
)
def test_a_step_that_takes_the_whole_invocation_times_out(attempt: int, kind: str) -> None:
    it = Driven(deadline=TEN_SECONDS, attempt=attempt)
    a = it.call("a")
    it.starts(a)
    it.now = 10.0
    it.cuts(a)
    it.core.was_cut(a, 10.1)
    it.now = 10.1
    if kind == "StepFailed":
        it.reads()
    (op,) = it.answers((kind, "a")).ops
    assert op.error is not None
    assert op.error.name == "StepTimedOutError"
    assert "10.1 s" in op.error.message
    assert "10.0 s for steps" in op.error.message


def test_of_several_steps_that_take_the_whole_invocation_the_first_times_out() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.now = 10.0
    it.cuts(a, b)
    it.core.was_cut(b, 10.0)
    it.core.was_cut(a, 10.0)
    it.answers(("StepError", "a"))


def test_time_spent_outside_of_steps_is_an_error_that_says_so() -> None:
    it = Driven([memo("a")], deadline=TEN_SECONDS)
    it.delivers(it.call("a"))
    it.now = 12.0
    response = it.errs()
    assert response.status == 500
    assert response.error is not None
    assert response.error.name == "InvocationTooSlowError"
    assert "12.0 s of the 10.0 s" in response.error.message


def test_on_the_last_attempt_that_ends_the_run() -> None:
    it = Driven(deadline=TEN_SECONDS, attempt=3)
    it.now = 10.0
    assert it.errs().status == 400


def test_memoized_results_are_no_progress() -> None:
    it = Driven([memo("a"), memo("b")], deadline=TEN_SECONDS)
    it.delivers(it.call("a"))
    it.now = 10.0
    assert it.errs().status == 500


def test_a_failed_step_is_reported_at_the_deadline_too() -> None:
    """It must use up an attempt, although its siblings made progress and were cut."""
    it = Driven(policy=THREE, deadline=TEN_SECONDS)
    a, b, c = it.calls("a", "b", "c")
    it.starts(a, b, c)
    it.fail(b)
    it.settle(c)
    it.delivers(c)
    it.now = 10.0
    it.cuts(a)
    it.core.was_cut(a, 10.0)
    it.confirms("c")
    it.answers(("StepError", "b"))


def test_a_failed_step_comes_before_one_that_was_cut() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.fail(b, broke(retriable=False))
    it.now = 10.0
    it.cuts(a)
    it.core.was_cut(a, 10.0)
    it.reads()
    it.answers(("StepFailed", "b"))


def test_a_cut_step_beside_a_sleep_is_planned_where_nothing_else_was_achieved() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a = it.call("a", branch=1)
    it.starts(a)
    it.now = 1.0
    it.sleep("nap", 30)
    it.rests()
    it.now = 10.0
    it.cuts(a)
    it.core.was_cut(a, 10.0)
    it.answers(("StepPlanned", "a"), ("Sleep", "nap"))


def test_at_the_deadline_a_targeted_step_times_out() -> None:
    it = Driven(target="a", deadline=TEN_SECONDS)
    it.sleep("nap", 30)
    a = it.call("a")
    it.starts(a)
    it.now = 10.0
    it.cuts(a)
    it.core.was_cut(a, 10.0)
    it.answers(("StepError", "a"))


def test_a_targeted_step_that_ended_in_time_is_answered_after_the_deadline() -> None:
    it = Driven(target="a", deadline=TEN_SECONDS)
    a = it.call("a")
    it.starts(a)
    it.settle(a, after=10.0)
    it.answers(("StepRun", "a"))


def test_a_body_left_behind_does_not_keep_a_server_from_continuing() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.confirms("a")
    it.delivers(a)
    it.now = 10.0
    it.cuts(b)
    it.core.stuck(b, 10.5)
    it.now = 10.5
    assert not it.settle(b, "late")
    it.answers("DiscoveryRequest")


def test_a_body_that_would_thaw_in_the_next_invocation_keeps_the_answer_back() -> None:
    it = Driven(policy=THREE, deadline=TEN_SECONDS, abandons=False)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.delivers(a)
    it.now = 10.0
    it.cuts(b)
    it.sends("a")
    it.core.stuck(b, 10.5)
    it.rests()
    it.checkpointed()
    assert isinstance(it.next(), Hang)
    assert it.next() is None
    assert it.core.next_wake() == inf


def test_a_checkpoint_in_flight_at_the_deadline_is_waited_for() -> None:
    it = Driven(policy=PIPELINED, deadline=TEN_SECONDS)
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.delivers(a)
    it.now = 10.0
    it.rests()
    assert it.core.next_wake() == inf
    it.checkpointed()
    it.answers("DiscoveryRequest")


def test_a_checkpoint_that_fails_at_the_deadline_is_handed_over() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.sends("a")
    it.now = 10.0
    it.cuts(b)
    it.core.was_cut(b, 10.0)
    it.rests()
    it.checkpointed(Verdict.UNCONFIRMED)
    it.answers(("StepRun", "a"))


def test_nothing_is_delivered_after_the_deadline() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a = it.call("a")
    it.starts(a)
    it.settle(a)
    it.sends("a")
    it.now = 10.0
    it.checkpointed()
    it.answers("DiscoveryRequest")


def test_a_draining_process_without_progress_still_begins_one_step() -> None:
    it = Driven()
    it.core.drain()
    a, _ = it.calls("a", "b")
    it.starts(a)
    it.settle(a)
    it.confirms("a")
    it.delivers(a)
    it.answers("DiscoveryRequest")


def test_a_window_that_is_over_at_once_makes_no_progress() -> None:
    it = Driven(deadline=Deadline(0.0, 0.0, 1.0))
    it.call("a")
    assert it.errs().status == 500
