"""Checkpoints that are not confirmed, at each point."""

from __future__ import annotations

import pytest

from onward.core.invocation import Invocation
from onward.core.ops import Opcode
from onward.core.planning import RESPONSE_LIMIT
from onward.core.retry import Verdict
from tests.core.driving import PIPELINED, TEN_SECONDS, THREE, Driven, broke

HOPELESS = [Verdict.REFUSED, Verdict.UNCONFIRMED, Verdict.BAD_KEY, Verdict.TRY_AGAIN]


def _unconfirmed(verdict: Verdict = Verdict.UNCONFIRMED) -> Driven:
    """One finished step, whose checkpoint has failed and which user code has got."""
    it = Driven()
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.checkpointed(verdict, "status 400")
    it.delivers(a)
    return it


@pytest.mark.parametrize("verdict", HOPELESS)
def test_what_no_checkpoint_took_is_answered_beside_the_next_step(verdict: Verdict) -> None:
    it = _unconfirmed(verdict)
    (notice,) = it.notices()
    assert "1 finished step(s)" in notice
    assert "status 400" in notice
    it.call("b")
    it.unconfirmable = True
    finished, planned = it.answers(("StepRun", "a"), ("StepPlanned", "b")).ops
    assert finished.data == '"a done"'
    assert planned.opts == {}


def test_the_verdict_names_itself_where_there_is_no_detail() -> None:
    it = Driven()
    it.runs(it.call("a"))
    it.sends("a")
    it.checkpointed(Verdict.UNCONFIRMED)
    assert "UNCONFIRMED" in it.notices()[0]


def test_what_no_checkpoint_took_rides_with_the_result() -> None:
    it = _unconfirmed()
    it.core.returned("1")
    it.answers(("StepRun", "a"), "RunComplete")


def test_what_no_checkpoint_took_goes_before_a_function_error() -> None:
    it = _unconfirmed()
    it.core.raised(broke())
    it.answers(("StepRun", "a"))


def test_what_no_checkpoint_took_goes_before_a_sleep() -> None:
    it = _unconfirmed()
    it.sleep("nap", 1)
    it.answers(("StepRun", "a"))


def test_a_failed_step_is_planned_beside_what_no_checkpoint_took() -> None:
    it = Driven(policy=THREE)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.delivers(a)
    it.fail(b)
    it.sends("a")
    it.checkpointed(Verdict.REFUSED)
    it.answers(("StepRun", "a"), ("StepPlanned", "b"))


def test_a_failed_step_is_planned_even_beside_a_sleep() -> None:
    it = Driven(policy=THREE)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.delivers(a)
    it.sleep("nap", 1)
    it.fail(b)
    it.sends("a")
    it.checkpointed(Verdict.REFUSED)
    it.answers(("StepRun", "a"), ("StepPlanned", "b"))


def test_running_steps_end_before_anything_is_handed_over() -> None:
    it = Driven(policy=PIPELINED)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.sends("a")
    it.delivers(a)
    it.call("a2")
    it.checkpointed(Verdict.UNCONFIRMED)
    it.rests()
    it.settle(b)
    it.delivers(b)
    it.answers(("StepRun", "a"), ("StepRun", "b"), ("StepPlanned", "a2"))


def test_nothing_is_begun_and_nothing_sent_after_a_checkpoint_has_failed() -> None:
    it = Driven(policy=THREE, deadline=TEN_SECONDS)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.delivers(a)
    it.now = TEN_SECONDS.soft_at(8)
    it.sends("a")
    it.checkpointed(Verdict.UNCONFIRMED)
    it.call("a2")
    it.rests()
    assert it.core.flush_due(it.now) is None
    it.settle(b)
    it.delivers(b)
    it.answers(("StepRun", "a"), ("StepRun", "b"), ("StepPlanned", "a2"))


def test_the_order_is_kept_when_a_batch_comes_back() -> None:
    it = Driven(policy=PIPELINED)
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.delivers(a)
    b = it.call("b")
    it.runs(b)
    it.delivers(b)
    it.checkpointed(Verdict.UNCONFIRMED)
    it.call("c")
    it.answers(("StepRun", "a"), ("StepRun", "b"), ("StepPlanned", "c"))


