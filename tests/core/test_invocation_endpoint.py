"""Invocations whose answer no orchestrator reads: what is not confirmed, and signs of life."""

from __future__ import annotations

from math import inf

import pytest

from onward.core.actions import Respond, Send
from onward.core.closing import Closing, Ending, closing
from onward.core.ids import RUN_COMPLETE_ID
from onward.core.ops import Opcode
from onward.core.response import Response
from onward.core.retry import Verdict
from tests.core.driving import PIPELINED, THREE, Driven, broke

HOPELESS = [Verdict.REFUSED, Verdict.UNCONFIRMED]
FAILED = '{"status":500}'


def _decided(it: Driven) -> Response:
    action = it.next()
    assert isinstance(action, Respond), action
    return action.response


def _shape(response: Response) -> list[str]:
    return [f"{op.code} {op.user_id}".strip() for op in response.ops]


def _held(verdict: Verdict = Verdict.UNCONFIRMED) -> Driven:
    """One finished step that nothing confirms, and that user code has got nevertheless."""
    it = Driven(hands_over=False)
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.checkpointed(verdict, "status 503")
    it.delivers(a)
    return it


@pytest.mark.parametrize("verdict", HOPELESS)
def test_the_function_goes_on(verdict: Verdict) -> None:
    it = _held(verdict)
    (notice,) = it.notices()
    assert "1 finished step(s) could not be checkpointed (status 503)" in notice
    b = it.call("b")
    it.runs(b)
    it.sends("a", "b")  # tried again with the next result, and not before
    it.checkpointed(verdict)
    assert it.notices() == []
    it.delivers(b)
    it.rests()


def test_what_comes_later_is_confirmed_with_what_waits() -> None:
    it = _held()
    b = it.call("b")
    it.runs(b)
    it.sends("a", "b")
    it.checkpointed()
    it.delivers(b)
    it.core.returned("1")
    assert _shape(_decided(it)) == ["RunComplete"]


def test_the_last_checkpoint_has_everything() -> None:
    it = _held()
    it.core.returned("1")
    assert _shape(_decided(it)) == ["StepRun a", "RunComplete"]


def test_what_waits_goes_before_a_sleep_and_before_an_error() -> None:
    it = _held()
    it.sleep("nap", 1)
    assert _shape(_decided(it)) == ["StepRun a", "Sleep nap"]
    it = _held()
    it.core.raised(broke())
    response = _decided(it)
    assert _shape(response) == ["StepRun a"]
    assert response.error is not None


def test_a_barrier_is_not_crossed() -> None:
    it = _held()
    it.call("charge", barrier=True)
    response = _decided(it)
    assert response.error is not None
    assert "'charge' is a barrier" in response.error.message


def test_a_full_pipeline_does_not_stop() -> None:
    it = Driven(policy=PIPELINED, hands_over=False)
    calls = [it.call(f"s{n}", branch=n) for n in range(3)]
    it.starts(*calls)
    for call in calls:
        it.settle(call)
    action = it.next()
    assert isinstance(action, Send)
    for call in calls:
        it.delivers(call)
    it.checkpointed(Verdict.UNCONFIRMED)
    it.core.returned("1")
    assert _shape(_decided(it)) == ["StepRun s0", "StepRun s1", "StepRun s2", "RunComplete"]


def test_a_heartbeat_comes_when_nothing_was_sent_for_a_while() -> None:
    it = Driven(hands_over=False, heartbeat=5.0)
    a = it.call("a")
    it.runs(a)
    assert it.core.next_wake() == inf, "there is no run before the first checkpoint"
    it.now = 2.0
    it.sends("a")
    it.checkpointed()
    it.delivers(a)
    b = it.call("b")
    it.starts(b)
    assert it.core.next_wake() == 7.0
    it.now = 7.0
    assert it.next() == Send(())
    it.rests()
    assert it.core.next_wake() == 12.0
    it.settle(b)
    it.now = 11.0
    it.sends("b")
    it.checkpointed()
    it.delivers(b)
    assert it.core.next_wake() == 16.0
    it.core.returned("1")
    assert _shape(_decided(it)) == ["RunComplete"]
    assert it.core.next_wake() == inf


def test_a_heartbeat_comes_from_a_watchdog_too_and_while_results_are_held() -> None:
    it = Driven(policy=THREE, hands_over=False, heartbeat=5.0)
    for name in ("a", "b", "c"):
        call = it.call(name)
        it.runs(call)
        if name != "c":
            it.delivers(call)
    it.sends("a", "b", "c")
    it.checkpointed(Verdict.UNCONFIRMED)
    assert it.core.flush_due(5.0) == Send(())
    assert it.core.flush_due(9.9) is None


def test_a_run_that_is_not_ours_any_more_ends_quietly() -> None:
    it = Driven(hands_over=False, heartbeat=5.0)
    it.starts(it.call("a"))
    it.core.gone("status 409")
    response = _decided(it)
    assert closing(response, FAILED) == Closing(Ending.GONE)


def test_an_attempt_that_is_not_told_may_be_the_last() -> None:
    """One frontier, and then another call: its attempt counts from the beginning."""
    it = Driven(attempt_known=False)
    a = it.call("a")
    it.runs(a)
    assert _shape(_decided(it)) == ["StepRun a"]


def test_how_a_response_becomes_a_last_checkpoint() -> None:
    it = _held()
    it.core.returned('{"status":200}')
    response = _decided(it)
    assert closing(response, FAILED) == Closing(Ending.RESULT, response.ops)

    it = _held()
    it.core.raised(broke("handler"))
    again = closing(_decided(it), FAILED)
    assert again.ending is Ending.ASYNC
    assert again.goes_on
    assert [op.code for op in again.ops] == [Opcode.STEP_RUN, Opcode.STEP_ERROR]
    assert again.ops[-1].id == RUN_COMPLETE_ID
    assert again.ops[-1].error is not None

    it = _held()
    it.core.raised(broke("handler", retriable=False))
    final = closing(_decided(it), FAILED)
    assert final.ending is Ending.FAILED
    assert not final.goes_on
    assert [op.code for op in final.ops] == [Opcode.STEP_RUN, Opcode.RUN_COMPLETE]
    assert final.ops[-1].data == FAILED


def test_a_run_that_went_on_answers_its_result_alone_and_after_what_is_buffered() -> None:
    it = Driven(policy=THREE, plain_result=True)
    a = it.call("a")
    it.runs(a)
    it.delivers(a)
    it.core.returned('{"status":200}')
    it.sends("a")
    it.checkpointed(Verdict.CONFIRMED)
    decided = _decided(it)
    assert (decided.status, decided.result, decided.ops) == (200, '{"data":{"status":200}}', ())
    assert closing(decided, FAILED).ending is Ending.RESULT


def test_what_no_checkpoint_confirmed_comes_with_the_result_all_the_same() -> None:
    it = Driven(policy=THREE, plain_result=True)
    a = it.call("a")
    it.runs(a)
    it.delivers(a)
    it.core.returned('{"status":200}')
    it.sends("a")
    it.checkpointed(Verdict.REFUSED)
    assert _shape(_decided(it)) == ["StepRun a", "RunComplete"]
