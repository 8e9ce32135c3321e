"""Before a step fails for good, the journal is read where it may know better.

A step that has a result and then fails hangs its run on a real server (recorded:
`edge-steprun-then-stepfailed-hangs`).
"""

from __future__ import annotations

import pytest

from onward.core.actions import ReadJournal
from onward.core.retry import Verdict
from tests.core.driving import TEN_SECONDS, THREE, Driven, broke, failed_memo, memo


def test_a_first_attempt_without_any_doubt_reads_nothing() -> None:
    it = Driven()
    a = it.call("a")
    it.starts(a)
    it.fail(a, broke(retriable=False))
    it.answers(("StepFailed", "a"))


def test_a_failure_that_is_tried_again_reads_nothing() -> None:
    it = Driven(attempt=1)
    a = it.call("a")
    it.starts(a)
    it.fail(a)
    it.answers(("StepError", "a"))


def test_a_retry_reads_before_it_fails_a_step_for_good() -> None:
    """The invocation before it may have been given up, and go on all the same."""
    it = Driven(attempt=3)
    a = it.call("a")
    it.starts(a)
    it.fail(a)
    it.reads(memo("other"))
    it.answers(("StepFailed", "a"))


def test_an_invocation_past_its_deadline_reads() -> None:
    it = Driven(deadline=TEN_SECONDS)
    a = it.call("a")
    it.starts(a)
    it.now = 10.5
    it.cuts(a)
    it.fail(a, broke(retriable=False))
    it.reads()
    it.answers(("StepFailed", "a"))


@pytest.mark.parametrize("known", [memo("a", 1), failed_memo("a")])
def test_an_outcome_that_somebody_else_confirmed_counts(known: object) -> None:
    it = Driven(attempt=3)
    a = it.call("a")
    it.starts(a)
    it.fail(a)
    it.reads(known)  # type: ignore[arg-type]
    it.answers("DiscoveryRequest")
    (notice,) = it.notices()
    assert "'a'" in notice
    assert "the journal has an outcome of it" in notice


def test_a_targeted_call_answers_the_outcome_that_was_confirmed() -> None:
    it = Driven(target="a", attempt=3)
    a = it.call("a")
    it.starts(a)
    it.fail(a)
    it.reads(memo("a", {"n": 1}))
    (op,) = it.answers(("StepRun", "a")).ops
    assert op.data == '{"n": 1}'


def test_a_result_that_may_have_been_stored_and_was_then_refused() -> None:
    """The first try's answer was lost, the second is refused: the result may be there."""
    it = Driven()
    a = it.call("a")
    it.runs(a)
    it.sends("a")
    it.checkpointed(Verdict.TOO_LARGE)
    it.reads(memo("a", 1))
    it.answers("DiscoveryRequest")


def test_what_is_buffered_is_confirmed_before_the_journal_is_read() -> None:
    it = Driven(policy=THREE, attempt=3)
    a, b = it.calls("a", "b")
    it.starts(a, b)
    it.settle(a)
    it.fail(b)
    it.confirms("a")
    it.reads(memo("a"))
    it.answers(("StepFailed", "b"))


def test_a_run_that_turns_out_to_be_over_is_left_quietly() -> None:
    it = Driven(attempt=3)
    a = it.call("a")
    it.starts(a)
    it.fail(a)
    it.reads(verdict=Verdict.GONE)
    it.answers("None")


def test_a_journal_that_cannot_be_read_is_said_and_the_step_fails() -> None:
    it = Driven(attempt=3)
    a = it.call("a")
    it.starts(a)
    it.fail(a)
    it.reads(verdict=Verdict.UNCONFIRMED)
    (notice,) = it.notices()
    assert "could not be read" in notice
    it.answers(("StepFailed", "a"))


def test_nobody_waits_for_a_reading_any_more() -> None:
    it = Driven(attempt=3)
    a = it.call("a")
    it.starts(a)
    it.fail(a)
    assert it.next() == ReadJournal()
    it.core.abandon()
    it.core.journal_read(Verdict.UNCONFIRMED)
    assert it.next() is None