def test_a_response_holds_only_so_much_and_then_no_plan() -> None:
    it = Driven(policy=PIPELINED)
    half = "x" * (RESPONSE_LIMIT // 2 - 2)
    names = ["a", "b", "c"]
    calls = it.calls(*names)
    it.starts(*calls)
    it.settle(calls[0], half)
    it.sends("a")
    it.delivers(calls[0])
    it.settle(calls[1], half)
    it.settle(calls[2], half)
    it.rests()
    it.checkpointed(Verdict.REFUSED)
    it.delivers(calls[1])
    it.delivers(calls[2])
    it.call("d")
    it.answers(("StepRun", "a"), ("StepRun", "b"))


def test_a_result_too_large_for_any_response_is_an_error_that_names_it() -> None:
    it = Driven()
    a = it.call("a")
    it.starts(a)
    it.settle(a, "x" * (RESPONSE_LIMIT + 1))
    it.sends("a")
    it.checkpointed(Verdict.REFUSED, "status 422")
    it.delivers(a)
    it.call("b")
    response = it.errs()
    assert response.error is not None
    assert response.error.name == "CheckpointError"
    assert "'a'" in response.error.message
    assert "status 422" in response.error.message


def test_a_step_that_might_lose_is_not_planned_beside_results_that_nobody_has_seen() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a, _ = it.call("a", branch=1), it.call("b", branch=2, expected=60.0)
    it.starts(a)
    it.settle(a)
    it.sends("a")
    it.now = 10.0
    it.checkpointed(Verdict.UNCONFIRMED)
    it.answers(("StepRun", "a"))


# ---------------------------------------------------------------------- gone


def _running(it: Driven) -> None:
    it.starts(*it.calls("c", "d"))


def _returned(it: Driven) -> None:
    it.core.returned("1")


def _raised(it: Driven) -> None:
    it.core.raised(broke())


def _sleeping(it: Driven) -> None:
    it.sleep("nap", 1)


def _late(it: Driven) -> None:
    it.now = 10.0


@pytest.mark.parametrize("then", [_running, _returned, _raised, _sleeping, _late])
def test_a_run_that_is_gone_ends_quietly_whatever_else_is_going_on(then: object) -> None:
    it = Driven(policy=PIPELINED, deadline=TEN_SECONDS)
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.delivers(a)
    assert callable(then)
    then(it)
    it.checkpointed(Verdict.GONE, "run not found")
    (op,) = it.answers("None").ops
    assert op.id
    (notice,) = it.notices()
    assert "run not found" in notice
    assert "no further step is started" in notice


# ---------------------------------------------------------------------- too large


def test_a_batch_that_is_too_large_is_sent_one_by_one_before_anything_else() -> None:
    it = Driven(policy=THREE)
    calls = it.calls("a", "b", "c")
    it.starts(*calls)
    for call in calls:
        it.settle(call)
    it.sends("a", "b", "c")
    it.checkpointed(Verdict.TOO_LARGE)
    for name in ("a", "b", "c"):
        it.confirms(name)
    for call in calls:
        it.delivers(call)
    it.core.raised(broke())
    it.errs()


def test_a_result_that_the_orchestrator_refuses_fails_its_step_and_is_not_delivered() -> None:
    it = Driven()
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.checkpointed(Verdict.TOO_LARGE, "at most 4 KB")
    it.reads()
    (op,) = it.answers(("StepFailed", "a")).ops
    assert op.error is not None
    assert op.error.name == "ResultTooLargeError"
    assert "'a'" in op.error.message
    assert "at most 4 KB" in op.error.message


def test_what_was_with_a_refused_result_is_confirmed() -> None:
    it = Driven(policy=THREE)
    calls = it.calls("a", "b", "c")
    it.starts(*calls)
    for call in calls:
        it.settle(call)
    it.sends("a", "b", "c")
    it.checkpointed(Verdict.TOO_LARGE)
    it.sends("a")
    it.checkpointed(Verdict.TOO_LARGE)
    it.confirms("b")
    it.confirms("c")
    it.delivers(calls[1])
    it.delivers(calls[2])
    it.reads()
    it.answers(("StepFailed", "a"))


def test_a_refused_result_that_user_code_has_got_fails_its_step_all_the_same() -> None:
    it = Driven(policy=PIPELINED)
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.delivers(a)
    it.core.returned("1")
    it.checkpointed(Verdict.TOO_LARGE)
    it.reads()
    it.answers(("StepFailed", "a"))


def test_a_refused_result_that_nobody_waits_for_is_forgotten() -> None:
    it = Driven(policy=PIPELINED)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.settle(b)
    it.sends("a", "b")
    it.delivers(a)
    it.core.closed(b)
    it.checkpointed(Verdict.TOO_LARGE)
    it.confirms("a")
    it.sends("b")
    it.checkpointed(Verdict.TOO_LARGE)
    c = it.call("c")
    it.starts(c)


def test_only_step_results_are_ever_sent() -> None:
    it = Driven(policy=THREE)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.fail(a)
    it.settle(b)
    it.delivers(b)
    it.sends("b")
    assert isinstance(it.core, Invocation)
    it.checkpointed()
    it.answers(("StepError", "a"))
    assert a.op is not None
    assert a.op.code is Opcode.STEP_ERROR
