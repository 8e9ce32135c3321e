"""The state machine on its own: no IO, no clock."""

from __future__ import annotations

import pytest

from onward_server.answers import Answer, Raised, interpret
from onward_server.model import DropJob, EndRun, PutJob, PutStep, Status
from onward_server.run_state import Refused
from tests.server.fakes import (
    RACE,
    complete,
    continue_op,
    error_op,
    failure,
    parsed,
    plan_op,
    report,
    run_op,
    sleep_op,
    step_id,
    wait_op,
)
from tests.server.machines import Machine


def test_a_run_begins_with_one_call_that_is_written_first() -> None:
    machine = Machine()
    [job] = machine.last.dispatch
    assert (job.attempt, job.generation, job.position, job.planned) == (0, 1, 0, False)
    row = machine.last.writes[-1]
    assert isinstance(row, PutJob)
    assert row.request_id == job.request_id


def test_one_step_makes_one_call_that_stands_at_its_position() -> None:
    machine = Machine()
    effects = machine.answer(report(run_op("a")))
    assert [type(write) for write in effects.writes[1:]] == [PutStep, DropJob, PutJob]
    assert (machine.job.position, machine.job.attempt, machine.job.generation) == (1, 0, 1)


def test_a_failed_call_is_retried_as_the_same_job() -> None:
    machine = Machine(retry_base_s=10, retry_jitter=0.0)
    first = machine.job
    request_id = first.request_id
    effects = machine.answer(failure())
    assert effects.dispatch == []
    assert effects.timers == [(machine.ids.ms + 10_000, first.id)]
    assert machine.wait(9_999, first.id).stale
    effects = machine.wait(1, first.id)
    assert effects.dispatch == [first]
    assert (first.attempt, first.generation) == (1, 2)
    assert first.request_id != request_id
    effects = machine.answer(failure())
    assert effects.timers == [(machine.ids.ms + 20_000, first.id)], "the delay doubles"
    machine.wait(20_000, first.id)
    machine.answer(failure("at last"))
    assert "at last" in machine.error


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0.2", 1), ("99999999", 86_400), ("1970-01-01T00:18:00Z", 80)],
)
def test_retry_after_is_honoured_within_its_limits(header: str, seconds: int) -> None:
    machine = Machine()
    effects = machine.answer(failure(retry_after=header))
    assert effects.timers[0][0] == machine.ids.ms + seconds * 1000


def test_no_retry_ends_the_run() -> None:
    machine = Machine()
    machine.answer(failure("fatal", 500, x_inngest_no_retry="true"))
    assert "fatal" in machine.error
    assert machine.run.no_retry


def test_status_400_without_a_header_is_final_and_500_is_not() -> None:
    assert interpret(failure("x", 400), 0) == Raised(
        {"name": "ValueError", "message": "x", "stack": ""}, retriable=False
    )
    outcome = interpret(failure("x", 500), 0)
    assert isinstance(outcome, Raised)
    assert outcome.retriable


def test_a_throttled_call_uses_up_no_attempt() -> None:
    machine = Machine(max_attempts=1, throttle_base_s=1, retry_jitter=0.0)
    job = machine.job
    for delay in (1_000, 2_000, 4_000):
        effects = machine.answer(Answer(429, {}, b"slow down"))
        assert effects.timers == [(machine.ids.ms + delay, job.id)]
        machine.wait(delay, job.id)
    assert job.attempt == 0
    machine.answer(complete("ok"))
    assert machine.run.status is Status.COMPLETED


def test_a_refused_connection_uses_up_no_attempt_for_a_while() -> None:
    machine = Machine(max_attempts=1, refused_delay_s=1, refused_grace_s=3)
    job = machine.job
    for _ in range(3):
        machine.run.answer(job.id, job.request_id, Refused("nobody there"), machine.ids.now())
        machine.wait(1_000, job.id)
        assert job.attempt == 0
    machine.run.answer(job.id, job.request_id, Refused("nobody there"), machine.ids.now())
    assert "nobody there" in machine.error


def test_an_answer_of_a_superseded_dispatch_changes_nothing() -> None:
    machine = Machine()
    job = machine.job
    stale = job.request_id
    machine.answer(failure())
    machine.wait(60_000, job.id)
    effects = machine.run.answer(job.id, stale, interpret(complete("late"), 0), machine.ids.now())
    assert effects.stale
    assert not machine.run.over


