"""Failures, attempts, and trying again in place."""

from __future__ import annotations

import pytest

from onward.core.actions import Hang, Respond
from onward.core.calls import CallState
from onward.core.ops import Opcode
from onward.core.retry import Verdict
from tests.core.driving import PIPELINED, TEN_SECONDS, THREE, Driven, broke, memo


def test_a_failed_step_is_reported_with_its_delay() -> None:
    it = Driven()
    a = it.call("a")
    it.starts(a)
    assert it.core.failed(a, broke("a", retry_after=20), 1.0, 5, 6)
    response = it.answers(("StepError", "a"))
    (op,) = response.ops
    assert op.error is not None
    assert (op.error.name, op.started_ns, op.duration_ns) == ("ValueError", 5, 6)
    assert (response.no_retry, response.retry_after) == (False, 20)


@pytest.mark.parametrize(("attempt", "retriable"), [(0, False), (3, True)])
def test_a_step_fails_for_good_without_attempts_or_hope(attempt: int, *, retriable: bool) -> None:
    it = Driven(attempt=attempt)
    a = it.call("a")
    it.starts(a)
    it.fail(a, broke(retriable=retriable, retry_after=9))
    if attempt:
        it.reads()
    response = it.answers(("StepFailed", "a"))
    assert (response.no_retry, response.retry_after) == (True, None)


def test_siblings_of_a_failed_step_end_and_are_confirmed_and_nothing_else_begins() -> None:
    it = Driven(policy=THREE)
    a, b, c = it.calls("a", "b", "c")
    it.starts(a, b, c)
    it.fail(b)
    it.settle(a)
    it.delivers(a)
    it.call("a2")
    it.rests()
    it.settle(c)
    it.delivers(c)
    it.confirms("a", "c")
    it.answers(("StepError", "b"))


def test_of_several_failed_steps_the_first_that_was_called_is_reported() -> None:
    it = Driven()
    a, b, c = it.calls("a", "b", "c")
    it.starts(a, b, c)
    it.fail(c)
    it.fail(b)
    it.settle(a)
    it.confirms("a")
    it.delivers(a)
    it.answers(("StepError", "b"))


def test_a_failed_step_whose_branch_was_cancelled_is_not_reported() -> None:
    it = Driven()
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.fail(a)
    it.settle(b)
    it.confirms("b")
    it.delivers(b)
    assert not it.core.closed(a)
    c = it.call("c")
    it.starts(c)


def test_a_failed_step_is_reported_after_the_batch_in_flight() -> None:
    it = Driven(policy=PIPELINED)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.sends("a")
    it.delivers(a)
    it.fail(b)
    it.rests()
    it.checkpointed()
    it.answers(("StepError", "b"))


# ---------------------------------------------------------------------- attempts


def test_after_a_failed_attempt_only_the_first_steps_run() -> None:
    it = Driven([memo("a")], attempt=1)
    it.delivers(it.call("a"))
    b = it.call("b")
    it.runs(b)
    it.answers(("StepRun", "b"))
    assert b.state is CallState.SETTLED, "user code must not get it: it would go on"


def test_after_a_failed_attempt_the_whole_first_frontier_runs() -> None:
    """Else the loser of a race could use up all attempts before the winner runs."""
    it = Driven(attempt=2)
    a, b, c = it.calls("a", "b", "c")
    it.starts(a, b, c)
    it.settle(c)
    it.rests()
    it.settle(a)
    it.settle(b)
    it.confirms("c", "a", "b")
    it.answers("DiscoveryRequest")


def test_after_a_failed_attempt_a_barrier_still_holds() -> None:
    it = Driven(attempt=1)
    a, charge = it.call("a", branch=1), it.call("charge", branch=2, barrier=True)
    it.starts(a, charge)
    assert it.settle(a)
    it.settle(charge)
    it.confirms("a", "charge")
    it.answers("DiscoveryRequest")


def test_a_failure_in_the_first_frontier_is_reported() -> None:
    it = Driven(attempt=1)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(b)
    it.fail(a)
    it.confirms("b")
    it.answers(("StepError", "a"))


def test_one_result_of_a_first_frontier_that_is_in_flight_is_waited_for() -> None:
    it = Driven(policy=PIPELINED, attempt=1, deadline=TEN_SECONDS)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.now = TEN_SECONDS.soft_at(8)
    it.sends("a")
    it.settle(b)
    it.rests()
    it.checkpointed()
    it.confirms("b")
    it.answers("DiscoveryRequest")


def test_a_sleep_is_answered_whatever_the_attempt() -> None:
    it = Driven(attempt=2)
    it.call("a", branch=1)
    it.sleep("nap", 1)
    it.answers(("StepPlanned", "a"), ("Sleep", "nap"))


def test_the_first_frontier_that_cannot_be_confirmed_is_handed_over() -> None:
    it = Driven(attempt=1)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.settle(b)
    it.sends("a", "b")
    it.checkpointed(Verdict.UNCONFIRMED)
    it.delivers(a)
    it.call("a2")
    it.delivers(b)
    it.answers(("StepRun", "a"), ("StepRun", "b"), ("StepPlanned", "a2"))


# ---------------------------------------------------------------------- in place


def test_a_step_is_tried_again_in_place_as_often_as_it_may() -> None:
    it = Driven()
    a = it.call("a", in_place_left=2)
    for _ in range(2):
        it.starts(a)
        assert it.fail(a)
        it.rests()
        it.now = it.core.next_wake()
    it.starts(a)
    it.fail(a)
    it.answers(("StepError", "a"))


