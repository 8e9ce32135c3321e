"""What a middleware is: hooks around invocations, outcomes and events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from onward.core.ids import NO_TARGET
from onward.core.ops import ErrorInfo
from onward.core.values import decode, encode
from onward.errors import ConfigurationError

if TYPE_CHECKING:
    from onward.context import InboundEvent, TimeLeft

_COROUTINE = 0x80 | 0x200  # inspect.CO_COROUTINE and CO_ASYNC_GENERATOR, without importing inspect

_UNSET: Any = object()


@dataclass(frozen=True, slots=True)
class Step:
    """The step that a hook is about.

    `id` is the user's, `""` where only the wire's is known (recorded results); `hashed_id` is the
    wire's, 40 hexadecimal digits; `index` counts repeats of an id from 0; `kind` is the opcode.
    """

    id: str
    hashed_id: str
    index: int = 0
    kind: str = "StepRun"

    def __str__(self) -> str:
        return f"step {self.id!r}" if self.id else f"the step with the hashed id {self.hashed_id}"


class Outcome:
    """What a step or a function ended with: JSON data, or an error. Never changed, but replaced.

    `step` is None for the function's own outcome; `error` is None where there is data.
    """

    __slots__ = ("_data", "_text", "error", "step")

    def __init__(
        self,
        step: Step | None,
        *,
        data: Any = _UNSET,
        text: str | None = None,
        error: ErrorInfo | None = None,
    ) -> None:
        self.step = step
        self.error = error
        self._data = data
        self._text = text

    @property
    def data(self) -> Any:
        """The data as JSON values; None for an error."""
        if self._data is _UNSET:
            self._data = None if self._text is None else decode(self._text)
        return self._data

    @property
    def text(self) -> str:
        """The data as compact JSON text in ASCII: its length is its size in bytes."""
        if self._text is None:
            self._text = encode(self.data)
        return self._text

    def with_data(self, data: Any) -> Outcome:
        """The same with other data. Raises TypeError or ValueError for what is not JSON."""
        return Outcome(self.step, data=data, text=encode(data))

    def with_error(self, error: ErrorInfo) -> Outcome:
        """The same with another error."""
        return Outcome(self.step, error=error)

    def __repr__(self) -> str:
        what = "an error" if self.error is not None else "data"  # values stay out of logs
        return f"<outcome of {self.step or 'the function'}: {what}>"


@dataclass(frozen=True, slots=True)
class Call:
    """The invocation that a hook is called for. Each middleware has one of its own.

    Outside of functions, where an app sends events or reads a run's result, `run_id` is `""`.

    `function_id` is the composite id `app-function`. `attempt` counts from 0. `target` is the
    hashed id of the one step that is asked for, or `"step"`. `recorded` counts recorded results.
    `headers` of the call request have lower-case names; `raw_request` is what the platform gave
    the entry. `state` belongs to this middleware and this invocation alone. `middleware` are all
    that serve the invocation, the app's first.
    """

    app_id: str
    function_id: str = ""
    run_id: str = ""
    request_id: str = ""
    attempt: int = 0
    max_attempts: int = 1
    target: str = NO_TARGET
    recorded: int = 0
    is_async: bool = False
    checkpointing: bool = False
    deadline: TimeLeft | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw_request: Any = None
    middleware: tuple[Middleware, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    is_replaying: Callable[[], bool] = field(default=lambda: False, repr=False)

    @property
    def replaying(self) -> bool:
        """Whether the function is still being given what it had got before."""
        return self.is_replaying()


@dataclass(frozen=True, slots=True)
class Input:
    """What a function is about to be given.

    `steps` are the recorded outcomes by hashed id, in the order of their delivery; they are for
    reading. `extras` become `ctx.extras`.
    """

    event: InboundEvent
    events: tuple[InboundEvent, ...]
    steps: Mapping[str, Outcome]
    extras: Mapping[str, Any] = field(default_factory=dict)

    def with_extras(self, **extras: Any) -> Input:
        """The same with more for `ctx.extras`."""
        return replace(self, extras={**self.extras, **extras})


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of events that were sent: their `ids`, or the `error` that kept them."""

    events: tuple[dict[str, Any], ...]
    ids: tuple[str, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class SentCheckpoint:
    """A checkpoint and its answer. Times are nanoseconds: since the epoch, and of duration.

    `verdict`: `CONFIRMED`, or why it was not (see `onward.core.retry.Verdict`).
    """

    steps: tuple[Step, ...]
    size: int
    started_ns: int
    duration_ns: int
    verdict: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an invocation is about to answer.

    `kind`: `"result"`, `"error"` (the function's), `"step_error"`, `"steps"` (finished ones),
    `"plan"`, `"continuation"`, or `"over"`. `status` is HTTP's, `steps` those that it names.
    """

    kind: str
    status: int
    steps: tuple[Step, ...] = ()
    error: ErrorInfo | None = None


class Middleware:
    """Hooks around what a function is given and what leaves it. Override those that you need.

    Give instances, in order: `App(middleware=[A(), B()])`, `@app.function(middleware=[C()])`. The
    app's come before the function's. What goes in passes `A`, `B`, `C`; what goes out passes `C`,
    `B`, `A`, so that the first is nearest to the wire. One instance serves all invocations, at the
    same time too: keep what belongs to one in `call.state`. Hooks are plain functions, for async
    and blocking functions alike; one that waits for a network or a disk sets `waits`.

    A hook that raises makes a `MiddlewareError`, which names middleware, hook and function: the
    step or the call fails and is tried again.
    """

    #: Its hooks wait for a network or a disk: async functions call those around input, outcomes and
    #: the response on a thread, so that their event loop goes on.
    waits: ClassVar[bool] = False

    #: `transform_recorded` undoes `transform_output` exactly. User code then gets a result itself
    #: on the first run; otherwise it gets what a replay will give, by way of both hooks.
    reversible: ClassVar[bool] = False

    def transform_event(self, call: Call, event: InboundEvent) -> InboundEvent:  # noqa: ARG002
        """An event on its way in: each of the run's, and one that ends a wait."""
        return event

    def transform_recorded(self, call: Call, outcome: Outcome) -> Outcome:  # noqa: ARG002
        """A recorded outcome on its way in; also the result of a run that the app asks for."""
        return outcome

    def transform_input(self, call: Call, given: Input) -> Input:  # noqa: ARG002
        """What the function is given, once an invocation, before any of its code runs.

        Context variables that it sets are set for the function and for its steps.
        """
        return given

    def after_memoization(self, call: Call) -> None:
        """The last recorded result is about to be delivered; at once where there is none."""

    def before_execution(self, call: Call) -> None:
        """Code that has not run before is about to."""

    def before_step(self, call: Call, step: Step) -> None:
        """A body is about to run, in its thread or task, whose context variables may be set."""

    def after_step(self, call: Call, step: Step, error: BaseException | None) -> None:
        """A body has returned, or raised `error`. Not called for one that was cut."""

    def after_execution(self, call: Call) -> None:
        """No more of the function runs in this invocation."""

    def transform_output(self, call: Call, outcome: Outcome) -> Outcome:  # noqa: ARG002
        """An outcome on its way out, of a step or of the function (`outcome.step` is None).

        Data must stay data, and an error an error. The response of a durable endpoint does not
        pass: its caller may get it from the orchestrator.
        """
        return outcome

    def after_checkpoint(self, call: Call, checkpoint: SentCheckpoint) -> None:
        """A checkpoint was answered, or given up. Called on the checkpoints' own thread."""

    def before_response(self, call: Call, answer: Answer | None) -> None:
        """The invocation is about to answer. None: nobody waits any more, nothing is answered."""

    def before_send_events(
        self,
        call: Call,  # noqa: ARG002
        events: tuple[dict[str, Any], ...],
    ) -> tuple[dict[str, Any], ...]:
        """Events on their way out, as JSON objects.

        The data of `ctx.step.invoke` passes too, as an event `inngest/function.invoked`.
        """
        return events

    def after_send_events(self, call: Call, sent: Sent) -> None:
        """The orchestrator took the events, or did not. Not called for `ctx.step.invoke`."""


#: The hooks by name.
HOOKS = tuple(name for name, hook in vars(Middleware).items() if name[0] != "_" and callable(hook))


def check_middleware(value: object, where: str) -> tuple[Middleware, ...]:
    """`value` as middleware. `where` names the field. Raises ConfigurationError."""
    items = value if isinstance(value, (list, tuple)) else (value,)
    for item in items:
        if isinstance(item, type):
            raise ConfigurationError(
                f"{where} has the class {item.__name__}. Give an instance: {item.__name__}(…)."
            )
        if not isinstance(item, Middleware):
            raise ConfigurationError(
                f"{where} has {item!r}, which is no onward.Middleware. Give instances of its"
                " subclasses."
            )
        for hook in HOOKS:
            method = getattr(type(item), hook)
            code = getattr(method, "__code__", None)
            if code is not None and code.co_flags & _COROUTINE:
                raise ConfigurationError(
                    f"{where}: {type(item).__name__}.{hook} is async. Hooks are plain functions,"
                    " for async functions too; one that waits for something sets `waits = True` on"
                    " its class and is called on a thread."
                )
    return tuple(items)
