"""An app: the functions that are served under one id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from onward.config import CancelOn, Checkpointing, Cron, Event, resolve_checkpointing
from onward.errors import ConfigurationError, UnknownFunctionError

if TYPE_CHECKING:
    from onward.config import Duration
    from onward.schemas import Declared
    from onward.settings import Settings
    from onward.transport.channel import Channel, Keys

_F = TypeVar("_F", bound=Callable[..., Any])

#: How often a failed function or step is tried again, unless the function says otherwise.
DEFAULT_RETRIES = 3

#: What the reference server takes at most.
MOST_RETRIES = 20

_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect


def is_async(function: object) -> bool:
    """Whether calling `function` gives a coroutine; partials and callable objects included."""
    while hasattr(function, "func") and hasattr(function, "keywords"):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type):
        code = getattr(vars(type(function)).get("__call__"), "__code__", None)
    return code is not None and bool(code.co_flags & _COROUTINE)


@dataclass(frozen=True, slots=True)
class BodyEvent:
    """A body began or returned: `phase` is `"start"` or `"end"`; `step_id` is the user's id."""

    run_id: str
    step_id: str
    index: int
    attempt: int
    phase: str


@dataclass(frozen=True, slots=True)
class Function:
    """A function of an app. `id` is its own, `composite_id` the one that the orchestrator knows."""

    app_id: str
    id: str
    handler: Callable[..., Any]
    triggers: tuple[Event | Cron, ...]
    retries: int
    checkpointing: Checkpointing | None
    cancel_on: tuple[CancelOn, ...]
    plan_parallel: bool
    name: str

    @property
    def composite_id(self) -> str:
        """The id that the orchestrator knows: `app-function`."""
        return f"{self.app_id}-{self.id}"

    @property
    def is_async(self) -> bool:
        """Whether the asyncio driver runs it."""
        return is_async(self.handler)

    def registration(self, url: str) -> dict[str, Any]:
        """This function as a registration carries it; `url` is where call requests go."""
        joint = "&" if "?" in url else "?"
        address = f"{url}{joint}fnId={self.composite_id}&stepId=step"
        wire: dict[str, Any] = {
            "id": self.composite_id,
            "name": self.name,
            "triggers": [trigger.to_wire() for trigger in self.triggers],
            "steps": {
                "step": {
                    "id": "step",
                    "name": "step",
                    "runtime": {"type": "http", "url": address},
                    "retries": {"attempts": self.retries},
                }
            },
        }
        if self.cancel_on:
            wire["cancel"] = [cancel.to_wire() for cancel in self.cancel_on]
        return wire


