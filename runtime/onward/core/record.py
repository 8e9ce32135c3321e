"""What has happened in an invocation: calls, outcomes, checkpoints."""

from __future__ import annotations

from collections import deque
from math import inf

from onward.core import failures
from onward.core.buffer import Buffer
from onward.core.calls import CallState, Failure, StepCall, StepIds
from onward.core.deadline import Durations, fits
from onward.core.journal import Journal
from onward.core.ops import Op, Opcode
from onward.core.planning import RESPONSE_LIMIT
from onward.core.racing import Racing
from onward.core.replay import Replay
from onward.core.retry import Verdict, backoff
from onward.core.situation import DEFAULT_POLICY, Situation
from onward.errors import StepUsageError

#: The orchestrator's limit on one result, in bytes (recorded: over about 4 MB answers 413).
RESULT_LIMIT = 4_000_000

#: The longest delay, in seconds, that a failed body waits to be tried again in place.
IN_PLACE_LIMIT = 10.0

#: The server's default limit of steps a run, and when to warn.
STEP_LIMIT, STEP_WARNING = 1000, 800


class Record:
    """The facts of one invocation, and the methods by which a driver reports them."""

    def __init__(self, situation: Situation, durations: Durations | None = None) -> None:
        self._at = situation
        self._single = situation.single
        self._first_frontier_only = situation.first_frontier_only
        self._ids = StepIds()
        self._replay = Replay(situation.journal)
        self._racing = Racing(always=situation.plans_parallel)
        self._buffer = Buffer(situation.policy or DEFAULT_POLICY)
        self._durations = durations or Durations()
        self._calls: dict[str, StepCall] = {}
        self._open: dict[int, StepCall] = {}
        self._running: dict[int, StepCall] = {}
        self._done: deque[StepCall] = deque()
        self._live: deque[StepCall] = deque()
        self._failed: dict[int, StepCall] = {}
        self._cut: list[StepCall] = []
        self._cutting: set[int] = set()
        self._ended: str | Failure | None = None
        self._gone = False
        self._stuck = False
        self._singly = False
        self._refused: StepCall | None = None
        self._answered = False
        self._unconfirmable: str | None = None
        self._held = 0
        self._beat_at = inf
        self._reading = False
        self._journal_now: Journal | None = None
        self._draining = False
        self._branch_lost = False
        self._grace_at = inf
        self._looked_at = -inf
        self._started = 0
        self._past_replay = False
        self._new_steps = 0
        self.notices: list[str] = []

    @property
    def over(self) -> bool:
        """Whether the response is decided: no step may be called any more."""
        return self._answered

    @property
    def running(self) -> tuple[StepCall, ...]:
        """The calls whose bodies run, in call order."""
        return tuple(self._running.values())

    @property
    def confirmed(self) -> int:
        """How many steps this invocation has confirmed by checkpoint."""
        return self._buffer.confirmed

    @property
    def replaying(self) -> bool:
        """Whether user code has not got past the memoized results yet."""
        return self._replay.delivered < len(self._at.journal) and not self._past_replay

    def called(self, call: StepCall) -> None:
        """User code reached a step. Raises StepUsageError when no step can run any more."""
        if self._answered or self._ended is not None:
            state = "its function has returned" if self._ended is not None else "it is suspending"
            msg = (
                f"The step {call.user_id!r} was called while {state}. No step can run then: move"
                " it before the end of the function, and out of `finally` blocks and handlers of"
                " cancellation."
            )
            raise StepUsageError(msg)
        warning = self._ids.assign(call, self._calls)
        if warning:
            self.notices.append(warning)
        call.sequence = len(self._calls)
        self._calls[call.id] = call
        self._grace_at = inf
        if not self._past_replay:
            self._racing.opened(call)
        if not self._replay.claim(call):
            self._open[call.sequence] = call

    def closed(self, call: StepCall) -> bool:
        """The branch that waits for `call` was cancelled. True: its body must be stopped."""
        was, call.state = call.state, CallState.CLOSED
        self._branch_lost = True
        self._racing.closed(call)
        if was is CallState.OPEN:
            if self._open.pop(call.sequence, None) is None:
                self._replay.withdraw(call)
        elif was is CallState.RUNNING:
            self._running.pop(call.sequence, None)
            self._cutting.discard(call.sequence)
            return True
        self._failed.pop(call.sequence, None)
        return False

    def settled(  # noqa: PLR0917 - called for each step, and not by users
        self,
        call: StepCall,
        data: str,
        value: object,
        started_ns: int,
        duration_ns: int,
        now: float,
    ) -> bool:
        """A body returned. `data` is its result as JSON text, `value` what user code will get.

        False: the outcome came too late and is discarded.
        """
        if call.overdue:
            return self.failed(call, failures.step_timeout(call), now, started_ns, duration_ns)
        limit = RESPONSE_LIMIT if self._single else RESULT_LIMIT
        if len(data) > limit:
            over = f"the limit of {limit:,}"
            failure = failures.result_too_large(call.user_id, len(data), over)
            return self.failed(call, failure, now, started_ns, duration_ns)
        if not self._claim(call, now):
            return False
        call.op = call.op_of(
            Opcode.STEP_RUN,
            opts=call.opts,
            data=data,
            started_ns=started_ns,
            duration_ns=duration_ns,
        )
        call.value = value
        self._done.append(call)
        return True

    def failed(
        self,
        call: StepCall,
        failure: Failure,
        now: float,
        started_ns: int = 0,
        duration_ns: int = 0,
    ) -> bool:
        """A body raised. False: the outcome came too late and is discarded."""
        if not self._claim(call, now):
            return False
        if self.retries_in_place(call, failure, now):
            call.in_place_left -= 1
            call.not_before = now + self._in_place_delay(call, failure)
            call.tries += 1
            self._reopen(call)
            return True
        call.failure = failure
        code = Opcode.STEP_ERROR
        if not failure.retriable or self._at.last_attempt:
            code = Opcode.STEP_FAILED
        call.op = call.op_of(
            code, error=failure.error, started_ns=started_ns, duration_ns=duration_ns
        )
        self._failed[call.sequence] = call
        return True

    def retries_in_place(self, call: StepCall, failure: Failure, now: float) -> bool:
        """Whether a body that failed so is tried again within this invocation."""
        if not (failure.retriable and call.in_place_left):
            return False
        delay = self._in_place_delay(call, failure)
        return delay <= IN_PLACE_LIMIT and fits(self._at.deadline, now + delay, None)

    @staticmethod
    def _in_place_delay(call: StepCall, failure: Failure) -> float:
        return failure.retry_after or backoff(call.tries, 0.5)

    def was_cut(self, call: StepCall, now: float) -> None:
        """A body was stopped, by its own timeout or by the deadline, or since all is answered."""
        if call.state is not CallState.RUNNING or self._answered:
            return
        if now < self._at.deadline.ends_at and call.timeout is not None:
            self.failed(call, failures.step_timeout(call), now)
            return
        self._claim(call, now)
        self._reopen(call)
        self._cut.append(call)

    def stuck(self, call: StepCall, now: float) -> None:
        """A body could not be stopped.

        Where none may be left behind, its own timeout has to wait for it, up to the deadline.
        """
        if not self._at.abandons and now < self._at.deadline.ends_at:
            call.overdue = True
            self._cutting.discard(call.sequence)
            return
        if not self._at.abandons:
            self._stuck = True
            return
        call.in_place_left = 0  # another try would run beside the one that goes on
        self.was_cut(call, now)

    def returned(self, result: str) -> None:
        """The function returned; `result` is JSON text."""
        too_large = len(result) > RESPONSE_LIMIT
        self._ended = (
            failures.function_result_too_large(len(result), RESPONSE_LIMIT) if too_large else result
        )
        if self._replay.never_called:
            self.notices.append(
                f"The function returned, and {self._replay.never_called} recorded result(s) of this"
                " run were never asked for: their steps were renamed or deleted under the running"
                " run, or their branch lost a race."
            )

    def raised(self, failure: Failure) -> None:
        """The function raised."""
        self._ended = failure

    def drain(self) -> None:
        """The process is going away: begin no new step, and continue elsewhere."""
        self._draining = True

    def checkpointed(self, verdict: Verdict, detail: str = "") -> None:
        """What became of the batch in flight. `detail` is the answer's own text."""
        batch = self._buffer.in_flight
        if verdict is Verdict.CONFIRMED:
            self._buffer.confirm()
            self._singly = self._singly and bool(self._buffer.waiting)
            return
        self._buffer.fail()
        if verdict is Verdict.GONE:
            self.gone(detail)
        elif verdict is Verdict.TOO_LARGE and len(batch) > 1:
            self._singly = True
        elif verdict is Verdict.TOO_LARGE:
            self._refuse_result(batch[0], detail)
            self._singly = self._singly and bool(self._buffer.waiting)
        elif not self._at.hands_over:
            self._hold(detail or verdict.name)
        else:
            self._unconfirmable = detail or verdict.name
            self.notices.append(
                f"{len(batch)} finished step(s) could not be checkpointed ({self._unconfirmable})."
                " They are handed over in this invocation's response instead."
            )

    def gone(self, detail: str = "") -> None:
        """The run is over, or another invocation owns it."""
        self._gone = True
        self.notices.append(
            "The orchestrator says that this run is over, was cancelled, or is owned by a newer"
            f" invocation. It stops here; no further step is started. ({detail})"
        )

    def _hold(self, reason: str) -> None:
        """Go on without the checkpoint: what waits is sent again with the next result."""
        if not self._held:
            self.notices.append(
                f"{len(self._buffer.waiting)} finished step(s) could not be checkpointed"
                f" ({reason}). The run goes on without its orchestrator, and tries again with each"
                " further step: what is not confirmed by its end may run again."
            )
        self._held = len(self._buffer.waiting)

    @property
    def _holds(self) -> bool:
        """Whether everything that waits has been refused, and nothing has come since."""
        return 0 < len(self._buffer.waiting) <= self._held

    def journal_read(self, verdict: Verdict, journal: Journal | None = None) -> None:
        """What became of a `ReadJournal`: the journal, where the verdict is `CONFIRMED`."""
        self._reading = False
        self._journal_now = journal or Journal()
        if verdict is Verdict.GONE:
            self.gone()
        elif journal is None:
            self.notices.append(
                "The journal of this run could not be read before a step was failed for good. If"
                " another invocation has confirmed a result of that step meanwhile, cancel the run"
                " and start it again."
            )

    def _in_doubt(self, call: StepCall) -> bool:
        """Whether a failed step may have a confirmed result that this invocation does not know.

        Another invocation may be at it: one that was given up, when this one is a retry or late
        itself. Or a checkpoint was taken whose answer was lost.
        """
        at = self._at
        late = self._looked_at >= at.deadline.ends_at
        if not at.hands_over:  # it has the run to itself
            return False
        return at.attempt > 0 or late or call is self._refused or self._unconfirmable is not None

    def _claim(self, call: StepCall, now: float) -> bool:
        """Claim the one outcome of a running body."""
        if call.state is not CallState.RUNNING or self._answered:
            return False
        self._running.pop(call.sequence, None)
        self._cutting.discard(call.sequence)
        call.state = CallState.SETTLED
        self._durations.saw(call.callable_key, now - call.started_at)
        return True

    def _reopen(self, call: StepCall) -> None:
        call.state = CallState.OPEN
        self._open[call.sequence] = call
        self._open = dict(sorted(self._open.items()))

    @property
    def _progress(self) -> bool:
        return bool(self._buffer.confirmed or self._buffer)

    def _absorb(self, now: float) -> None:
        """Buffer finished results in the order in which user code will get them."""
        while self._done:
            call = self._done.popleft()
            if call.op is None:
                continue
            self._buffer.add(call.op, now)
            self._live.append(call)
            self._new_steps += 1
            self._reached(len(self._at.journal) + self._new_steps)

    def _count_replayed(self) -> None:
        """A step that the orchestrator resolved between two invocations counts in the later one."""
        count = len(self._at.journal)
        last = self._calls.get(self._at.journal.at(count - 1).id) if count else None
        if last is not None and last.orchestrated:
            self._reached(count)

    def _reached(self, count: int) -> None:
        """The run has `count` steps now."""
        if count < STEP_WARNING or count not in {STEP_WARNING, STEP_LIMIT}:
            return
        state = (
            "fails a run with more by default"
            if count == STEP_LIMIT
            else f"fails a run with more than {STEP_LIMIT:,} by default"
        )
        self.notices.append(
            f"This run has {count:,} steps, and an Inngest server {state}. Do more in each step, or"
            " invoke another function for a part of the work."
        )

    def _refuse_result(self, op: Op, detail: str) -> None:
        """The orchestrator takes no result of this size: the step fails for good."""
        self._buffer.drop(op)
        call = self._calls[op.id]
        if call in self._live:
            self._live.remove(call)
        if call.state is CallState.CLOSED:
            return
        over = f"the orchestrator's limit ({detail or 'status 413'})"
        call.failure = failures.result_too_large(call.user_id, op.size, over)
        call.op = call.op_of(Opcode.STEP_FAILED, error=call.failure.error)
        self._failed[call.sequence] = call
        self._refused = self._refused or call
