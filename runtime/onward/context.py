"""What user code sees of a run: `ctx`, and the steps under `ctx.step`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from onward.core.calls import StepCall
from onward.core.deadline import Deadline
from onward.core.durations import parse_duration
from onward.core.ids import hash_id
from onward.core.ops import Opcode
from onward.core.values import PLAIN, Codec, codec_of
from onward.errors import StepUsageError

if TYPE_CHECKING:
    from datetime import datetime
    from logging import Logger, LoggerAdapter

    from onward.config import Duration

_T = TypeVar("_T")

#: The step whose body runs here: its user id and its idempotency key.
current_step: ContextVar[tuple[str, str] | None] = ContextVar("onward_step", default=None)


@dataclass(slots=True)
class Ticket:
    """What a driver needs to run a call's body: the core never looks at it."""

    body: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    codec: Codec = PLAIN
    variables: Variables | None = None
    waiter: Any = None
    task: Any = None

    def where(self, call: StepCall) -> str:
        """How errors name the step."""
        return f"step {call.user_id!r}"


@dataclass(frozen=True, slots=True)
class InboundEvent:
    """An event as a function receives it. `ts` is in milliseconds since the epoch."""

    name: str
    data: Any = field(default_factory=dict)
    id: str = ""
    ts: int = 0
    user: Mapping[str, Any] = field(default_factory=dict)
    v: str | None = None

    @classmethod
    def of(cls, wire: Mapping[str, Any]) -> InboundEvent:
        """The event from its JSON."""
        data, user = wire.get("data"), wire.get("user")
        return cls(
            name=str(wire.get("name") or ""),
            data=data if data is not None else {},
            id=str(wire.get("id") or ""),
            ts=int(wire.get("ts") or 0),
            user=user if user is not None else {},
            v=wire.get("v"),
        )


class Driver(Protocol):
    """What the steps ask of whoever drives the function."""

    run_id: str

    def step(self, call: StepCall) -> Any:
        """The outcome of `call`, or an awaitable of it."""

    def send_events(self, payload: list[dict[str, Any]]) -> dict[str, Any]:
        """Send events to the orchestrator; their ids."""


