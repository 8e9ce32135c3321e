"""Steps that run eagerly: deliveries, flushes, the one outcome of each."""

from __future__ import annotations

from math import inf

import pytest

from onward.core.actions import Respond, Send
from onward.core.buffer import FLUSH_BYTES, PIPELINE_STEPS, FlushPolicy
from onward.core.calls import CallState
from onward.core.ids import hash_step
from onward.core.invocation import RIDE_ALONG
from onward.core.journal import Memo
from onward.core.ops import Opcode
from onward.core.record import RESULT_LIMIT, STEP_LIMIT, STEP_WARNING
from onward.core.retry import Verdict
from onward.errors import StepUsageError
from tests.core.driving import PIPELINED, THREE, Driven, broke, failed_memo, memo


def test_a_function_without_steps_completes() -> None:
    it = Driven()
    it.rests()
    it.core.returned('"done"')
    response = it.answers("RunComplete")
    assert response.ops[0].data == '"done"'


def test_with_one_buffered_step_each_is_confirmed_before_user_code_gets_it() -> None:
    it = Driven()
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.rests()
    it.checkpointed()
    it.delivers(a, "a done")
    b = it.call("b")
    it.runs(b)
    it.confirms("b")
    it.delivers(b)
    it.core.returned("2")
    it.answers("RunComplete")
    assert it.core.confirmed == 2


def test_results_reach_user_code_before_a_buffer_of_three_is_full() -> None:
    it = Driven(policy=THREE)
    for name in ("a", "b"):
        call = it.call(name)
        it.runs(call)
        it.delivers(call)
    c = it.call("c")
    it.runs(c)
    it.sends("a", "b", "c")
    it.rests()
    it.checkpointed()
    it.delivers(c)


def test_what_is_left_in_the_buffer_rides_with_the_result() -> None:
    it = Driven(policy=THREE)
    for name in ("a", "b"):
        call = it.call(name)
        it.runs(call)
        it.delivers(call)
    it.core.returned("2")
    response = it.answers(("StepRun", "a"), ("StepRun", "b"), "RunComplete")
    assert [op.data for op in response.ops] == ['"a done"', '"b done"', "2"]


