"""What both drivers share: one invocation, its lock, its checkpoints, its clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from onward.app import App, BodyEvent, Function
from onward.core.actions import Deliver, Send
from onward.core.buffer import FlushPolicy
from onward.core.calls import StepCall
from onward.core.deadline import NO_DEADLINE, Deadline, Durations
from onward.core.invocation import Invocation
from onward.core.ops import ErrorInfo
from onward.core.response import Response, function_error
from onward.core.retry import Verdict
from onward.core.situation import Situation
from onward.core.values import codec_of
from onward.errors import ConfigurationError, MiddlewareError, OnwardError, StepError
from onward.execution.failing import failure_of
from onward.execution.steps import Ticket, current_step, outside_steps
from onward.execution.watch import watch
from onward.protocol.call_request import decode_journal, parse_json
from onward.protocol.checkpoint import BackgroundRun, Checkpoints, journal_path

if TYPE_CHECKING:
    from contextvars import Context as Variables

    from onward.context import BlockingContext, Context, InboundEvent
    from onward.execution.abandoned import Piece
    from onward.execution.hooks import CallHooks
    from onward.failure import Failure
    from onward.protocol.call_request import CallRequest

#: How much of the time between the deadline and the platform's kill a cut body gets to end.
CUT_SHARE, CUT_LEAST, CUT_MOST = 0.4, 0.05, 5.0

#: The longest that a failed step waits for the journal to be read, in seconds.
JOURNAL_BUDGET = 5.0

#: How much longer than it was given a checkpoint is waited for, in seconds: it may be queued behind
#: others, or its answer trickle in.
PATIENCE_SLACK = 0.15

#: Seconds that `finally` blocks get where no platform limits them.
UNWIND_LIMIT = 10.0


_live: WeakSet[Session] = WeakSet()


def drain_all() -> None:
    """This process is going away: every invocation flushes, begins no new step, and continues."""
    for session in _living():
        session.drain()


def _living() -> list[Session]:
    """The invocations under way; a weak set cannot be read while another thread adds to it."""
    while True:
        try:
            return list(_live)
        except RuntimeError:
            continue


class Hung(Exception):  # noqa: N818 - it is no error of anybody's: the platform has to end the process
    """A body cannot be stopped: this invocation must not answer."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One invocation to be driven.

    `abandons`: a body that cannot be stopped may be left behind. `reports`: how its checkpoints
    look, if it is not a run that its orchestrator called.
    """

    app: App
    function: Function
    call: CallRequest
    deadline: Deadline = NO_DEADLINE
    durations: Durations | None = None
    abandons: bool = True
    hooks: CallHooks | None = None
    reports: Checkpoints | None = None

    @property
    def checkpoints(self) -> Checkpoints:
        """How its checkpoints look."""
        return self.reports or BackgroundRun(self.call)

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
            # Who does not tell the attempt tells no more that checkpoints in a call would need.
            plan_parallel=self.function.plan_parallel or not call.attempt_known,
            abandons=self.abandons,
            attempt_known=call.attempt_known,
            hands_over=self.checkpoints.hands_over,
            plain_result=self.checkpoints.plain_result,
            heartbeat=self.checkpoints.heartbeat,
        )


class Session:
    """The part of a driver that does not depend on how user code waits."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.run_id = execution.call.run_id
        self.function_id = execution.function.composite_id
        self.checkpoints = execution.checkpoints
        self.core = Invocation(execution.situation(), execution.durations)
        self.lock = threading.RLock()
        self.hooks = execution.hooks
        if self.hooks is not None:
            self.hooks.replaying = lambda: self.core.replaying
        self._spoilt = False
        self._armed_at = inf
        self._sent = 0
        self._overdue_at = inf
        self._hangs = False
        self._begun_ms = time.time_ns() // 1_000_000
        _live.add(self)

    @property
    def replaying(self) -> bool:
        """Whether user code is still being given what it had got before."""
        return self.core.replaying

    @property
    def step_here(self) -> str:
        """The id of the step whose body runs here; `""` outside of bodies."""
        current = current_step.get()
        return current[0] if current is not None else ""

    # ------------------------------------------------------------------ for subclasses to define

    def poke(self) -> None:
        """Something was reported: `advance` may have news. Called from any thread."""
        raise NotImplementedError

    def end(self, response: Response) -> None:
        """Answer `response`, unless an answer was decided. Called from any thread."""
        raise NotImplementedError

    # ------------------------------------------------------------------ checkpoints and the clock

    def send(self, action: Send) -> None:
        """Hand a batch to the checkpoint channel. The lock is held."""
        encoded = self.checkpoints.encode(
            action.ops,
            request_started_ms=self._begun_ms,
            sent_ms=time.time_ns() // 1_000_000,
        )
        if encoded is None:
            return
        path, body = encoded
        channel, until = self.execution.app.channel, self._give_up_at()
        if not action.ops:
            channel.submit(path, body, self._on_heartbeat, give_up_at=until)
            return
        self._sent += 1
        if until is not None:  # one try is made of it, however late it is
            self._overdue_at = max(until, time.monotonic()) + PATIENCE_SLACK
        report: Callable[[Verdict, str], None] = partial(self._on_verdict, self._sent)
        if self.hooks is not None:
            report = self.hooks.watching(action.ops, len(body), report, self.spoil)
        channel.submit(path, body, report, give_up_at=until)

    def read_journal(self) -> None:
        """Ask what is confirmed of this run now. The lock is held."""
        channel, latest = self.execution.app.channel, time.monotonic() + JOURNAL_BUDGET
        until = min(self._give_up_at() or latest, latest)
        channel.read(journal_path(self.run_id), self._on_journal, give_up_at=until)

    def _on_journal(self, verdict: Verdict, text: str) -> None:
        with self.guarded():
            journal = None
            if verdict is Verdict.CONFIRMED:
                with suppress(OnwardError):
                    journal = decode_journal(parse_json(text or "{}"), None)
            self.core.journal_read(verdict, journal)
            self.log_notices()
        self.poke()

    def _give_up_at(self) -> float | None:
        """When a checkpoint is handed over in the response instead.

        Early enough for the function to reach its next step, whose plan goes with it; after the
        deadline, half of the margin is left for the answer.
        """
        deadline, now = self.execution.deadline, time.monotonic()
        patience = self.checkpoints.patience
        if patience is not None:
            return min(now + patience, deadline.kill_at)
        if deadline.ends_at == inf:
            return None
        soft = deadline.soft_at(0)
        if now < soft:
            return soft
        return (deadline.ends_at + min(deadline.kill_at, deadline.ends_at + CUT_MOST)) / 2

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Hold the lock while a thread of Onward's own reports; a defect there ends the invocation.

        Nobody else would: user code waits for what was to be reported.
        """
        with self.lock:
            try:
                yield
            except Exception as error:  # noqa: BLE001 - a defect must not hang the caller
                self.end(self.broken(error))

    def _on_verdict(self, number: int, verdict: Verdict, detail: str) -> None:
        with self.guarded():
            if number != self._sent:
                return  # it was given up: what comes now is as if it had been lost
            self._judge(verdict, detail)
        self.poke()

    def _judge(self, verdict: Verdict, detail: str) -> None:
        """The checkpoint in flight has its verdict. The lock is held."""
        self._overdue_at = inf
        self.core.checkpointed(self.checkpoints.judge(verdict, detail), detail)
        self.log_notices()

    def _on_heartbeat(self, verdict: Verdict, detail: str) -> None:
        if verdict is Verdict.GONE:
            with self.guarded():
                self.core.gone(detail)
                self.log_notices()
            self.poke()

    def on_watch(self) -> None:
        """The watchdog: flush what is due, even while user code or a body holds everything up."""
        with self.guarded():
            self._armed_at = inf
            if time.monotonic() >= self._overdue_at:
                self._sent += 1
                self._judge(Verdict.UNCONFIRMED, "no answer in time")
            action = self.core.flush_due(time.monotonic())
            if action is not None:
                self.send(action)
            self.rearm()
        self.poke()

    def drain(self) -> None:
        """Flush, begin no new step, and continue in another process. Called from any thread."""
        with self.guarded():
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
        when = min(self.core.next_wake(), self._overdue_at)
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

    def unwind_limit(self) -> float:
        """Seconds that user code gets for its `finally` blocks."""
        left = self.execution.deadline.kill_at - time.monotonic()
        return min(UNWIND_LIMIT, max(left, 2 * CUT_LEAST) / 2)

    def leave_behind(self, pieces: Collection[Piece]) -> None:
        """Pieces of user code that could not be stopped; a server goes on without them."""
        from onward.execution.abandoned import abandoned
        from onward.logs import runtime

        abandoned.add(pieces)
        runtime.error(
            "%d piece(s) of code of function %s could not be stopped and were left behind; the"
            " process takes no calls while %d of them run. [run %s]",
            len(pieces),
            self.function_id,
            abandoned.limit,
            self.run_id,
        )

    def hang(self) -> None:
        """This invocation will not answer: say why, once. Some code may never let it end."""
        if self._hangs:
            return
        self._hangs = True
        from onward.logs import runtime

        runtime.error(
            "Code of function %s could not be stopped at the deadline. Finished steps are safe."
            " This invocation does not answer, so that the platform ends the process and the"
            " attempt counts. [run %s]",
            self.function_id,
            self.run_id,
        )

    def broken(self, error: Exception) -> Response:
        """The answer to a defect of Onward's own: better an error than a caller that waits."""
        from onward.logs import runtime

        runtime.exception("Onward failed in run %s", self.run_id, exc_info=error)
        self.core.abandon()
        info = ErrorInfo("OnwardDefect", f"Onward itself failed: {type(error).__name__}: {error}")
        return function_error(info, retriable=True)

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
        if self.hooks is not None:
            self.hooks.before_step(call)

    def function_variables(self) -> Variables:
        """The context variables that the function begins with."""
        return outside_steps() if self.hooks is None else self.hooks.variables.copy()

    def receive(self, context: Context | BlockingContext) -> None:
        """Give the function its events' data as their schemas say. Raises EventSchemaError."""
        app, function = self.execution.app, self.execution.function
        if not app.event_schemas:
            return
        from onward.schemas import received_events

        given = context.events or (context.event,)
        typed = received_events(app, function, given)
        if context.event == given[0]:
            context.event = typed[0]
        else:
            (context.event,) = received_events(app, function, (context.event,))
        context.events = typed if context.events else ()

    def failure(self, event: InboundEvent) -> Failure:
        """What the event of a failed run tells. Raises StepUsageError for another event."""
        from onward.failure import failure_of

        return failure_of(event, self.execution.app)

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
        try:
            self.observe(call, "end")
            data, value = ticket.codec.settle(value, ticket.where(call))
            if self.hooks is not None:
                data, value = self.hooks.step_returned(
                    call, data, value, ticket.codec, ticket.where(call)
                )
        except BaseException as error:  # noqa: BLE001 - values may run any code of users' own
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
        if self.hooks is not None:
            in_place = self.core.retries_in_place(call, failure, now)
            failure = self.hooks.step_failed(call, failure, error, retries_here=in_place)
        with self.lock:
            self.core.failed(call, failure, now, started_ns, int((now - begun) * 1e9))

    def outcome(self, action: Deliver) -> tuple[Any, BaseException | None]:
        """What user code gets: a value, or the error to raise."""
        if self.hooks is not None and action.memoized and not self.core.replaying:
            try:
                self.hooks.executing()
            except MiddlewareError as error:
                self.spoil(error)
                return None, error
        return self._outcome(action)

    @staticmethod
    def _outcome(action: Deliver) -> tuple[Any, BaseException | None]:
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
        function = self.execution.function
        if isinstance(value, Coroutine):
            value.close()
            message = (
                f"The function {function.id!r} is not async, but calling it gave a coroutine: a"
                " decorator hides an async function. Make the decorator's wrapper async."
            )
            self.function_raised(ConfigurationError(message))
            return
        try:
            data, _ = codec_of(function.handler).settle(value, f"the result of {function.id!r}")
            if self.hooks is not None and not self.core.over:
                data = self.hooks.function_returned(data)
        except BaseException as error:  # noqa: BLE001 - values may run any code of users' own
            self.function_raised(error)
            return
        with self.lock:
            if not (self.core.over or self._spoilt):
                self.core.returned(data)

    def function_raised(self, error: BaseException) -> None:
        """The function raised."""
        failure = failure_of(error)
        if self.hooks is not None and not (self.core.over or self._spoilt):
            failure = self.hooks.function_failed(failure, error)
        with self.lock:
            if not (self.core.over or self._spoilt):
                self.core.raised(failure)

    def spoil(self, error: MiddlewareError) -> None:
        """A hook about the whole invocation failed: that is what it answers, whatever comes."""
        with self.lock:
            if not (self.core.over or self._spoilt):
                self._spoilt = True
                self.core.raised(failure_of(error))
