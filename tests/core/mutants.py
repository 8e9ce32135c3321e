"""Small mutations of the core, each of which breaks a promise.

A mutant patches one method or function, so that what it breaks can be read off it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from onward.core import response as answers
from onward.core.actions import Action, Respond
from onward.core.buffer import Buffer
from onward.core.calls import CallState, StepCall
from onward.core.invocation import Invocation
from onward.core.ops import Op, Opcode
from onward.core.racing import Racing
from onward.core.record import Record
from onward.core.replay import Replay
from onward.core.response import Response
from onward.core.retry import Verdict
from onward.core.situation import Situation

Mutant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Mutant] = {}


def _failed(invocation: Invocation, call: StepCall) -> Op:
    assert call.op is not None
    return answers.in_race_mode(call.op) if invocation._at.targeted else call.op


def mutant(mutate: Mutant) -> Mutant:
    """Register a mutant under its name."""
    MUTANTS[mutate.__name__] = mutate
    return mutate


# ---------------------------------------------------------------------- flushes


@mutant
def no_flush_before_an_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Invocation, "_answer", lambda self, response: self._respond(response))


@mutant
def no_flush_of_a_full_buffer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Buffer, "due", lambda self, now: False)
    patch.setattr(Buffer, "full", property(lambda self: False))


@mutant
def delivers_before_the_confirm(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Invocation, "_blocked_by_checkpoint", lambda self: False)


@mutant
def sends_while_a_batch_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    def take(self: Buffer, limit: int | None = None) -> tuple[Op, ...]:
        self.in_flight, self.waiting, self.bytes = tuple(self.waiting), [], 0
        return self.in_flight

    def answer(self: Invocation, response: Response) -> Action:
        return self._send() if self._buffer.waiting else self._respond(response)

    patch.setattr(Buffer, "take", take)
    patch.setattr(Invocation, "_answer", answer)


@mutant
def confirms_twice(patch: pytest.MonkeyPatch) -> None:
    def confirm(self: Buffer) -> None:
        self.confirmed += len(self.in_flight)
        self.waiting[:0] = self.in_flight if self.confirmed % 3 == 0 else ()
        self.in_flight = ()

    patch.setattr(Buffer, "confirm", confirm)


@mutant
def buffers_in_another_order_than_it_delivers(patch: pytest.MonkeyPatch) -> None:
    original = Buffer.add

    def add(self: Buffer, op: Op, now: float) -> None:
        original(self, op, now)
        self.waiting.insert(0, self.waiting.pop())

    patch.setattr(Buffer, "add", add)


@mutant
def a_failed_batch_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    def fail(self: Buffer) -> None:
        self.in_flight = ()

    patch.setattr(Buffer, "fail", fail)


@mutant
def a_failed_batch_comes_back_behind_the_rest(patch: pytest.MonkeyPatch) -> None:
    def fail(self: Buffer) -> None:
        self.waiting.extend(self.in_flight)
        self.in_flight = ()

    patch.setattr(Buffer, "fail", fail)


@mutant
def results_do_not_ride_with_the_end(patch: pytest.MonkeyPatch) -> None:
    original = answers.run_complete
    patch.setattr(answers, "run_complete", lambda result, before=(): original(result))


@mutant
def barriers_do_not_hold(patch: pytest.MonkeyPatch) -> None:
    original = Record.called

    def called(self: Record, call: StepCall) -> None:
        call.barrier = False
        original(self, call)

    patch.setattr(Record, "called", called)


@mutant
def an_unconfirmed_batch_counts_as_confirmed(patch: pytest.MonkeyPatch) -> None:
    original = Record.checkpointed

    def checkpointed(self: Record, verdict: Verdict, detail: str = "") -> None:
        lost = verdict in {Verdict.UNCONFIRMED, Verdict.REFUSED}
        original(self, Verdict.CONFIRMED if lost else verdict, detail)

    patch.setattr(Record, "checkpointed", checkpointed)


@mutant
def goes_on_in_a_run_that_is_gone(patch: pytest.MonkeyPatch) -> None:
    original = Record.checkpointed

    def checkpointed(self: Record, verdict: Verdict, detail: str = "") -> None:
        original(self, Verdict.CONFIRMED if verdict is Verdict.GONE else verdict, detail)

    patch.setattr(Record, "checkpointed", checkpointed)


# ---------------------------------------------------------------------- outcomes


@mutant
def late_outcomes_are_taken(patch: pytest.MonkeyPatch) -> None:
    original = Record._claim

    def claim(self: Record, call: StepCall, now: float) -> bool:
        if call.state is not CallState.DELIVERED:
            call.state = CallState.RUNNING
        return original(self, call, now)

    patch.setattr(Record, "_claim", claim)


@mutant
def results_of_cancelled_branches_are_delivered(patch: pytest.MonkeyPatch) -> None:
    original = Record.closed

    def closed(self: Record, call: StepCall) -> bool:
        before = call.state
        stop = original(self, call)
        if before is CallState.SETTLED and call.failure is None:
            call.state = before
        return stop

    patch.setattr(Record, "closed", closed)


@mutant
def failures_of_cancelled_branches_are_reported(patch: pytest.MonkeyPatch) -> None:
    original = Record.closed

    def closed(self: Record, call: StepCall) -> bool:
        kept = dict(self._failed)
        stop = original(self, call)
        self._failed = kept
        return stop

    patch.setattr(Record, "closed", closed)


@mutant
def results_are_delivered_in_the_order_of_calls(patch: pytest.MonkeyPatch) -> None:
    original = Invocation._deliver

    def deliver(self: Invocation, now: float, busy: Callable[[], bool]) -> Action | None:
        ordered = sorted(self._live, key=lambda call: call.sequence)
        self._live.clear()
        self._live.extend(ordered)
        return original(self, now, busy)

    patch.setattr(Invocation, "_deliver", deliver)


# ---------------------------------------------------------------------- replay


@mutant
def replays_in_another_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Replay, "_next_position", lambda self: max(self._open))


@mutant
def bodies_start_before_the_replay_is_over(patch: pytest.MonkeyPatch) -> None:
    original = Invocation._deliver

    def deliver(self: Invocation, now: float, busy: Callable[[], bool]) -> Action | None:
        if any(not call.orchestrated for call in self._open.values()) and not self._at.targeted:
            return self._start(now)
        return original(self, now, busy)

    patch.setattr(Invocation, "_deliver", deliver)


@mutant
def a_memoized_step_runs_again(patch: pytest.MonkeyPatch) -> None:
    original = Replay.claim

    def claim(self: Replay, call: StepCall) -> bool:
        return call.index == 0 and call.user_id != "s2" and original(self, call)

    patch.setattr(Replay, "claim", claim)


# ---------------------------------------------------------------------- answers


@mutant
def continues_without_progress(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Record, "_progress", property(lambda self: True))


@mutant
def continues_under_one_id(patch: pytest.MonkeyPatch) -> None:
    original = answers.continuation
    patch.setattr(answers, "continuation", lambda request_id: original("always"))


@mutant
def reports_every_failed_step(patch: pytest.MonkeyPatch) -> None:
    def report(self: Invocation, call: StepCall) -> Action | None:
        ops = tuple(_failed(self, failed) for failed in self._failed.values())
        return self._answer(replace(answers.step_failed(ops[0]), ops=ops))

    patch.setattr(Invocation, "_report", report)


@mutant
def reports_the_last_failed_step(patch: pytest.MonkeyPatch) -> None:
    original = Invocation._report

    def report(self: Invocation, call: StepCall) -> Action | None:
        return original(self, self._failed[max(self._failed)])

    patch.setattr(Invocation, "_report", report)


@mutant
def forgets_the_results_beside_a_failed_step(patch: pytest.MonkeyPatch) -> None:
    def report(self: Invocation, call: StepCall) -> Action:
        return self._respond(answers.step_failed(_failed(self, call)))

    patch.setattr(Invocation, "_report", report)


@mutant
def results_stand_beside_a_failed_step(patch: pytest.MonkeyPatch) -> None:
    def report(self: Invocation, call: StepCall) -> Action:
        op = _failed(self, call)
        beside = (*self._buffer.unconfirmed, op)
        return Respond(replace(answers.step_failed(op), ops=beside))

    patch.setattr(Invocation, "_report", report)


@mutant
def plans_without_race_mode(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(answers, "plan", lambda ops: Response(206, tuple(ops)))


@mutant
def plans_only_one_open_branch(patch: pytest.MonkeyPatch) -> None:
    original = answers.plan
    patch.setattr(answers, "plan", lambda ops: original(ops[:1]))


@mutant
def starts_bodies_beside_orchestrated_ops(patch: pytest.MonkeyPatch) -> None:
    original = Invocation._plan

    def plan(self: Invocation, now: float, *, one: bool = False) -> Action | None:
        for call in self._open.values():
            if not call.orchestrated:
                return self._begin(call, now)
        return original(self, now, one=one)

    patch.setattr(Invocation, "_plan", plan)


@mutant
def runs_eagerly_where_it_is_told_to_plan(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Invocation, "_folds", property(lambda self: False))


@mutant
def a_targeted_failure_beside_a_sleep_is_not_reported(patch: pytest.MonkeyPatch) -> None:
    original = Invocation._first_failure

    def first_failure(self: Invocation, *, outstanding: bool) -> StepCall | None:
        found = original(self, outstanding=outstanding)
        if outstanding and found is not None and found.op is not None:
            return None if found.op.code is Opcode.STEP_ERROR else found
        return found

    patch.setattr(Invocation, "_first_failure", first_failure)


@mutant
def a_targeted_call_runs_whatever_is_open(patch: pytest.MonkeyPatch) -> None:
    def target(self: Invocation, now: float, busy: Callable[[], bool]) -> Action | None:
        return next((self._begin(c, now) for c in self._open.values()), None)

    patch.setattr(Invocation, "_target", target)


# ---------------------------------------------------------------------- calls that race


@mutant
def forgets_what_an_earlier_call_planned(patch: pytest.MonkeyPatch) -> None:
    original = Racing.delivered

    def delivered(self: Racing, call: StepCall) -> None:
        original(self, call)
        for other in self._waiting.values():
            self._racing -= other.raced and not other.orchestrated
            other.raced = False

    patch.setattr(Racing, "delivered", delivered)


@mutant
def thinks_that_no_call_sees_the_same_journal(patch: pytest.MonkeyPatch) -> None:
    original = Racing.delivered

    def delivered(self: Racing, call: StepCall) -> None:
        original(self, call)
        self.joined = False

    patch.setattr(Racing, "delivered", delivered)


@mutant
def sees_only_the_first_of_several_new_calls(patch: pytest.MonkeyPatch) -> None:
    original = Racing.delivered

    def delivered(self: Racing, call: StepCall) -> None:
        fresh = list(self._fresh)
        original(self, call)
        self._fresh[:] = fresh[:1]

    patch.setattr(Racing, "delivered", delivered)


@mutant
def plans_parallel_steps_as_if_they_did_not_race(patch: pytest.MonkeyPatch) -> None:
    original = Record.__init__

    def init(self: Record, *args: Any) -> None:
        original(self, *args)
        self._racing = Racing()

    patch.setattr(Record, "__init__", init)


@mutant
def plans_whatever_is_open_where_calls_fold(patch: pytest.MonkeyPatch) -> None:
    original = Invocation._plan

    def plan(self: Invocation, now: float, *, one: bool = False) -> Action | None:
        del one
        return original(self, now)

    patch.setattr(Invocation, "_plan", plan)


# ---------------------------------------------------------------------- attempts, time


@mutant
def goes_on_after_the_first_frontier(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Situation, "first_frontier_only", property(lambda self: self.single))


@mutant
def every_attempt_has_another_after_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Situation, "last_attempt", property(lambda self: False))


@mutant
def begins_steps_beside_a_failed_one(patch: pytest.MonkeyPatch) -> None:
    original = Invocation._frontier

    def frontier(self: Invocation, now: float, busy: Callable[[], bool]) -> Action | None:
        steps = [call for call in self._open.values() if not call.orchestrated]
        if self._failed and steps and not self._at.targeted:
            return self._begin(steps[0], now)
        return original(self, now, busy)

    patch.setattr(Invocation, "_frontier", frontier)


@mutant
def never_stops_a_body(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Invocation, "_cut_overdue", lambda self, now: None)


@mutant
def never_looks_at_the_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Invocation, "next_wake", lambda self: float("inf"))


@mutant
def begins_steps_after_the_deadline(patch: pytest.MonkeyPatch) -> None:
    def go_on(self: Invocation, now: float, busy: Callable[[], bool]) -> Action | None:
        return self._deliver(now, busy) or self._frontier(now, busy)

    patch.setattr(Invocation, "_go_on", go_on)


@mutant
def tries_again_beside_a_body_that_is_stuck(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Record, "stuck", lambda self, call, now: self.was_cut(call, now))


@mutant
def keeps_a_cancelled_body_running(patch: pytest.MonkeyPatch) -> None:
    original = Record.closed

    def closed(self: Record, call: StepCall) -> bool:
        original(self, call)
        return False

    patch.setattr(Record, "closed", closed)