@pytest.mark.parametrize(("steps", "size"), [(RIDE_ALONG + 1, 1), (2, FLUSH_BYTES // 2)])
def test_too_much_to_ride_along_is_confirmed_first(steps: int, size: int) -> None:
    it = Driven(policy=FlushPolicy(1000))
    names = [f"s{n}" for n in range(steps)]
    for name in names:
        call = it.call(name)
        it.starts(call)
        it.settle(call, "x" * (size - 2))
        action = it.next()
        if isinstance(action, Send):
            it.checkpointed()
            it.delivers(call)
    it.core.returned("1")
    if size == 1:
        it.confirms(*names)
    it.answers("RunComplete")


def test_a_megabyte_is_flushed_whatever_the_options_say() -> None:
    it = Driven(policy=FlushPolicy(1000))
    a = it.call("a")
    it.starts(a)
    it.settle(a, "x" * FLUSH_BYTES)
    it.confirms("a")
    it.delivers(a)


def test_results_are_delivered_in_the_order_in_which_bodies_ended() -> None:
    it = Driven()
    a, b, c = it.calls("a", "b", "c")
    it.starts(a, b, c)
    for call in (c, a, b):
        it.settle(call)
    it.confirms("c", "a", "b")
    for call in (c, a, b):
        it.delivers(call)


def test_user_code_comes_before_the_next_result() -> None:
    it = Driven(policy=FlushPolicy(10))
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.settle(b)
    it.delivers(a)
    a2 = it.call("a2")
    it.delivers(b)
    it.starts(a2)


def test_the_oldest_result_is_flushed_when_its_time_has_come() -> None:
    it = Driven(policy=FlushPolicy(10, max_interval=3.0))
    a = it.call("a")
    it.runs(a)
    it.delivers(a)
    b = it.call("b")
    it.starts(b)
    assert it.core.next_wake() == 3.0
    it.now = 2.9
    it.rests()
    assert it.core.flush_due(it.now) is None
    it.now = 3.0
    flush = it.core.flush_due(it.now)
    assert flush is not None
    assert [op.user_id for op in flush.ops] == ["a"]
    assert it.core.flush_due(it.now) is None, "a batch is in flight"


def test_nothing_is_flushed_without_a_reason() -> None:
    it = Driven(policy=THREE)
    a = it.call("a")
    it.runs(a)
    it.delivers(a)
    assert it.core.flush_due(1000.0) is None
    assert it.core.next_wake() == inf


# ---------------------------------------------------------------------- one outcome


def test_a_late_outcome_is_discarded() -> None:
    it = Driven()
    a = it.call("a")
    it.runs(a)
    assert not it.settle(a, "again")
    assert not it.fail(a)
    it.confirms("a")
    it.delivers(a, "a done")
    assert not it.settle(a, "once more")
    assert not it.fail(a)
    it.rests()


def test_the_outcome_of_a_failed_step_stays() -> None:
    it = Driven()
    a = it.call("a")
    it.starts(a)
    assert it.fail(a)
    assert not it.settle(a)
    it.answers(("StepError", "a"))


def test_after_the_answer_every_outcome_is_too_late() -> None:
    it = Driven()
    a = it.call("a")
    it.starts(a)
    it.core.returned("1")
    it.answers("RunComplete")
    assert not it.settle(a)
    assert not it.fail(a)


def test_the_outcome_of_a_cancelled_branch_is_discarded() -> None:
    it = Driven()
    a, b = it.calls("a", "b")
    it.starts(a, b)
    assert it.core.closed(a), "its body has to be stopped"
    assert not it.settle(a)
    it.settle(b)
    it.confirms("b")
    it.delivers(b)


def test_a_finished_result_that_nobody_waits_for_any_more_is_kept_but_not_delivered() -> None:
    it = Driven(policy=THREE)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.settle(b)
    it.delivers(a)
    assert not it.core.closed(b), "its body has ended"
    it.rests()
    it.core.returned("1")
    it.answers(("StepRun", "a"), ("StepRun", "b"), "RunComplete")


def test_closing_a_step_that_was_not_started_takes_it_away() -> None:
    it = Driven(policy=THREE)
    a, b = it.calls("a", "b")
    assert not it.core.closed(a)
    it.starts(b)
    assert a.state is CallState.CLOSED


# ---------------------------------------------------------------------- results and limits


def test_a_result_over_the_limit_fails_its_step_for_good() -> None:
    it = Driven()
    a = it.call("a")
    it.starts(a)
    it.settle(a, "x" * RESULT_LIMIT)
    response = it.answers(("StepFailed", "a"))
    error = response.ops[0].error
    assert error is not None
    assert error.name == "ResultTooLargeError"
    assert "'a'" in error.message
    assert response.no_retry is True


def test_a_function_result_over_the_limit_fails_the_run() -> None:
    it = Driven()
    it.core.returned('"' + "x" * RESULT_LIMIT + '"')
    response = it.errs()
    assert response.status == 400
    assert response.error is not None
    assert response.error.name == "ResultTooLargeError"


@pytest.mark.parametrize("memos", [0, STEP_WARNING - 1, STEP_WARNING])
def test_a_run_of_very_many_steps_is_warned_about_once_and_at_the_limit(memos: int) -> None:
    it = Driven([memo(f"m{n}") for n in range(memos)], policy=FlushPolicy(10_000))
    for n in range(memos):
        it.delivers(it.call(f"m{n}"))
    warnings = {}
    for n in range(memos, STEP_LIMIT + 5):
        call = it.call(f"s{n}")
        it.runs(call)
        it.delivers(call)
        warnings.update(dict.fromkeys(it.notices(), n + 1))
    assert list(warnings.values()) == [STEP_WARNING, STEP_LIMIT][memos == STEP_WARNING :]
    for text in warnings:
        assert "more than 1,000 by default" in text or "1,000 steps" in text
        assert "invoke another function" in text


@pytest.mark.parametrize("count", [STEP_WARNING, STEP_LIMIT])
def test_a_sleep_can_be_the_step_that_is_warned_about(count: int) -> None:
    """It is in the journal when the function is called again, and was never run here."""
    it = Driven([*(memo(f"m{n}") for n in range(count - 1)), memo("nap", None)])
    for n in range(count - 1):
        it.delivers(it.call(f"m{n}"))
    it.delivers(it.call("nap", Opcode.SLEEP))
    it.runs(it.call("next"))
    (notice,) = it.notices()
    assert f"{count:,} steps" in notice


# ---------------------------------------------------------------------- replay


def test_memoized_results_are_delivered_in_their_order_and_nothing_runs_before() -> None:
    it = Driven([memo("b", 2), memo("a", 1)])
    a, b, c = it.calls("a", "b", "c")
    first = it.delivers(b, 2)
    assert first.memoized
    it.delivers(a, 1)
    it.starts(c)


def test_it_knows_whether_it_replays() -> None:
    it = Driven([memo("a")])
    before = it.core.replaying
    it.delivers(it.call("a"))
    assert (before, it.core.replaying) == (True, False)


def test_a_memoized_failure_is_raised() -> None:
    it = Driven([failed_memo("a")])
    delivery = it.delivers(it.call("a"))
    assert delivery.failure is not None
    assert delivery.failure.error.message == "a broke"
    assert not delivery.failure.retriable


def test_a_wait_gets_the_event_itself() -> None:
    event = {"name": "order/paid", "data": {"n": 1}}
    it = Driven([Memo(hash_step("a", 0), event["data"], raw=event)])
    it.delivers(it.call("a", Opcode.WAIT_FOR_EVENT), event)


def test_results_that_nobody_asked_for_are_mentioned_at_the_end() -> None:
    it = Driven([memo("a"), memo("gone")])
    it.delivers(it.call("a"))
    it.core.returned("1")
    (notice,) = it.notices()
    assert "1 recorded result" in notice


def test_repeated_ids_count_up() -> None:
    it = Driven([memo("a", 1), memo("a", 2, index=1)])
    it.delivers(it.call("a"), 1)
    it.delivers(it.call("a"), 2)
    third = it.call("a")
    assert third.index == 2
    it.starts(third)
    assert it.notices() == []


def test_an_id_that_looks_like_a_repeat_is_not_taken_for_one() -> None:
    it = Driven()
    first, named, second = it.call("a"), it.call("a:1"), it.call("a")
    assert len({call.id for call in (first, named, second)}) == 3
    it.starts(first, named, second)


# ---------------------------------------------------------------------- pipelined


def test_pipelined_goes_on_while_a_batch_is_in_flight() -> None:
    it = Driven(policy=PIPELINED)
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.delivers(a)
    b = it.call("b")
    it.runs(b)
    it.delivers(b)
    c = it.call("c")
    it.runs(c)
    it.delivers(c)
    it.rests()
    it.checkpointed()
    it.sends("b", "c")


def test_a_pipelined_window_is_bounded() -> None:
    it = Driven(policy=PIPELINED)
    for n in range(PIPELINE_STEPS):
        call = it.call(f"s{n}")
        it.runs(call)
        if n == 0:
            it.sends("s0")
        it.delivers(call)
    last = it.call("last")
    it.runs(last)
    it.rests()
    assert last.state is CallState.SETTLED
    it.checkpointed()
    action = it.next()
    assert isinstance(action, Send)
    assert len(action.ops) == PIPELINE_STEPS
    it.delivers(last)


def test_a_barrier_waits_until_everything_before_it_is_confirmed() -> None:
    it = Driven(policy=PIPELINED)
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.delivers(a)
    b = it.call("b")
    it.runs(b)
    it.delivers(b)
    charge = it.call("charge", barrier=True)
    it.rests()
    it.checkpointed()
    it.sends("b")
    it.rests()
    it.checkpointed()
    it.starts(charge)


def test_a_barrier_flushes_a_buffer_that_is_not_full() -> None:
    it = Driven(policy=THREE)
    a = it.call("a")
    it.runs(a)
    it.delivers(a)
    charge = it.call("charge", barrier=True)
    it.confirms("a")
    it.starts(charge)


# ---------------------------------------------------------------------- the end


def test_a_function_error_comes_after_what_is_finished() -> None:
    it = Driven(policy=THREE)
    a = it.call("a")
    it.runs(a)
    it.delivers(a)
    it.core.raised(broke("the function", retry_after=7))
    it.confirms("a")
    response = it.errs()
    assert (response.status, response.no_retry, response.retry_after) == (500, False, 7)


@pytest.mark.parametrize(("attempt", "retriable"), [(3, True), (0, False)])
def test_a_final_function_error(attempt: int, *, retriable: bool) -> None:
    it = Driven(attempt=attempt)
    it.core.raised(broke(retriable=retriable))
    response = it.errs()
    assert (response.status, response.no_retry, response.retry_after) == (400, True, None)


def test_steps_after_the_end_say_what_is_wrong() -> None:
    it = Driven()
    it.core.returned("1")
    with pytest.raises(StepUsageError, match="its function has returned"):
        it.call("late")
    it.answers("RunComplete")
    with pytest.raises(StepUsageError, match="'late'"):
        it.call("late")


def test_steps_while_suspending_say_what_is_wrong() -> None:
    it = Driven()
    it.sleep("nap", 1)
    it.answers(("Sleep", "nap"))
    with pytest.raises(StepUsageError, match="while it is suspending"):
        it.call("cleanup")


def test_abandoned_it_hands_over_what_is_finished_and_ends() -> None:
    it = Driven(policy=THREE)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    flush = it.core.abandon()
    assert flush is not None
    assert [op.user_id for op in flush.ops] == ["a"]
    assert it.core.over
    assert it.core.abandon() is None
    assert it.next() is None
    assert not it.settle(b)


def test_a_batch_in_flight_is_waited_for_before_the_answer() -> None:
    it = Driven(policy=PIPELINED)
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.delivers(a)
    it.core.returned("1")
    it.rests()
    it.checkpointed()
    it.answers("RunComplete")


def test_a_batch_that_fails_at_the_end_rides_with_the_result() -> None:
    it = Driven(policy=PIPELINED)
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.delivers(a)
    it.core.returned("1")
    it.checkpointed(Verdict.UNCONFIRMED)
    action = it.next()
    assert isinstance(action, Respond)
    assert [str(op.code) for op in action.response.ops] == ["StepRun", "RunComplete"]


# ---------------------------------------------------------------------- draining


def test_a_draining_process_flushes_at_once_and_continues_elsewhere() -> None:
    it = Driven(policy=THREE)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.core.drain()
    it.confirms("a")
    it.delivers(a)
    it.call("a2")
    it.rests()
    it.settle(b)
    it.confirms("b")
    it.delivers(b)
    it.answers("DiscoveryRequest")
