"""One run's state machine: what an answer, a checkpoint, a timer, an event changes. No IO.

Every transition returns `Effects`. Their writes must be durable before anything else of them is
done or acknowledged; where they cannot be written, this object is dropped and loaded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onward.core.ops import Opcode
from onward_server import answers, refusals, waits
from onward_server.answers import Raised, Reported, Returned, Throttled, WireOp, error_info
from onward_server.json_text import dumps
from onward_server.model import (
    DropJob,
    Effects,
    EndRun,
    Job,
    Now,
    Pending,
    PutContinuation,
    PutRun,
    PutVersion,
    Refusal,
    Status,
    job_row,
)
from onward_server.refusals import RunRefusedError, too_large
from onward_server.run_memory import RunMemory
from onward_server.shapes import refuse_shape

_FINISHED = frozenset({Opcode.STEP_RUN.value, Opcode.STEP_FAILED.value})
_NULL = "null"


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody listens where the function should be: nothing was started."""

    message: str


class RunState(RunMemory):
    """A run in memory, and what changes it."""

    __slots__ = ()

    # The beginning, and beginning again

    def begin(self, now: Now) -> Effects:
        """The run's first call, now or when the run is to start."""
        effects = Effects()
        effects.writes.append(
            PutRun(
                self.run_id,
                self.function_id,
                self.event_id,
                self.event_names,
                self.events,
                self.started_ms,
            )
        )
        job = Job(now.job_id())
        if self.started_ms > now.ms:
            job.due_ms = self.started_ms
            self.jobs[job.id] = job
            effects.writes.append(job_row(self.run_id, job))
            effects.timers.append((job.due_ms, job.id))
        else:
            self._start(job, effects, now)
        return effects

    def resume(self, now: Now) -> Effects:
        """Goes on after a restart: what was in flight is called again, as a new generation."""
        effects = Effects()
        effects.timers.extend((p.due_ms, p.id) for p in self.pending.values() if p.due_ms)
        try:
            for job in list(self.jobs.values()):
                if job.due_ms > now.ms:
                    effects.timers.append((job.due_ms, job.id))
                else:
                    self._start(job, effects, now)
        except RunRefusedError as refusal:
            self._end(Status.FAILED, dumps(refusal.error), effects, now)
        return effects

    # Checkpoints

    def checkpoint(self, request_id: str, ops: Sequence[WireOp]) -> Effects:
        """Memoizes finished steps while the function goes on; `effects.refusal` where it cannot."""
        effects = Effects()
        if self.over:
            return self._refuse(effects, 400, "run not found in state store")
        if any(op.code != Opcode.STEP_RUN for op in ops):
            return self._refuse(effects, 400, "cannot checkpoint async steps")
        if request_id and all(job.request_id != request_id for job in self.jobs.values()):
            effects.stale = True
            return self._refuse(
                effects,
                409,
                f"invocation {request_id} was superseded: another one owns this run now, so this"
                " result was not taken. Start no further step and answer one None op with an id.",
            )
        for op in ops:
            if len(op.result) > self.settings.max_step_bytes:
                return self._refuse(effects, 413, too_large(op, self.settings.max_step_bytes))
        for op in ops:
            self.save(op.id, op.label, op.entry, effects)
        return effects

    def _refuse(self, effects: Effects, status: int, message: str) -> Effects:
        body: dict[str, Any] = {"error": message, "data": {"run_id": self.run_id}, "status": status}
        effects.refusal = Refusal(status, body)
        return effects

    # Answers

    def answer(
        self,
        job_id: str,
        request_id: str,
        outcome: answers.Outcome | Refused,
        now: Now,
    ) -> Effects:
        """What follows from the answer to the dispatch `request_id` of the job `job_id`."""
        effects = Effects()
        job = self.jobs.get(job_id)
        if self.over or job is None or job.request_id != request_id or not job.in_flight:
            effects.stale = True
            return effects
        job.in_flight = False
        if isinstance(outcome, Refused):
            self._refused_connection(job, outcome, effects, now)
            return effects
        job.refused_since_ms = 0
        try:
            if isinstance(outcome, Throttled):
                self._throttled(job, outcome, effects, now)
            elif isinstance(outcome, Raised):
                self._raised(job, outcome, effects, now)
            elif isinstance(outcome, Returned):
                self._end(Status.COMPLETED, outcome.result, effects, now)
            else:
                self._reported(job, outcome, effects, now)
        except RunRefusedError as refusal:
            self._end(Status.FAILED, dumps(refusal.error), effects, now)
        if self.expired and not self.over:
            self._cancel(self.expired, effects, now)
        return effects

    def _refused_connection(self, job: Job, outcome: Refused, effects: Effects, now: Now) -> None:
        job.refused_since_ms = job.refused_since_ms or now.ms
        if now.ms - job.refused_since_ms < self.settings.refused_grace_s * 1000:
            self._later(job, self.settings.refused_delay_s, effects, now)
            return
        job.refused_since_ms = 0
        error = error_info("FunctionUnreachableError", outcome.message)
        self._raised(job, Raised(error, retriable=True), effects, now)

    def _throttled(self, job: Job, outcome: Throttled, effects: Effects, now: Now) -> None:
        delay = self.settings.throttle_delay(job.throttled, now.chance)
        job.throttled += 1
        if outcome.retry_after_s is not None:
            delay = self.settings.clamp_retry_after(outcome.retry_after_s)
        self._later(job, delay, effects, now)

    def _raised(self, job: Job, outcome: Raised, effects: Effects, now: Now) -> None:
        if not outcome.retriable or job.attempt + 1 >= self.max_attempts:
            self.no_retry = not outcome.retriable
            self._end(Status.FAILED, dumps(outcome.error), effects, now)
            return
        self._retry(job, outcome.retry_after_s, effects, now)

    def _retry(self, job: Job, after_s: float | None, effects: Effects, now: Now) -> None:
        if after_s is None:
            delay = self.settings.retry_delay(job.attempt, now.chance)
        else:
            delay = self.settings.clamp_retry_after(after_s)
        job.attempt += 1
        job.throttled = 0
        self._later(job, delay, effects, now)

    def _later(self, job: Job, delay_s: float, effects: Effects, now: Now) -> None:
        job.due_ms = now.ms + round(delay_s * 1000)
        effects.writes.append(job_row(self.run_id, job))
        effects.timers.append((job.due_ms, job.id))

    def _reported(self, job: Job, outcome: Reported, effects: Effects, now: Now) -> None:
        ops = tuple(op for op in outcome.ops if op.code != Opcode.NONE or len(outcome.ops) == 1)
        self._note_version(ops, outcome.version, effects)
        refusal = refuse_shape(ops)
        if refusal is not None:
            raise refusals.bad_response(refusal)
        if len(ops) == 1 and self._retried(job, ops[0], outcome, effects, now):
            return
        finished = self._save_results(ops, effects)
        complete = next((op for op in ops if op.code == Opcode.RUN_COMPLETE), None)
        if complete is not None:
            self._end(Status.COMPLETED, complete.result, effects, now)
            return
        self._finish_job(job, ops, effects)
        for op in ops:
            if op.code == Opcode.STEP_PLANNED:
                self._plan(job, op, ops, effects, now)
            elif op.code in waits.RESOLVED:
                self.wait(op, effects, now)
        self._call_next(job, ops, finished, effects, now)
        self._settle(job, ops, effects, now)

    def _note_version(self, ops: Sequence[WireOp], version: int, effects: Effects) -> None:
        redriven = not ops or (ops[0].code == Opcode.NONE and not ops[0].id)
        if self.version == -1 and not redriven:
            self.version = version
            effects.writes.append(PutVersion(self.run_id, version))

    def _retried(self, job: Job, op: WireOp, outcome: Reported, effects: Effects, now: Now) -> bool:
        """Retries a failed step if it may be; else it fails for good, which its result will say."""
        if op.code not in {Opcode.STEP_ERROR, Opcode.STEP_NOT_FOUND}:
            return False
        if outcome.no_retry is not True and job.attempt + 1 < self.max_attempts:
            self._retry(job, outcome.retry_after_s, effects, now)
            return True
        if op.code == Opcode.STEP_NOT_FOUND:
            raise refusals.step_not_found(job.target)
        return False

    def _save_results(self, ops: Sequence[WireOp], effects: Effects) -> list[tuple[int, WireOp]]:
        """Memoizes what is finished; returns each with its position in the journal, from 1."""
        finished = []
        for op in ops:
            if op.code not in _FINISHED and op.code != Opcode.STEP_ERROR:
                continue
            if len(op.result) > self.settings.max_step_bytes:
                message = too_large(op, self.settings.max_step_bytes)
                raise RunRefusedError("ResultTooLargeError", message)
            if op.error is not None and self.holds_success(op.id):
                raise refusals.second_outcome(op)
            finished.append((self.save(op.id, op.label, op.entry, effects), op))
            if op.id in self.pending:
                self.forget(op.id, effects)
        return finished

    def _finish_job(self, job: Job, ops: Sequence[WireOp], effects: Effects) -> None:
        del self.jobs[job.id]
        effects.writes.append(DropJob(job.id))
        if job.targeted and job.target in self.pending:
            if any(op.id == job.target for op in ops):
                raise refusals.planned_again()
            self.forget(job.target, effects)  # the next call without a target plans it again

    def _plan(
        self, job: Job, op: WireOp, ops: Sequence[WireOp], effects: Effects, now: Now
    ) -> None:
        if op.id in self.pending or op.id in self.steps:
            return
        self.add_pending(Pending(op.id, op.code, op.race), effects)
        planned = len(ops) > 1 or job.planned
        self._start(Job(now.job_id(), op.id, position=job.position, planned=planned), effects, now)

    # Which call follows

    def _call_next(
        self,
        job: Job,
        ops: Sequence[WireOp],
        finished: Sequence[tuple[int, WireOp]],
        effects: Effects,
        now: Now,
    ) -> None:
        continuing = [op for op in ops if op.code == Opcode.DISCOVERY_REQUEST]
        for op in continuing:
            self._note_continuation(op, effects)
        redriven = not ops or (ops[0].code == Opcode.NONE and not ops[0].id)
        if continuing or redriven or finished:
            self._bound_idleness(job)
        causes = [position for position, _ in finished] + [job.position] * len(continuing)
        if redriven:
            self._discover(len(self.steps), effects, now)
        elif len(causes) > 1 and len(causes) == len(ops):
            for position in causes:  # as recorded: each calls the function, all at once
                new = Job(now.job_id(), position=position, planned=True, solo=False)
                self._start(new, effects, now)
        elif continuing:
            self._discover(job.position, effects, now)
        else:
            for position, op in finished:
                if op.race or (len(ops) == 1 and not self._held_up()):
                    self._discover(position, effects, now)

    def _note_continuation(self, op: WireOp, effects: Effects) -> None:
        if op.id in self.continuations:
            raise refusals.repeated_continuation(op)
        self.continuations.add(op.id)
        effects.writes.append(PutContinuation(self.run_id, op.id))

    def _bound_idleness(self, job: Job) -> None:
        self.idle += len(self.steps) == job.steps_at_dispatch
        if self.idle > self.settings.max_idle_continuations:
            raise refusals.idle(self.idle)

    def _discover(self, position: int, effects: Effects, now: Now) -> None:
        """Calls the function without a target; one such call at a time."""
        if any(not job.targeted for job in self.jobs.values()):
            self.redo = position
            return
        self._start(Job(now.job_id(), position=position), effects, now)

    def _settle(self, job: Job, ops: Sequence[WireOp], effects: Effects, now: Now) -> None:
        """Makes the call that was put off, and lets no run end up with nothing to wait for."""
        if self.over:
            return
        if self.redo is not None:
            self._discover(self.redo, effects, now)
        if self.jobs or self.pending:
            return
        if len(self.steps) > job.steps_at_dispatch and not any(
            op.code == Opcode.NONE for op in ops
        ):
            self._discover(len(self.steps), effects, now)
            return
        raise refusals.stalled(ops)

    def _start(self, job: Job, effects: Effects, now: Now) -> None:
        """Dispatches `job` now, unless the run has outgrown its limits."""
        settings = self.settings
        if len(self.steps) >= settings.max_steps or self.size > settings.max_run_bytes:
            raise refusals.overflow(len(self.steps), self.size, settings)
        if not job.targeted:
            self.redo = None  # this call sees everything that came so far
            job.planned = bool(self.pending) if job.solo else True
        job.generation += 1
        job.request_id = now.ulid()
        job.due_ms = 0
        job.in_flight = True
        job.steps_at_dispatch = len(self.steps)
        self.jobs[job.id] = job
        effects.writes.append(job_row(self.run_id, job))
        effects.dispatch.append(job)

    # Time, events, the end

    def due(self, key: str, now: Now) -> Effects:
        """What was due at this instant: the job or the op called `key`, if it still is."""
        effects = Effects()
        job = self.jobs.get(key)
        pending = self.pending.get(key)
        try:
            if self.over:
                effects.stale = True
            elif job is not None and not job.in_flight and job.due_ms <= now.ms:
                self._start(job, effects, now)
            elif pending is not None and 0 < pending.due_ms <= now.ms:
                self._resolve(pending, waits.elapsed_entry(pending), effects, now)
            else:
                effects.stale = True
        except RunRefusedError as refusal:
            self._end(Status.FAILED, dumps(refusal.error), effects, now)
        return effects

    def woken(self, event: dict[str, Any], now: Now) -> Effects:
        """Resolves every wait that `event` ends."""
        ended = [p.id for p in self.pending.values() if waits.wakes(p, event, self.first_event)]
        return self._resolve_all(ended, dumps(event), now)

    def signalled(self, step_id: str, data: object, now: Now) -> Effects:
        """Resolves the wait for a signal of `step_id`, which came with `data`."""
        pending = self.pending.get(step_id)
        signal = waits.signal_of(pending) if pending is not None else ""
        return self._resolve_all([step_id] if signal else [], waits.signal_entry(signal, data), now)

    def replied(self, step_id: str, entry: str, now: Now) -> Effects:
        """Resolves the invocation of `step_id` with `entry` (JSON text)."""
        pending = self.pending.get(step_id)
        invoked = pending is not None and pending.code == Opcode.INVOKE_FUNCTION
        return self._resolve_all([step_id] if invoked else [], entry, now)

    def _resolve_all(self, step_ids: Sequence[str], entry: str, now: Now) -> Effects:
        """Resolves `step_ids`, none of which makes the effects stale."""
        effects = Effects(stale=not step_ids)
        try:
            for step_id in step_ids:
                if not self.over:
                    self._resolve(self.pending[step_id], entry, effects, now)
        except RunRefusedError as refusal:
            self._end(Status.FAILED, dumps(refusal.error), effects, now)
        return effects

    def _resolve(self, pending: Pending, entry: str, effects: Effects, now: Now) -> None:
        self.forget(pending.id, effects)
        position = self.save(pending.id, pending.event, entry, effects)
        if pending.race or not self._held_up():
            self._discover(position, effects, now)

    def _held_up(self) -> bool:
        """Whether the next call waits for an open op: those outside race mode are awaited all.

        An Inngest server lets the result of an op outside race mode wait for those in it too, and
        so for the losers of a race.
        """
        return any(not pending.race for pending in self.pending.values())

    def cancel(self, now: Now, reason: str = "") -> Effects:
        """Ends the run from outside; nothing that it still sends is taken."""
        effects = Effects()
        if self.over:
            effects.stale = True
        else:
            self._cancel(reason, effects, now)
        return effects

    def _cancel(self, reason: str, effects: Effects, now: Now) -> None:
        message = f"The run was cancelled: {reason}." if reason else "The run was cancelled."
        error = error_info("RunCancelledError", message)
        self._end(Status.CANCELLED, dumps(error), effects, now)

    def expire(self, now: Now, reason: str) -> Effects:
        """Cancels the run, once the calls in flight are answered: one may still complete it."""
        if any(job.in_flight for job in self.jobs.values()):
            self.expired = reason
            return Effects(stale=True)
        return self.cancel(now, reason)

    def _end(self, status: Status, output: str, effects: Effects, now: Now) -> None:
        self.status = status
        self.output = output
        self.ended_ms = now.ms
        self.jobs.clear()
        self.pending.clear()
        self.redo = None
        effects.dispatch.clear()
        effects.timers.clear()
        effects.invocations.clear()
        effects.ended = True
        effects.writes.append(EndRun(self.run_id, str(status), now.ms, output))
