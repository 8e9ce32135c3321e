"""What both drivers share: one invocation, its lock, its checkpoints, its clock."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from onward.app import App, BodyEvent, Function
from onward.core.actions import Deliver, Send
from onward.core.buffer import FlushPolicy
from onward.core.calls import Failure, StepCall
from onward.core.deadline import NO_DEADLINE, Deadline, Durations
from onward.core.invocation import Invocation
from onward.core.ops import ErrorInfo
from onward.core.retry import Verdict, bounded_retry_after
from onward.core.situation import Situation
from onward.core.values import codec_of
from onward.errors import NonRetriableError, OnwardError, RetryAfterError, StepError, StepUsageError
from onward.execution.steps import Ticket, current_step
from onward.execution.watch import watch
from onward.protocol.checkpoint import checkpoint_path, encode_checkpoint

if TYPE_CHECKING:
    from onward.protocol.call_request import CallRequest

#: How much of the time between the deadline and the platform's kill a cut body gets to end.
CUT_SHARE, CUT_LEAST, CUT_MOST = 0.4, 0.05, 5.0

#: Seconds that `finally` blocks get where no platform limits them.
UNWIND_LIMIT = 10.0


_OWN_CODE = __file__.removesuffix("execution/session.py")


_live: WeakSet[Session] = WeakSet()


def drain_all() -> None:
    """This process is going away: every invocation flushes, begins no new step, and continues."""
    for session in list(_live):
        session.drain()


class Hung(Exception):  # noqa: N818 - it is no error of anybody's: the platform has to end the process
    """A body cannot be stopped: this invocation must not answer."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One invocation to be driven. `abandons`: a body that cannot be stopped may be left behind."""

    app: App
    function: Function
    call: CallRequest
    deadline: Deadline = NO_DEADLINE
    durations: Durations | None = None
    abandons: bool = True

    def situation(self) -> Situation:
        """What the core has to know of it."""
        options = self.function.checkpointing
        policy = None
        if options is not None:
            policy = FlushPolicy(
                options.buffered_steps, options.max_interval_s, options.mode == "pipelined"
            )
        call = self.call
        return Situation(
            request_id=call.request_id,
            journal=call.journal,
            target=call.target,
            attempt=call.attempt,
            max_attempts=call.max_attempts,
            policy=policy,
            deadline=self.deadline,
            plan_always=call.disable_immediate_execution,
            plan_parallel=self.function.plan_parallel,
            abandons=self.abandons,
        )


