"""Builds the calls behind `ctx.step`, the same for both drivers."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from onward.core.calls import StepCall
from onward.core.durations import parse_duration
from onward.core.ids import event_seed, hash_id
from onward.core.ops import Opcode
from onward.core.values import PLAIN, Codec, codec_of
from onward.errors import EventError, StepUsageError

if TYPE_CHECKING:
    from datetime import datetime

    from onward.app import App
    from onward.config import Duration
    from onward.execution.hooks import CallHooks
    from onward.execution.waits import Awaited

_RUN_OPTIONS = {"timeout": None, "expected": None, "barrier": False, "retry_in_place": 0}

#: The step whose body runs here: its user id, its run, and its wire id.
current_step: ContextVar[tuple[str, str, str] | None] = ContextVar("onward_step", default=None)


def outside_steps() -> Variables:
    """A copy of the current context in which no step's body runs: a function begins there."""
    variables = copy_context()
    if current_step.get() is not None:
        variables.run(current_step.set, None)
    return variables


def refuse_inside_a_step(what: str) -> None:
    """Raise StepUsageError when a step's body runs here: steps do not nest."""
    inside = current_step.get()
    if inside is not None:
        msg = (
            f"{what} was called inside the step {inside[0]!r}. Steps do not nest: call it from the"
            " function, after that step, or make it plain code of that step."
        )
        raise StepUsageError(msg)


@dataclass(slots=True)
class Ticket:
    """What a driver needs to run a call's body: the core never looks at it."""

    body: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    codec: Codec = PLAIN
    variables: Variables | None = None
    waiter: Any = None

    def where(self, call: StepCall) -> str:
        """How errors name the step."""
        return f"step {call.user_id!r}"


@dataclass(frozen=True, slots=True)
class MapPlan:
    """The steps of a `map`: `make` gives the call of an item by its place."""

    count: int
    make: Callable[[int], StepCall]
    concurrency: int


class MapResults:
    """What became of the items of a `map` that lanes share."""

    __slots__ = ("_errors", "_values", "numbers")

    def __init__(self, plan: MapPlan) -> None:
        #: The places of the items, to be taken by whichever lane is free.
        self.numbers = iter(range(plan.count))
        self._values: list[Any] = [None] * plan.count
        self._errors: dict[int, Exception] = {}

    def settle(self, number: int, value: Any) -> None:
        """The item's step has a result."""
        self._values[number] = value

    def fail(self, number: int, error: Exception) -> None:
        """The item's step failed."""
        self._errors[number] = error

    def joined(self) -> list[Any]:
        """The results in the items' order. Raises the error of the first item that failed."""
        if self._errors:
            raise self._errors[min(self._errors)]
        return self._values