def test_a_second_try_in_place_can_succeed() -> None:
    it = Driven()
    a = it.call("a", in_place_left=1)
    it.starts(a)
    it.fail(a)
    it.rests()
    it.now = it.core.next_wake()
    it.runs(a)
    it.confirms("a")
    it.delivers(a)


@pytest.mark.parametrize("policy", [None, THREE])
@pytest.mark.parametrize("attempt", [0, 1])
def test_trying_again_in_place_is_no_progress(policy: object, attempt: int) -> None:
    """Else a step that always fails would continue for ever, with a new attempt counter."""
    it = Driven(policy=policy, attempt=attempt)  # type: ignore[arg-type]
    a = it.call("a", in_place_left=1)
    it.starts(a)
    it.fail(a)
    it.rests()
    it.now = it.core.next_wake()
    it.starts(a)
    it.fail(a)
    it.answers(("StepError", "a"))


def test_other_steps_go_on_while_one_waits_to_be_tried_again() -> None:
    it = Driven()
    a, b = it.call("a", branch=1, in_place_left=1), it.call("b", branch=2)
    it.starts(a, b)
    it.fail(a)
    it.settle(b)
    it.confirms("b")
    it.delivers(b)
    c = it.call("c")
    it.starts(c)


def test_a_failure_without_hope_is_not_tried_again() -> None:
    it = Driven()
    a = it.call("a", in_place_left=5)
    it.starts(a)
    it.fail(a, broke(retriable=False))
    it.answers(("StepFailed", "a"))


def test_a_delay_that_does_not_fit_is_left_to_the_orchestrator() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a = it.call("a", in_place_left=5)
    it.starts(a)
    it.fail(a, broke(retry_after=10))
    assert it.answers(("StepError", "a")).retry_after == 10


def test_a_delay_that_fits_is_kept() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a = it.call("a", in_place_left=1)
    it.starts(a)
    it.fail(a, broke(retry_after=3))
    it.rests()
    assert it.core.next_wake() == 3.0


# ---------------------------------------------------------------------- timeouts


def test_a_step_over_its_timeout_is_stopped_and_fails() -> None:
    it = Driven()
    a = it.call("a", timeout=2.0)
    it.starts(a)
    assert it.core.next_wake() == 2.0
    it.now = 2.0
    it.cuts(a)
    it.rests()
    it.core.was_cut(a, 2.1)
    (op,) = it.answers(("StepError", "a")).ops
    assert op.error is not None
    assert op.error.name == "StepTimedOutError"
    assert "timeout of 2 s" in op.error.message


def test_a_body_that_ends_while_it_is_stopped_has_its_own_outcome() -> None:
    it = Driven()
    a = it.call("a", timeout=2.0)
    it.starts(a)
    it.now = 2.0
    it.cuts(a)
    it.settle(a, "just in time")
    it.core.was_cut(a, 2.1)
    it.confirms("a")
    it.delivers(a, "just in time")


def test_a_timeout_is_tried_again_in_place() -> None:
    it = Driven()
    a = it.call("a", timeout=2.0, in_place_left=1)
    it.starts(a)
    it.now = 2.0
    it.cuts(a)
    it.core.was_cut(a, it.now)
    it.rests()
    it.now = it.core.next_wake()
    it.starts(a)
    assert it.core.next_wake() == it.now + 2.0


def test_a_body_that_could_not_be_stopped_is_not_tried_again_beside_itself() -> None:
    it = Driven()
    a = it.call("a", timeout=2.0, in_place_left=5)
    it.starts(a)
    it.now = 2.0
    it.cuts(a)
    it.core.stuck(a, 2.5)
    assert not it.settle(a, "late")
    it.answers(("StepError", "a"))


def test_where_no_body_may_be_left_behind_one_over_its_timeout_is_waited_for() -> None:
    it = Driven(deadline=TEN_SECONDS, abandons=False)
    a, b = it.call("a", branch=1, timeout=2.0), it.call("b", branch=2)
    it.starts(a, b)
    it.now = 2.0
    it.cuts(a)
    it.core.stuck(a, 2.5)
    it.settle(b)
    it.confirms("b")
    it.delivers(b)
    it.rests()
    assert it.settle(a, "too late", after=1.0)
    (op,) = it.answers(("StepError", "a")).ops
    assert op.error is not None
    assert op.error.name == "StepTimedOutError"


def test_a_body_that_is_waited_for_is_cut_at_the_deadline() -> None:
    it = Driven(deadline=TEN_SECONDS, abandons=False)
    a = it.call("a", timeout=2.0)
    it.starts(a)
    it.now = 2.0
    it.cuts(a)
    it.core.stuck(a, 2.5)
    it.rests()
    assert it.core.next_wake() == 10.0
    it.now = 10.0
    it.cuts(a)
    it.core.stuck(a, 10.5)
    assert isinstance(it.next(), Hang)


def test_no_failure_says_more_than_one_step() -> None:
    it = Driven(attempt=3)
    calls = it.calls("a", "b", "c")
    it.starts(*calls)
    for call in calls:
        it.fail(call)
    it.reads()
    action = it.next()
    assert isinstance(action, Respond)
    assert [op.code for op in action.response.ops] == [Opcode.STEP_FAILED]


def test_what_a_first_frontier_achieved_is_seen_before_a_failed_step_is_planned() -> None:
    """Else the branch whose result nobody has got would wait for the sleep."""
    it = Driven(attempt=1)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.sleep("nap", 3600)
    it.settle(a)
    it.fail(b)
    it.answers(("StepRun", "a"))