class Session:
    """The part of a driver that does not depend on how user code waits."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.run_id = execution.call.run_id
        self.function_id = execution.function.composite_id
        self.core = Invocation(execution.situation(), execution.durations)
        self.lock = threading.RLock()
        self._armed_at = inf
        self._begun_ms = time.time_ns() // 1_000_000
        _live.add(self)

    @property
    def replaying(self) -> bool:
        """Whether user code is still being given what it had got before."""
        return self.core.replaying

    # ------------------------------------------------------------------ for subclasses to define

    def poke(self) -> None:
        """Something was reported: `advance` may have news. Called from any thread."""
        raise NotImplementedError

    # ------------------------------------------------------------------ checkpoints and the clock

    def send(self, action: Send) -> None:
        """Hand a batch to the checkpoint channel. The lock is held."""
        call = self.execution.call
        body = encode_checkpoint(
            call,
            action.ops,
            request_started_ms=self._begun_ms,
            sent_ms=time.time_ns() // 1_000_000,
        )
        kill_at = self.execution.deadline.kill_at
        until = None if kill_at == inf else kill_at - CUT_LEAST
        channel = self.execution.app.channel
        channel.submit(checkpoint_path(call.run_id), body, self._on_verdict, give_up_at=until)

    def _on_verdict(self, verdict: Verdict, detail: str) -> None:
        with self.lock:
            self.core.checkpointed(verdict, detail)
            self.log_notices()
        self.poke()

    def on_watch(self) -> None:
        """The watchdog: flush what is due, even while user code or a body holds everything up."""
        with self.lock:
            self._armed_at = inf
            action = self.core.flush_due(time.monotonic())
            if action is not None:
                self.send(action)
            self.rearm()
        self.poke()

    def drain(self) -> None:
        """Flush, begin no new step, and continue in another process. Called from any thread."""
        with self.lock:
            self.core.drain()
            action = self.core.flush_due(time.monotonic())
            if action is not None:
                self.send(action)
        self.poke()

    def abandon(self) -> None:
        """Whoever called has gone: nothing will be answered, but finished steps are handed over."""
        with self.lock:
            action = self.core.abandon()
            if action is not None:
                self.send(action)

    def rearm(self) -> None:
        """Make sure that the watchdog comes in time for the next instant. The lock is held."""
        when = self.core.next_wake()
        if when < self._armed_at:
            self._armed_at = when
            watch.arm(max(when, time.monotonic() + 0.001), self)

    def close(self) -> None:
        """Nothing more will be asked of this invocation."""
        _live.discard(self)
        if self._armed_at != inf:
            watch.forget(self)

    def cut_patience(self) -> float:
        """Seconds that a cut body gets to end before it counts as stuck."""
        left = self.execution.deadline.kill_at - time.monotonic()
        return min(max(left * CUT_SHARE, CUT_LEAST), CUT_MOST)

    def log_notices(self) -> None:
        """Log what the core noticed. The lock is held."""
        if self.core.notices:
            from onward.logs import runtime

            notices, self.core.notices = self.core.notices, []
            for notice in notices:
                runtime.warning("%s [run %s]", notice, self.run_id)

    # ------------------------------------------------------------------ bodies and outcomes

    def enter_body(self, call: StepCall) -> None:
        """Mark the current context as that of the call's body.

        Raises ResultError for a body whose result could never be kept, before it does anything.
        """
        ticket: Ticket = call.token
        ticket.codec.prepare(ticket.where(call))
        current_step.set((call.user_id, self.run_id, call.id))

    def observe(self, call: StepCall, phase: str) -> None:
        """Tell whoever watches bodies from outside."""
        observers = self.execution.app.body_observers
        if observers:
            attempt = self.execution.call.attempt
            event = BodyEvent(self.run_id, call.user_id, call.index, attempt, phase)
            for observer in observers:
                observer(event)

    def body_returned(self, call: StepCall, value: Any, started_ns: int, begun: float) -> None:
        """A body returned: settle its result."""
        ticket: Ticket = call.token
        self.observe(call, "end")
        try:
            data, value = ticket.codec.settle(value, ticket.where(call))
        except OnwardError as error:
            self.body_failed(call, error, started_ns, begun)
            return
        now = time.monotonic()
        with self.lock:
            self.core.settled(call, data, value, started_ns, int((now - begun) * 1e9), now)

    def body_failed(
        self, call: StepCall, error: BaseException, started_ns: int, begun: float
    ) -> None:
        """A body raised."""
        failure = failure_of(error)
        now = time.monotonic()
        with self.lock:
            self.core.failed(call, failure, now, started_ns, int((now - begun) * 1e9))

    def outcome(self, action: Deliver) -> tuple[Any, BaseException | None]:
        """What user code gets: a value, or the error to raise."""
        call = action.call
        if action.failure is not None:
            error = action.failure.error
            return None, StepError(error.name, error.message, error.stack, step_id=call.user_id)
        if not action.memoized:
            return action.value, None
        ticket: Ticket = call.token
        try:
            return ticket.codec.load(action.value, ticket.where(call)), None
        except OnwardError as error:
            return None, error

    def function_returned(self, value: Any) -> None:
        """The function returned: settle the run's result."""
        where = f"the result of function {self.execution.function.id!r}"
        try:
            data, _ = codec_of(self.execution.function.handler).settle(value, where)
        except OnwardError as error:
            self.function_raised(error)
            return
        with self.lock:
            self.core.returned(data)

    def function_raised(self, error: BaseException) -> None:
        """The function raised."""
        with self.lock:
            self.core.raised(failure_of(error))


def failure_of(error: BaseException) -> Failure:
    """How a raised exception is reported."""
    stack = _user_stack(error)
    if isinstance(error, StepError):
        info = ErrorInfo(error.name, error.message, error.stack or stack)
        return Failure(info, retriable=False)
    info = ErrorInfo(type(error).__name__, str(error), stack)
    if isinstance(error, RetryAfterError):
        return Failure(info, retry_after=_seconds_until(error.retry_after))
    final = isinstance(error, (NonRetriableError, StepUsageError)) or (
        isinstance(error, OnwardError) and not error.retriable
    )
    return Failure(info, retriable=not final)


def _user_stack(error: BaseException) -> str:
    """The traceback of `error` without Onward's own frames."""
    import traceback

    told: traceback.TracebackException | None = traceback.TracebackException.from_exception(error)
    shown = told
    while told is not None:
        frames = [frame for frame in told.stack if not frame.filename.startswith(_OWN_CODE)]
        told.stack = traceback.StackSummary.from_list(frames)
        told = told.__cause__ or told.__context__
    return "".join(shown.format()) if shown is not None else ""


def _seconds_until(value: object) -> int | None:
    """Whole seconds for `RetryAfterError.retry_after`; None, the default delay, for nonsense."""
    from datetime import UTC, datetime

    from onward.core.durations import parse_duration
    from onward.errors import DurationError

    try:
        if isinstance(value, datetime):
            aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            return bounded_retry_after((aware - datetime.now(UTC)).total_seconds())
        return bounded_retry_after(parse_duration(value, what="retry_after"))
    except DurationError as error:
        from onward.logs import runtime

        runtime.warning("RetryAfterError: %s The default delay is used.", error)
        return None
