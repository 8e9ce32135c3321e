"""One invocation as a state machine: what happens next, given what has happened.

A driver reports what user code, bodies, checkpoints and the clock do, and asks `advance` what to do
whenever user code is idle, that is, when all of it waits for steps. No IO happens here. `now` is in
seconds on one monotonic clock of the driver's choice.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from onward.core import failures, planning
from onward.core import response as answers
from onward.core.actions import Action, Cut, Deliver, Hang, ReadJournal, Respond, Send, Start
from onward.core.buffer import FLUSH_BYTES
from onward.core.calls import CallState, Failure, StepCall
from onward.core.deadline import fits
from onward.core.journal import Memo, UnknownMemoError
from onward.core.ops import ErrorInfo, Opcode
from onward.core.record import Record
from onward.core.response import Response

#: How long, in seconds, a branch that awaits something outside of steps is waited for.
OUTSIDE_GRACE = 0.02

#: How long, in seconds, a targeted call waits in the same way for the step that it asks for.
TARGET_GRACE = 10.0

#: Results that ride with `RunComplete` instead of a checkpoint of their own: at most so many.
RIDE_ALONG = 100


def idle() -> bool:
    """Whether user code may wait outside of steps: the answer of a driver that always knows."""
    return False


class Invocation(Record):
    """Decides what happens next. Not thread-safe: a driver calls it under a lock of its own."""

    def advance(self, now: float, busy: Callable[[], bool] = idle) -> Action | None:
        """The next action, or None: wait for a report, or for `next_wake`.

        Call it when user code is idle. `busy` says whether some of it may wait outside of steps.
        """
        if self._answered:
            return None
        self._looked_at = now
        if self._gone:
            return self._respond(answers.over(self._at.request_id))
        if cut := self._cut_overdue(now):
            return cut
        self._absorb(now)
        if self._stuck or self._ended is not None:
            return self._hang() if self._stuck else self._conclude()
        if self._blocked_by_checkpoint():
            return None
        return self.flush_due(now) or self._go_on(now, busy)

    def _go_on(self, now: float, busy: Callable[[], bool]) -> Action | None:
        """Nothing has to be flushed first."""
        if now >= self._at.deadline.ends_at:
            return None if self._running else self._out_of_time(now)
        return self._deliver(now, busy) or self._frontier(now, busy)

    def flush_due(self, now: float) -> Send | None:
        """A flush whose time has come. A watchdog may ask for it while user code is not idle."""
        if self._answered or self._single or self._unconfirmable is not None:
            return None
        self._looked_at = now
        self._absorb(now)
        buffer = self._buffer
        if buffer.in_flight:
            return None
        if not buffer.waiting or self._holds:
            return self._heartbeat(now)
        late = self._draining or now >= self._at.deadline.soft_at(buffer.bytes)
        due = not self._first_frontier_only and buffer.due(now)
        return self._send() if late or due or self._singly else self._heartbeat(now)

    def _heartbeat(self, now: float) -> Send | None:
        """An empty checkpoint: this invocation is alive, and the run is not to be taken over."""
        if now < self._beat_at or self._ended is not None:
            return None
        self._beat_at = now + self._at.heartbeat
        return Send(())

    def abandon(self) -> Send | None:
        """Nobody waits for the answer any more: flush what nothing has confirmed, and end."""
        if self._answered:
            return None
        self._absorb(0.0)
        self._answered = True
        ready = self._buffer.waiting and not self._buffer.in_flight and not self._single
        return self._send() if ready else None

    def next_wake(self) -> float:
        """When `advance` has to be asked again although nothing was reported; `inf` for never.

        Always later than the last time that it was asked.
        """
        if self._answered:
            return inf
        deadline, buffer = self._at.deadline, self._buffer
        times = [self._grace_at, self._beat_at]
        if not self._cutting:
            times.append(deadline.ends_at)
        if buffer.waiting and not self._single:
            times.append(buffer.due_at())
            if not buffer.in_flight and not self._holds:
                times.append(deadline.soft_at(buffer.bytes))
        if self._running:
            running = (c for c in self._running.values() if c.sequence not in self._cutting)
            times.extend(map(self._times_out_at, running))
        if self._open:
            times.extend(c.not_before for c in self._open.values() if c.not_before > 0)
        return min((time for time in times if time > self._looked_at), default=inf)

    def _blocked_by_checkpoint(self) -> bool:
        if not self._buffer.in_flight:
            return False
        policy = self._at.policy
        return policy is None or not policy.pipelined or self._buffer.full

    def _send(self) -> Send:
        if self._at.heartbeat:
            self._beat_at = self._looked_at + self._at.heartbeat
        return Send(self._buffer.take(1 if self._singly else None))

    def _respond(self, response: Response) -> Respond:
        self._answered = True
        return Respond(response)

    def _function_error(self, error: ErrorInfo) -> Respond:
        return self._respond(answers.function_error(error, retriable=not self._at.last_attempt))

    def _answer(self, response: Response) -> Action | None:
        """Respond, after everything in the buffer is confirmed or handed over."""
        if self._buffer.in_flight:
            return None
        if not self._buffer.waiting:
            return self._respond(response)
        if self._holds:
            return self._respond(answers.after(self._buffer.waiting, response))
        if self._unconfirmable is None:
            return self._send()
        return self._hand_over()

    # ------------------------------------------------------------------ deciding

    def _cut_overdue(self, now: float) -> Cut | None:
        if not self._running:
            return None
        late = now >= self._at.deadline.ends_at
        due = tuple(
            call
            for call in self._running.values()
            if call.sequence not in self._cutting and (late or now >= self._times_out_at(call))
        )
        self._cutting.update(call.sequence for call in due)
        return Cut(due) if due else None

    @staticmethod
    def _times_out_at(call: StepCall) -> float:
        """When the body's own timeout comes; `inf` for never, or not again."""
        if call.timeout is None or call.overdue:
            return inf
        return call.started_at + call.timeout

    def _hang(self) -> Action | None:
        if self._buffer.in_flight:
            return None
        unsent = self._buffer.waiting and not (self._single or self._holds)
        if unsent and self._unconfirmable is None:
            return self._send()
        self._answered = True
        return Hang()

    def _conclude(self) -> Action | None:
        """The function has ended."""
        refused = self._refused
        if refused is not None and refused.state is not CallState.CLOSED:
            return self._report(refused)  # what the function made of it may not be what is kept
        ended = self._ended
        if isinstance(ended, Failure):
            final = self._at.last_attempt or not ended.retriable
            error = answers.function_error(
                ended.error, retriable=not final, retry_after=ended.retry_after
            )
            return self._respond(error) if self._single else self._answer(error)
        result = ended or "null"
        if self._at.plain_result and not self._at.targeted and self._unconfirmable is None:
            return self._answer(answers.plain_complete(result))
        if self._single:
            classic = self._at.policy is None and not self._at.targeted
            complete = answers.classic_complete if classic else answers.run_complete
            return self._respond(complete(result))
        if self._buffer.in_flight:
            return None
        waiting = self._buffer.waiting
        riding = self._buffer.bytes + len(result)
        small = len(waiting) <= RIDE_ALONG and riding <= FLUSH_BYTES and not self._singly
        if self._running and not self._at.abandons:
            small = False  # a body that cannot be stopped would take the response with it
        if (
            small
            or not waiting
            or self._holds
            or (self._unconfirmable is not None and riding <= planning.RESPONSE_LIMIT)
        ):
            return self._respond(answers.run_complete(result, waiting))
        return self._answer(answers.run_complete(result))

    def _deliver(self, now: float, busy: Callable[[], bool]) -> Action | None:
        if self._committed:
            return None
        if self._replay.waiting and (
            self._replay.in_order or not self._wait_for_outside(now, busy)
        ):
            return self._deliver_memo()
        if self._replay.waiting or (self._first_frontier_only and self._unconfirmable is None):
            return None
        while self._live:
            call = self._live.popleft()
            if call.state is CallState.SETTLED:
                call.state = CallState.DELIVERED
                self._grace_at = inf
                return Deliver(call, call.value)
        return None

    def _deliver_memo(self) -> Action | None:
        delivery = self._replay.next()
        if delivery is None:
            return None
        call, memo, warning = delivery
        self._racing.delivered(call)
        if warning:
            self.notices.append(warning)
        self._grace_at = inf
        if failure := failures.recorded(call, memo):
            return Deliver(call, None, failure, memoized=True)
        try:
            return Deliver(call, memo.value_for(call.code), memoized=True)
        except UnknownMemoError:
            return self._function_error(failures.unknown_memo(call, memo))

    def _wait_for_outside(
        self, now: float, busy: Callable[[], bool], grace: float = OUTSIDE_GRACE
    ) -> bool:
        if self._grace_at == inf and not busy():
            return False
        if self._grace_at == inf:
            self._grace_at = now + grace
        return now < self._grace_at

    def _frontier(self, now: float, busy: Callable[[], bool]) -> Action | None:
        """Nothing is left to deliver: report, answer, plan or start."""
        if self._replay.waiting and not self._committed:
            return None
        if not self._past_replay:
            self._past_replay = True
            self._count_replayed()
        outstanding = self._outstanding
        failure = self._first_failure(outstanding=outstanding)
        if failure is not None or self._frontier_begun:
            more = None if failure or outstanding else self._rest_of_frontier(now)
            if more or self._running:
                return more
            return self._report(failure) if failure else self._after_frontier()
        if self._at.targeted:
            return self._target(now, busy)
        if not self._open and not self._failed:
            return None
        together = outstanding or self._plans_parallel
        if not (together or self._folds or self._unconfirmable is not None):
            return self._start(now)
        if self._running or self._wait_for_outside(now, busy):
            return None
        one = not together
        return self._plan(now, one=one) if self._unconfirmable is None else self._hand_over()

    @property
    def _outstanding(self) -> bool:
        """Whether something open has a result to come that makes a call of its own."""
        return any(call.outstanding for call in self._open.values())

    @property
    def _folds(self) -> bool:
        """Whether other calls may run beside this one, with the same journal.

        One step is planned then: they all ask for it, and the orchestrator calls for it once.
        """
        return self._at.plan_always or (self._racing.joined and not self._started)

    @property
    def _frontier_begun(self) -> bool:
        """Whether this invocation may only end what it has begun."""
        return self._first_frontier_only and (bool(self._running) or self._progress)

    @property
    def _committed(self) -> bool:
        """Whether this call answers for one step alone, and has begun it."""
        if not self._single:
            return False
        tries_again = any(call.not_before > 0 for call in self._open.values())
        return self._frontier_begun or tries_again or bool(self._failed)

    def _rest_of_frontier(self, now: float) -> Action | None:
        """The next step of the only frontier that this invocation may run."""
        if self._single or self._plans_parallel or self._unconfirmable is not None:
            return None
        return self._start_next(now)

    def _first_failure(self, *, outstanding: bool) -> StepCall | None:
        """The failed step to report.

        Beside outstanding ops a retriable one is planned instead, unless it was asked for.
        """
        planned = outstanding and not self._at.targeted
        for _, call in sorted(self._failed.items()):
            if not planned or (call.op is not None and call.op.code is Opcode.STEP_FAILED):
                return call
        return None

    def _report(self, call: StepCall) -> Action | None:
        if call.op is None or call.failure is None:
            return None
        op = answers.in_race_mode(call.op) if self._at.targeted else call.op
        if self._unconfirmable is not None and self._buffer.waiting:
            return self._hand_over(call)
        if op.code is Opcode.STEP_FAILED and not self._buffer and self._in_doubt(call):
            if self._journal_now is None:
                return self._read_journal()
            memo = self._journal_now.get(call.id)
            if memo is not None:
                return self._overruled(call, memo)
        return self._answer(answers.step_failed(op, retry_after=call.failure.retry_after))

    def _read_journal(self) -> Action | None:
        """Before a step fails for good: one that has a result and fails hangs its run."""
        if self._reading:
            return None
        self._reading = True
        return ReadJournal()

    def _overruled(self, call: StepCall, memo: Memo) -> Action | None:
        """The failed step has a confirmed outcome: that one counts."""
        self.notices.append(
            f"The step {call.user_id!r} failed here, but the journal has an outcome of it, which"
            " counts: from another invocation of this run, or a checkpoint whose answer was lost."
        )
        if self._at.targeted:
            return self._respond(planning.again(call, memo))
        return self._respond(answers.continuation(self._at.request_id))

    def _after_frontier(self) -> Action | None:
        """The first frontier is done: its result resets the attempt counter, then go on."""
        waiting = self._buffer.waiting
        fits_alone = len(waiting) == 1 and waiting[0].size <= planning.RESPONSE_LIMIT
        if fits_alone and not self._buffer.confirmed and not self._buffer.in_flight:
            op = answers.in_race_mode(waiting[0]) if self._at.targeted else waiting[0]
            return self._respond(answers.step_run(op))
        return self._answer(answers.continuation(self._at.request_id))

    @property
    def _plans_parallel(self) -> bool:
        several = len(self._open) + len(self._running) + len(self._failed) > 1
        return self._at.plans_parallel and several

    def _plan(self, now: float, *, one: bool = False) -> Action | None:
        calls = (call for _, call in sorted({**self._open, **self._failed}.items()))
        together = planning.that_go_together(calls)[: 1 if one else None]
        return self._answer(answers.plan([planning.planned(call, now) for call in together]))

    def _target(self, now: float, busy: Callable[[], bool]) -> Action | None:
        """A targeted call: run that step, whatever else is open."""
        target = self._calls.get(self._at.target)
        if target is not None and target.sequence in self._open:
            if target.orchestrated:  # the function was changed: that id is no step any more
                return self._plan(now)
            return self._begin(target, now) if target.not_before <= now else None
        memo = self._at.journal.get(self._at.target)
        if memo is not None:
            return self._respond(planning.again(target, memo))
        if self._running or not self._open:
            return None
        if target is None and self._wait_for_outside(now, busy, TARGET_GRACE):
            return None
        if target is not None or self._branch_lost:  # it lost, perhaps before it got to the step
            return self._respond(answers.over(self._at.request_id))
        names = ", ".join(repr(call.user_id) for call in self._open.values())
        return self._function_error(failures.step_not_found(self._at.target, names))

    def _start(self, now: float) -> Action | None:
        if start := self._start_next(now):
            return start
        waits = self._running or self._buffer.in_flight
        if waits or any(call.not_before > now for call in self._open.values()):
            return None
        return self._out_of_time(now)

    def _start_next(self, now: float) -> Action | None:
        for call in self._open.values():
            if call.not_before <= now and self._may_start(call, now):
                if call.barrier and self._buffer and not self._buffer.in_flight and self._holds:
                    reason = "the orchestrator cannot be reached"
                    return self._function_error(failures.barrier(call, reason))
                if call.barrier and self._buffer:
                    return None if self._buffer.in_flight else self._send()
                return self._begin(call, now)
        return None

    def _may_start(self, call: StepCall, now: float) -> bool:
        expected = call.expected
        if expected is None:
            expected = self._durations.expected(call.callable_key)
        if not self._draining and fits(self._at.deadline, now, expected):
            return True
        return not self._progress and not self._running

    def _begin(self, call: StepCall, now: float) -> Start:
        del self._open[call.sequence]
        call.state = CallState.RUNNING
        call.started_at = now
        self._running[call.sequence] = call
        self._started += 1
        return Start(call)

    def _out_of_time(self, now: float) -> Action | None:
        """The deadline is here, or nothing fits before it."""
        if self._single and self._buffer.waiting:
            return self._after_frontier()
        outstanding = self._outstanding
        if failure := self._first_failure(outstanding=outstanding):
            return self._report(failure)
        if self._progress:
            return self._answer(answers.continuation(self._at.request_id))
        if outstanding and not self._at.targeted and not self._replay.waiting:
            return self._plan(now)
        if self._cut:
            call = min(self._cut, key=lambda cut: cut.sequence)
            self._open.pop(call.sequence, None)
            call.state = CallState.RUNNING
            ran, window = now - call.started_at, self._at.deadline.window
            self.failed(call, failures.step_over_deadline(call, ran=ran, window=window), now)
            return self._report(call)
        spent, window = now - self._at.deadline.started_at, self._at.deadline.window
        return self._function_error(failures.too_slow(spent=spent, window=window))

    def _hand_over(self, wanted: StepCall | None = None) -> Action | None:
        """Answer what no checkpoint could confirm, with the next step's plan beside it."""
        waiting = self._buffer.waiting
        finished = planning.that_fit(waiting)
        if not finished:
            reason = self._unconfirmable or ""
            return self._function_error(failures.unconfirmable(waiting[0], reason))
        steps = sorted({**self._open, **self._failed}.items())
        call = wanted or next((call for _, call in steps if not call.orchestrated), None)
        planned = None
        unseen = any(call.state is CallState.SETTLED for call in self._live)
        if call is not None and len(finished) == len(waiting) and not unseen:
            planned = planning.planned(call, 0.0)
        return self._respond(answers.handover(finished, planned))