def test_a_checkpoint_of_a_superseded_dispatch_is_fenced_off() -> None:
    machine = Machine()
    job = machine.job
    stale = job.request_id
    machine.answer(failure())
    assert machine.run.checkpoint(stale, parsed(run_op("a"))).refusal is None, "still its own"
    machine.wait(60_000, job.id)
    refusal = machine.run.checkpoint(stale, parsed(run_op("b"))).refusal
    assert refusal is not None
    assert refusal.status == 409
    assert "superseded" in refusal.body["error"]
    assert step_id("b") not in machine.run.steps


def test_the_first_result_wins() -> None:
    machine = Machine()
    request_id = machine.job.request_id
    assert machine.run.checkpoint(request_id, parsed(run_op("a", 1))).fresh == 1
    again = machine.run.checkpoint(request_id, parsed(run_op("a", 2)))
    assert (again.fresh, again.writes, again.refusal) == (0, [], None)
    assert machine.run.steps[step_id("a")].endswith('{"data":1}')


def test_a_checkpoint_with_one_large_result_takes_none() -> None:
    machine = Machine(max_step_bytes=10)
    effects = machine.run.checkpoint(
        machine.job.request_id, parsed(run_op("small"), run_op("large", "x" * 11))
    )
    assert effects.refusal is not None
    assert effects.refusal.status == 413
    assert step_id("large") in effects.refusal.body["error"]
    assert machine.run.steps == {}


def test_a_checkpoint_does_not_reset_the_attempt_and_a_continuation_does() -> None:
    machine = Machine()
    machine.answer(failure())
    machine.wait(60_000, machine.run.jobs.copy().popitem()[0])
    machine.run.checkpoint(machine.job.request_id, parsed(run_op("a")))
    assert machine.job.attempt == 1
    machine.answer(report(continue_op("c1")))
    assert (machine.job.attempt, machine.job.generation) == (0, 1)


def test_planned_steps_fan_in_without_race_mode() -> None:
    machine = Machine()
    machine.answer(report(plan_op("a"), plan_op("b")))
    a, b = machine.flying("a"), machine.flying("b")
    assert a.planned
    assert b.planned
    effects = machine.answer(report(run_op("b")), b)
    assert effects.dispatch == []
    effects = machine.answer(report(run_op("a")), a)
    [call] = effects.dispatch
    assert (call.targeted, call.planned, call.position) == (False, False, 2)


def test_in_race_mode_each_result_calls_but_never_two_at_once() -> None:
    machine = Machine()
    machine.answer(report(plan_op("a", **RACE), plan_op("b", **RACE), sleep_op("s", "1h", **RACE)))
    a, b = machine.flying("a"), machine.flying("b")
    [first] = machine.answer(report(run_op("a", **RACE)), a).dispatch
    assert first.planned, "others are open"
    assert machine.answer(report(run_op("b", **RACE)), b).dispatch == [], "one is in flight"
    [second] = machine.answer(report(sleep_op("s", "1h", **RACE)), first).dispatch
    assert second.position == 2, "it sees b, which the first could not"
    assert machine.answer(report(sleep_op("s", "1h", **RACE)), second).dispatch == []
    assert list(machine.run.pending) == [step_id("s")]


def test_a_result_that_a_later_call_saw_makes_no_call_of_its_own() -> None:
    machine = Machine()
    machine.answer(report(plan_op("a", **RACE), sleep_op("s", "1h", **RACE)))
    machine.ids.ms += 1
    [first] = machine.answer(report(run_op("a", **RACE)), machine.flying("a")).dispatch
    machine.answer(failure(), first)
    machine.wait(3_600_000, step_id("s"))
    assert machine.owed()
    machine.wait(0, first.id)
    assert not machine.owed(), "the retry carries the sleep's result"
    machine.answer(complete("ok"), first)
    assert machine.run.status is Status.COMPLETED