class _Steps:
    """Builds the calls that both kinds of functions make."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    @property
    def idempotency_key(self) -> str:
        """A key for the outside world, the same each time that this step is tried.

        Raises StepUsageError outside of a step's body.
        """
        current = current_step.get()
        if current is None:
            msg = "ctx.step.idempotency_key was read outside of a step. Read it in a step's body."
            raise StepUsageError(msg)
        return current[1]

    def _call(self, code: Opcode, id_: object, ticket: Ticket, **options: Any) -> StepCall:
        if not isinstance(id_, str) or not id_:
            msg = f"{id_!r} is not a step id. Give each step a text of its own, such as 'charge'."
            raise StepUsageError(msg)
        inside = current_step.get()
        if inside is not None:
            msg = (
                f"The step {id_!r} was called inside the step {inside[0]!r}. Steps do not nest:"
                " call it from the function, after that step, or make it plain code of that step."
            )
            raise StepUsageError(msg)
        return StepCall(code, id_, token=ticket, **options)

    def _run(
        self,
        id_: str,
        body: object,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> StepCall:
        if not callable(body):
            msg = (
                f"The body of step {id_!r} is {type(body).__name__}, which cannot be called. Pass"
                " the function and its arguments apart: ctx.step.run('id', function, argument)."
            )
            raise StepUsageError(msg)
        settings: dict[str, Any] = {}
        for name in ("timeout", "expected"):
            if options[name] is not None:
                settings[name] = parse_duration(options[name], what=f"{name} of step {id_!r}")
        in_place = options["retry_in_place"]
        if isinstance(in_place, bool) or not isinstance(in_place, int) or in_place < 0:
            msg = f"retry_in_place of step {id_!r} is {in_place!r}. Write how often, from 0."
            raise StepUsageError(msg)
        ticket = Ticket(body, args, kwargs, codec_of(body), copy_context())
        key = getattr(body, "__code__", None) or getattr(body, "func", body)
        return self._call(
            Opcode.STEP_RUN,
            id_,
            ticket,
            callable_key=id(key),
            barrier=bool(options["barrier"]),
            in_place_left=in_place,
            **settings,
        )

    def _sleep(self, id_: str, duration: Duration) -> StepCall:
        seconds = parse_duration(duration, what=f"the duration of sleep {id_!r}")
        return self._call(Opcode.SLEEP, id_, Ticket(), wakes_at=time.monotonic() + seconds)

    def _sleep_until(self, id_: str, until: datetime | str) -> StepCall:
        return self._call(Opcode.SLEEP, id_, Ticket(), name=_instant(id_, until))

    def _send_event(self, id_: str, events: object) -> StepCall:
        payload = [events] if isinstance(events, Mapping) else events
        if (
            not isinstance(payload, Sequence)
            or not payload
            or not all(
                isinstance(e, Mapping) and isinstance(e.get("name"), str) and e["name"]
                for e in payload
            )
        ):
            msg = (
                f"The step {id_!r} sends {events!r}, which is not an event. Write"
                " {'name': 'order/paid', 'data': {…}}, or a list of those."
            )
            raise StepUsageError(msg)
        ticket = Ticket(self._post_events, (payload,), {}, PLAIN, copy_context())
        return self._call(
            Opcode.STEP_RUN, id_, ticket, name="sendEvent", opts={"type": "step.sendEvent"}
        )

    def _post_events(self, payload: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        key = self.idempotency_key
        events = [{"id": f"{key}-{n}", "data": {}, **event} for n, event in enumerate(payload)]
        return dict(self._driver.send_events(events))


class Steps(_Steps):
    """The steps of an async function. Every one may be awaited concurrently with others."""

    @overload
    async def run(
        self,
        id: str,
        body: Callable[..., Awaitable[_T]],
        *args: Any,
        timeout: Duration | None = None,  # noqa: ASYNC109 - the step's own, checked by the core
        expected: Duration | None = None,
        barrier: bool = False,
        retry_in_place: int = 0,
        **kwargs: Any,
    ) -> _T: ...
    @overload
    async def run(
        self,
        id: str,
        body: Callable[..., _T],
        *args: Any,
        timeout: Duration | None = None,  # noqa: ASYNC109 - the step's own, checked by the core
        expected: Duration | None = None,
        barrier: bool = False,
        retry_in_place: int = 0,
        **kwargs: Any,
    ) -> _T: ...
    async def run(
        self,
        id: str,  # noqa: A002 - the field's own name for it
        body: Callable[..., Any],
        *args: Any,
        timeout: Duration | None = None,  # noqa: ASYNC109 - the step's own, checked by the core
        expected: Duration | None = None,
        barrier: bool = False,
        retry_in_place: int = 0,
        **kwargs: Any,
    ) -> Any:
        """Run `body(*args, **kwargs)` once; replays give its recorded result.

        Args:
            id: Unique in the function; a repeated one gets a number.
            body: An async or a blocking callable; a blocking one runs on a thread of Onward's.
            *args: For the body.
            **kwargs: For the body.
            timeout: A duration after which the body is stopped; the step then fails.
            expected: A duration that the body may need: it is not begun with less time left.
            barrier: Begin only after everything before it is confirmed: for a charge, an email.
            retry_in_place: How often a failed body is tried again within the invocation.

        Raises StepError when the step failed for good, StepUsageError where no step can run,
        ResultError when the result cannot be kept.
        """
        options = {
            "timeout": timeout,
            "expected": expected,
            "barrier": barrier,
            "retry_in_place": retry_in_place,
        }
        return await self._driver.step(self._run(id, body, args, kwargs, options))

    async def sleep(self, id: str, duration: Duration) -> None:  # noqa: A002
        """Suspend until `duration` has passed since this call. Raises DurationError."""
        await self._driver.step(self._sleep(id, duration))

    async def sleep_until(self, id: str, until: datetime | str) -> None:  # noqa: A002
        """Suspend until `until`: an aware datetime, or RFC 3339 text."""
        await self._driver.step(self._sleep_until(id, until))

    async def send_event(
        self,
        id: str,  # noqa: A002
        events: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ) -> list[str]:
        """Send one event or several, once. Returns their ids.

        Each gets the step's idempotency key as its id unless it has one: a retry sends no twins.
        """
        sent = await self._driver.step(self._send_event(id, events))
        return list(sent["ids"])


class BlockingSteps(_Steps):
    """The steps of a blocking function; the same as `Steps`, but each call blocks."""

    @overload
    def run(
        self,
        id: str,
        body: Callable[..., Awaitable[_T]],
        *args: Any,
        timeout: Duration | None = None,
        expected: Duration | None = None,
        barrier: bool = False,
        retry_in_place: int = 0,
        **kwargs: Any,
    ) -> _T: ...
    @overload
    def run(
        self,
        id: str,
        body: Callable[..., _T],
        *args: Any,
        timeout: Duration | None = None,
        expected: Duration | None = None,
        barrier: bool = False,
        retry_in_place: int = 0,
        **kwargs: Any,
    ) -> _T: ...
    def run(
        self,
        id: str,  # noqa: A002 - the field's own name for it
        body: Callable[..., Any],
        *args: Any,
        timeout: Duration | None = None,
        expected: Duration | None = None,
        barrier: bool = False,
        retry_in_place: int = 0,
        **kwargs: Any,
    ) -> Any:
        """Run `body(*args, **kwargs)` once, as `Steps.run` does."""
        options = {
            "timeout": timeout,
            "expected": expected,
            "barrier": barrier,
            "retry_in_place": retry_in_place,
        }
        return self._driver.step(self._run(id, body, args, kwargs, options))

    def sleep(self, id: str, duration: Duration) -> None:  # noqa: A002
        """Suspend until `duration` has passed since this call. Raises DurationError."""
        self._driver.step(self._sleep(id, duration))

    def sleep_until(self, id: str, until: datetime | str) -> None:  # noqa: A002
        """Suspend until `until`: an aware datetime, or RFC 3339 text."""
        self._driver.step(self._sleep_until(id, until))

    def send_event(
        self,
        id: str,  # noqa: A002
        events: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ) -> list[str]:
        """Send one event or several, once. Returns their ids."""
        return list(self._driver.step(self._send_event(id, events))["ids"])

    def gather(self, *branches: Callable[[], _T]) -> list[_T]:
        """Run `branches` concurrently and return their results in order.

        Each branch is a callable without arguments that may use steps; one branch's own code runs
        at a time, their bodies run in parallel. All end before the first error is raised.
        """
        return list(self._driver.gather(branches))


class _Context:
    """What both kinds of functions see of their run."""

    def __init__(self, driver: Any, *, call: Any, deadline: Deadline) -> None:
        self._driver = driver
        self.run_id: str = call.run_id
        self.attempt: int = call.attempt
        self.event = InboundEvent.of(call.event)
        self.events = tuple(map(InboundEvent.of, call.events))
        self.deadline = TimeLeft(deadline)
        self._logger: LoggerAdapter[Logger] | None = None

    @property
    def logger(self) -> LoggerAdapter[Logger]:
        """A logger that knows the run and is silent while results are replayed."""
        if self._logger is None:
            from onward.logs import run_logger

            self._logger = run_logger(self.run_id, self._driver.function_id, self._driver)
        return self._logger


class Context(_Context):
    """The run, for an async function; its steps are awaited."""

    step: Steps

    def __init__(self, driver: Any, *, call: Any, deadline: Deadline) -> None:
        super().__init__(driver, call=call, deadline=deadline)
        self.step = Steps(driver)


class BlockingContext(_Context):
    """The run, for a blocking function; its steps block."""

    step: BlockingSteps

    def __init__(self, driver: Any, *, call: Any, deadline: Deadline) -> None:
        super().__init__(driver, call=call, deadline=deadline)
        self.step = BlockingSteps(driver)


class TimeLeft:
    """The deadline of this invocation."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def remaining(self) -> float:
        """Seconds until bodies are cut and the invocation answers; `inf` without a deadline."""
        return max(0.0, self._deadline.ends_at - time.monotonic())

    def __repr__(self) -> str:
        return f"<{self.remaining():.3f} s left>"


def idempotency_key(run_id: str, step_hash: str) -> str:
    """The key of a step: 40 hexadecimal digits, the same for every try of it in a run."""
    return hash_id(f"{run_id}:{step_hash}")


def _instant(id_: str, until: object) -> str:
    from datetime import UTC, datetime

    fix = "Give an aware datetime, or text such as '2027-01-31T09:00:00Z'."
    if isinstance(until, str):
        try:
            until = datetime.fromisoformat(until)
        except ValueError:
            raise StepUsageError(f"sleep_until {id_!r} got {until!r}. {fix}") from None
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise StepUsageError(f"sleep_until {id_!r} got {until!r}. {fix}")
    return until.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