class StepMaker:
    """Makes the calls of one invocation of `app`'s function."""

    def __init__(self, app: App, hooks: CallHooks | None = None) -> None:
        self._app = app
        self._hooks = hooks

    def current_idempotency_key(self) -> str:
        """The key of the step whose body runs here. Raises StepUsageError outside of one."""
        _, run_id, step = self._running_step()
        return idempotency_key(run_id, step)

    @staticmethod
    def _running_step() -> tuple[str, str, str]:
        current = current_step.get()
        if current is None:
            msg = "ctx.step.idempotency_key was read outside of a step. Read it in a step's body."
            raise StepUsageError(msg)
        return current

    def _call(self, code: Opcode, id_: object, ticket: Ticket, **options: Any) -> StepCall:
        if not isinstance(id_, str) or not id_:
            msg = f"{id_!r} is not a step id. Give each step a text of its own, such as 'charge'."
            raise StepUsageError(msg)
        refuse_inside_a_step(f"The step {id_!r}")
        return StepCall(code, id_, token=ticket, **options)

    def run(
        self,
        id_: str,
        body: object,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> StepCall:
        """A call of `ctx.step.run`. Raises StepUsageError, DurationError, ResultError."""
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
        return self._call(
            Opcode.STEP_RUN,
            id_,
            ticket,
            callable_key=_callable_key(body),
            barrier=bool(options["barrier"]),
            in_place_left=in_place,
            **settings,
        )

    def sleep(self, id_: str, duration: Duration) -> StepCall:
        """A call of `ctx.step.sleep`: a relative sleep becomes an instant here."""
        seconds = parse_duration(duration, what=f"the duration of sleep {id_!r}")
        return self._call(Opcode.SLEEP, id_, Ticket(), wakes_at=time.monotonic() + seconds)

    def sleep_until(self, id_: str, until: datetime | str) -> StepCall:
        """A call of `ctx.step.sleep_until`. Raises StepUsageError."""
        return self._call(Opcode.SLEEP, id_, Ticket(), name=_instant(id_, until))

    def map(
        self,
        id_: str,
        items: object,
        body: object,
        concurrency: object,
        options: Mapping[str, Any],
    ) -> MapPlan:
        """The steps of `ctx.step.map`. Raises StepUsageError, DurationError."""
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            msg = f"concurrency of map {id_!r} is {concurrency!r}. Write how many steps, from 1."
            raise StepUsageError(msg)
        unknown = options.keys() - _RUN_OPTIONS
        if unknown:
            msg = f"The map {id_!r} got {', '.join(map(repr, unknown))}, which is no step's option."
            raise StepUsageError(msg)
        options = {**_RUN_OPTIONS, **options}
        self.run(id_, body, (), {}, options)  # what is wrong with all steps is said at once
        if not isinstance(items, Iterable):
            msg = f"The map {id_!r} got {items!r} instead of items. Pass a list, or what has items."
            raise StepUsageError(msg)
        values = list(items)

        def make(number: int) -> StepCall:
            return self.run(f"{id_}[{number}]", body, (values[number],), {}, options)

        return MapPlan(len(values), make, min(concurrency, len(values)))

    def wait_for_event(
        self, id_: str, event: object, timeout: object, if_: object, type_: Any
    ) -> StepCall:
        """A call of `ctx.step.wait_for_event`. Raises ConfigurationError, StepUsageError."""
        from onward.execution.waits import event_wait

        return self._awaited(
            id_, event_wait(self._app, id_, event, timeout=timeout, if_=if_, type_=type_)
        )

    def wait_for_signal(
        self, id_: str, signal: object, timeout: object, on_conflict: object, type_: Any
    ) -> StepCall:
        """A call of `ctx.step.wait_for_signal`. Raises DurationError, StepUsageError."""
        from onward.execution.waits import signal_wait

        return self._awaited(
            id_, signal_wait(id_, signal, timeout=timeout, on_conflict=on_conflict, type_=type_)
        )

    def invoke(
        self, id_: str, function: object, data: object, timeout: object, type_: Any
    ) -> StepCall:
        """A call of `ctx.step.invoke`. Raises what `waits.invocation` does."""
        from onward.execution.waits import invocation

        return self._awaited(
            id_, invocation(self._app, id_, function, data=data, timeout=timeout, type_=type_)
        )

    def _awaited(self, id_: str, what: Awaited) -> StepCall:
        ticket = Ticket(codec=what.codec)
        ticket.codec.prepare(f"step {id_!r}")
        return self._call(what.code, id_, ticket, name=what.name, opts=what.opts, size=what.size)

    def send_event(self, id_: str, events: object) -> StepCall:
        """A call of `ctx.step.send_event`. Raises StepUsageError."""
        from onward.outbound import listed

        try:
            payload = [event for _, event in listed(events)]
        except EventError as error:
            raise StepUsageError(f"The step {id_!r} sends no event: {error.message}") from None
        if not payload:
            raise StepUsageError(f"The step {id_!r} sends no event: its list is empty.")
        ticket = Ticket(self._post_events, (payload,), {}, PLAIN, copy_context())
        return self._call(
            Opcode.STEP_RUN, id_, ticket, name="sendEvent", opts={"type": "step.sendEvent"}
        )

    def _post_events(self, payload: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Send `payload`, with seeds of the step's own: a retry sends no twins."""
        from onward.client import sending
        from onward.outbound import wire_events
        from onward.transport.http import perform

        app, (_, run_id, step) = self._app, self._running_step()
        events = wire_events(app, payload)

        def post(going: Sequence[Mapping[str, Any]]) -> list[str]:
            return perform(sending(app, going, partial(event_seed, run_id, step)))

        return {"ids": post(events) if self._hooks is None else self._hooks.send(events, post)}


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


def _callable_key(body: object) -> Hashable:
    """What bodies have in common whose durations predict each other: where their code stands."""
    while hasattr(body, "func") and hasattr(body, "keywords"):
        body = body.func
    code = getattr(body, "__code__", None)
    if code is not None:
        return code.co_filename, code.co_firstlineno
    kind = body if hasattr(body, "__qualname__") else type(body)
    return getattr(kind, "__module__", ""), getattr(kind, "__qualname__", "")