@dataclass(eq=False)
class App:
    """A set of functions that are served under one id.

    Args:
        id: The app's id: lower-case words joined by hyphens. Runs are tied to it.
        checkpointing: Default for its functions: True, False, or a `Checkpointing`.
        orchestrator: The orchestrator's URL; by default what `INNGEST_DEV`, `INNGEST_BASE_URL` or
            `INNGEST_API_BASE_URL` say, else Inngest Cloud.
        deadline_margin: How much of an invocation is kept for flushing and answering; a duration.
            Default: 0.25 s and four round trips. `ONWARD_DEADLINE_MARGIN` sets it too.
        schemas: What the data of events looks like, by event name: a pydantic model, or another
            annotation. The schemas of triggers (`Event(…, schema=…)`) join them.

    Raises ConfigurationError.
    """

    id: str
    checkpointing: bool | Checkpointing = True
    orchestrator: str | None = None
    deadline_margin: Duration | None = None
    schemas: Mapping[str, Any] | None = None
    functions: dict[str, Function] = field(default_factory=dict, init=False)
    body_observers: list[Callable[[BodyEvent], None]] = field(default_factory=list, init=False)
    event_schemas: dict[str, Declared] = field(default_factory=dict, init=False, repr=False)
    _settings: Settings | None = field(default=None, init=False, repr=False)
    _channel: Channel | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_id(self.id, "an app's id")
        resolve_checkpointing(self.checkpointing)
        if self.deadline_margin is not None:
            from onward.core.durations import parse_duration

            parse_duration(self.deadline_margin, what="deadline_margin")
        for name, schema in (self.schemas or {}).items():
            self._declare(name, schema, f"app {self.id!r}")

    def _declare(self, name: str, schema: Any, where: str) -> None:
        from onward.schemas import declare

        declare(self.event_schemas, name, schema, where)

    def function(
        self,
        id: str,  # noqa: A002 - the field's own name for it
        *,
        trigger: Event | Cron | Sequence[Event | Cron],
        retries: int = DEFAULT_RETRIES,
        checkpointing: bool | Checkpointing | None = None,
        cancel_on: CancelOn | Sequence[CancelOn] = (),
        parallel: str = "eager",
        name: str | None = None,
    ) -> Callable[[_F], _F]:
        """Register a function: `async def f(ctx: Context)` or `def f(ctx: BlockingContext)`.

        Args:
            id: Unique in the app. Runs are tied to it.
            trigger: What starts it.
            retries: How often a failed call is tried again, 0 to 20.
            checkpointing: Instead of the app's.
            cancel_on: Events that cancel a run.
            parallel: `"eager"` runs concurrent steps in this process, `"orchestrated"` plans each
                as a call of its own, with its own attempts.
            name: For people; by default the id.

        Raises ConfigurationError, naming the function and the field.
        """
        where = f"function {id!r} of app {self.id!r}"
        _check_id(id, f"the id of {where}")
        triggers = _tuple(
            trigger, (Event, Cron), f"trigger of {where}", "onward.Event('order/paid')"
        )
        if not triggers:
            raise ConfigurationError(
                f"The {where} has no trigger. Give it one: trigger=onward.Event(…)."
            )
        cancels = _tuple(cancel_on, (CancelOn,), f"cancel_on of {where}", "onward.CancelOn('…')")
        if not _is_count(retries) or retries > MOST_RETRIES:
            raise ConfigurationError(
                f"retries of {where} is {retries!r}. Write a whole number from 0 to {MOST_RETRIES}."
            )
        if parallel not in ("eager", "orchestrated"):
            raise ConfigurationError(
                f"parallel of {where} is {parallel!r}. Write 'eager' or 'orchestrated'."
            )
        if f"{self.id}-{id}" in self.functions:
            raise ConfigurationError(
                f"The app {self.id!r} has a function {id!r} already. Give each its own id."
            )
        resolved = resolve_checkpointing(self.checkpointing, checkpointing)
        for event in triggers:
            if isinstance(event, Event) and event.schema is not None:
                self._declare(event.name, event.schema, where)

        def register(handler: _F) -> _F:
            function = Function(
                self.id,
                id,
                handler,
                triggers,
                retries,
                resolved,
                cancels,
                parallel == "orchestrated",
                name or id,
            )
            self.functions[function.composite_id] = function
            return handler

        return register

    def find(self, composite_id: str) -> Function:
        """The function that a call request names. Raises UnknownFunctionError."""
        function = self.functions.get(composite_id)
        if function is None:
            known = ", ".join(sorted(self.functions)) or "none"
            raise UnknownFunctionError(
                f"The app {self.id!r} has no function {composite_id!r}; it has: {known}. Register"
                " the app with its orchestrator again, or deploy the version that has it."
            )
        return function

    def registration(self, url: str) -> dict[str, Any]:
        """What the app sends to register at `POST /fn/register`; `url` is its own address."""
        from onward import __version__

        return {
            "url": url,
            "deployType": "ping",
            "framework": "onward",
            "appName": self.id,
            "sdk": f"onward:v{__version__}",
            "v": "0.1",
            "capabilities": {},
            "functions": [function.registration(url) for function in self.functions.values()],
        }

    @property
    def settings(self) -> Settings:
        """Where the orchestrator is, and the keys; from the environment, at first use."""
        if self._settings is None:
            import os

            from onward.settings import resolve_settings

            self._settings = resolve_settings(os.environ, self.orchestrator)
        return self._settings

    def keys(self) -> Keys:
        """The signing key and its fallback, for requests to the orchestrator."""
        from onward.transport.channel import Keys

        return Keys(self.settings.signing_key, self.settings.signing_key_fallback)

    @property
    def channel(self) -> Channel:
        """The checkpoint channel of this process."""
        if self._channel is None:
            from onward import __version__
            from onward.transport.channel import Channel

            sdk = f"onward:v{__version__}"
            self._channel = Channel(self.settings.api_url, self.keys(), sdk=sdk)
        return self._channel


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_id(value: object, what: str) -> None:
    if not isinstance(value, str) or not value or any(c.isspace() or c in "/?&#%" for c in value):
        raise ConfigurationError(
            f"{value!r} is not {what}: use letters, digits, '-', '_' and '.', such as"
            " 'order-fulfilment'."
        )


def _tuple(value: object, kinds: tuple[type, ...], what: str, example: str) -> tuple[Any, ...]:
    items = (value,) if isinstance(value, kinds) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, kinds) for item in items):
        raise ConfigurationError(f"The {what} is {value!r}. Write {example}, or a list of those.")
    return tuple(items)