def test_an_op_that_is_reported_again_is_the_same_op() -> None:
    machine = Machine()
    machine.answer(report(sleep_op("s", "1s", **RACE), wait_op("w", "never", "1h", **RACE)))
    machine.wait(1_000, step_id("s"))
    effects = machine.answer(report(plan_op("a", **RACE), wait_op("w", "never", "9h", **RACE)))
    assert [job.target for job in effects.dispatch] == [step_id("a")]
    assert machine.run.pending[step_id("w")].due_ms == machine.ids.ms - 1_000 + 3_600_000


def test_several_results_alone_call_once_each_and_must_plan() -> None:
    machine = Machine()
    effects = machine.answer(report(run_op("a"), run_op("b")))
    assert [(job.position, job.planned) for job in effects.dispatch] == [(1, True), (2, True)]


def test_a_sleep_ends_at_its_instant() -> None:
    machine = Machine()
    machine.answer(report(sleep_op("s", "1m30s")))
    due = machine.run.pending[step_id("s")].due_ms
    assert due == machine.ids.ms + 90_000
    assert machine.wait(89_999, step_id("s")).stale
    [call] = machine.wait(1, step_id("s")).dispatch
    assert call.position == 1
    assert machine.run.steps[step_id("s")].endswith(":null")


@pytest.mark.parametrize("text", ["1970-01-01T00:20:00Z", "1970-01-01T01:20:00+01:00"])
def test_a_sleep_until_an_instant(text: str) -> None:
    machine = Machine()
    machine.answer(report(sleep_op("s", text)))
    assert machine.run.pending[step_id("s")].due_ms == 1_200_000


def test_a_wait_ends_by_its_event_or_its_timeout() -> None:
    for matched in (True, False):
        machine = Machine()
        options = {"if": "async.data.id == event.data.id"}
        machine.answer(report(wait_op("w", "approved", "10s", **options)))
        event = {"name": "approved", "data": {"id": 8}}
        assert machine.run.woken(event, machine.ids.now()).writes == []
        if matched:
            event["data"] = {"id": 7}
            effects = machine.run.woken(event, machine.ids.now())
        else:
            effects = machine.wait(10_000, step_id("w"))
        assert len(effects.dispatch) == 1
        assert ('"approved"' in machine.run.steps[step_id("w")]) is matched


def test_a_failed_step_is_memoized_when_its_attempts_are_used_up() -> None:
    machine = Machine(max_attempts=2)
    job = machine.job
    machine.answer(report(error_op("a"), retry_after="1"))
    machine.wait(1_000, job.id)
    assert job.attempt == 1
    [call] = machine.answer(report(error_op("a"))).dispatch
    assert call.attempt == 0
    assert '"error"' in machine.run.steps[step_id("a")]


def test_results_before_completion_are_kept_with_it() -> None:
    machine = Machine()
    effects = machine.answer(complete({"n": 1}, run_op("a")))
    assert [type(write) for write in effects.writes][-2:] == [PutStep, EndRun]
    assert machine.run.output == '{"n":1}'
    assert machine.run.jobs == {}


def test_after_the_end_nothing_is_taken() -> None:
    machine = Machine()
    job = machine.job
    machine.run.cancel(machine.ids.now())
    assert machine.run.status is Status.CANCELLED
    refusal = machine.run.checkpoint(job.request_id, parsed(run_op("a"))).refusal
    assert refusal is not None
    assert (refusal.status, refusal.body["error"]) == (400, "run not found in state store")
    assert machine.answer(complete("late"), job).stale
    assert machine.wait(10**9, job.id).stale
    assert machine.run.cancel(machine.ids.now()).stale


def test_a_restart_calls_again_what_was_in_flight_as_a_new_generation() -> None:
    machine = Machine()
    machine.answer(report(plan_op("a", **RACE), plan_op("b", **RACE), sleep_op("s", "5s", **RACE)))
    machine.answer(failure(), machine.flying("b"))
    for job in machine.run.jobs.values():
        job.in_flight = False  # as loaded from the store
    old = machine.flying("a").request_id
    effects = machine.run.resume(machine.ids.now())
    assert [job.target for job in effects.dispatch] == [step_id("a")]
    a = machine.flying("a")
    assert (a.generation, a.attempt) == (2, 0)
    assert a.request_id != old
    assert {key for _, key in effects.timers} == {step_id("s"), machine.flying("b").id}
