"""An app: the functions that are served under one id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from onward.config import CancelOn, Checkpointing, Cron, Event, resolve_checkpointing
from onward.errors import ConfigurationError, UnknownFunctionError

if TYPE_CHECKING:
    from datetime import datetime

    from onward.client import Run
    from onward.config import Duration
    from onward.outbound import Events
    from onward.middleware.base import Middleware
    from onward.middleware.chain import Chain
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
    middleware: tuple[Middleware, ...] = ()

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
        dev: Dev mode: `True`, `False`, or a dev server's URL. Default: `INNGEST_DEV`.
        signing_key: What calls are signed with. Default: `INNGEST_SIGNING_KEY`.
        signing_key_fallback: Taken too while keys are rotated; `INNGEST_SIGNING_KEY_FALLBACK`.
        event_key: What events are sent with. Default: `INNGEST_EVENT_KEY`.
        env: The branch environment to use. Default: `INNGEST_ENV`.
        serve_origin: Scheme and host under which the app is reached; `INNGEST_SERVE_ORIGIN`.
        serve_path: The path under which it is reached; `INNGEST_SERVE_PATH`.
        middleware: Around every function and every event sent; the first is nearest to the wire.

    Raises ConfigurationError.
    """

    id: str
    checkpointing: bool | Checkpointing = True
    orchestrator: str | None = None
    deadline_margin: Duration | None = None
    schemas: Mapping[str, Any] | None = None
    dev: bool | str | None = None
    signing_key: str | None = field(default=None, repr=False)
    signing_key_fallback: str | None = field(default=None, repr=False)
    event_key: str | None = field(default=None, repr=False)
    env: str | None = None
    serve_origin: str | None = None
    serve_path: str | None = None
    middleware: Sequence[Middleware] = ()
    functions: dict[str, Function] = field(default_factory=dict, init=False)
    body_observers: list[Callable[[BodyEvent], None]] = field(default_factory=list, init=False)
    event_schemas: dict[str, Declared] = field(default_factory=dict, init=False, repr=False)
    _settings: Settings | None = field(default=None, init=False, repr=False)
    _channel: Channel | None = field(default=None, init=False, repr=False)
    _keys: Keys | None = field(default=None, init=False, repr=False)
    _chains: dict[str, Chain] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_id(self.id, "an app's id")
        resolve_checkpointing(self.checkpointing)
        self.middleware = _middleware(self.middleware, f"middleware of app {self.id!r}")
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
        middleware: Sequence[Middleware] = (),
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
            middleware: Around this function, inside of the app's.

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
        around = _middleware(middleware, f"middleware of {where}")
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
                around,
            )
            self.functions[function.composite_id] = function
            return handler

        return register

    def chain(self, function: Function | None = None) -> Chain | None:
        """The middleware around `function`, or around what the app does outside of functions.

        None: there is none.
        """
        middleware = (*self.middleware, *(function.middleware if function else ()))
        if not middleware:
            return None
        where = f"function {function.id!r}" if function else f"app {self.id!r}"
        chain = self._chains.get(where)
        if chain is None:
            from onward.middleware.chain import Chain

            chain = self._chains[where] = Chain(middleware, self.id, where)
        return chain

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
            self._settings = self.read_settings()
        return self._settings

    def read_settings(self) -> Settings:
        """The settings as the environment says now. Raises ConfigurationError."""
        import os

        from onward.settings import Given, resolve_settings

        given = Given(
            orchestrator=self.orchestrator,
            dev=self.dev,
            signing_key=self.signing_key,
            signing_key_fallback=self.signing_key_fallback,
            event_key=self.event_key,
            env=self.env,
            serve_origin=self.serve_origin,
            serve_path=self.serve_path,
        )
        return resolve_settings(os.environ, given=given)

    def keys(self) -> Keys:
        """The signing key and its fallback, for requests to the orchestrator.

        One object an app: once the orchestrator refused the key, the fallback is used for good.
        """
        if self._keys is None:
            from onward.transport.channel import Keys

            self._keys = Keys(*self.settings.signing_keys)
        return self._keys

    @property
    def channel(self) -> Channel:
        """The checkpoint channel of this process."""
        if self._channel is None:
            from onward.transport.channel import Channel

            settings = self.settings
            self._channel = Channel(settings.api_url, self.keys(), headers=settings.outgoing())
        return self._channel

    # Events and runs, from anywhere: a web handler, a script

    def send(self, events: Events) -> list[str]:
        """Send one event or several; returns their ids, in their order.

        Args:
            events: A `NewEvent`, a mapping such as `{"name": "order/paid", "data": {…}}`, or
                several of those.

        Raises:
            EventError: One cannot be sent as it is, or its data does not fit its schema.
            EventRejectedError: The orchestrator refused one.
            EventsNotSentError: The orchestrator did not answer, however often that was tried.
            ConfigurationError: There is no event key.
            BlockingCallError: This thread runs an event loop: await `send_async`.
        """
        from onward.client import blocking, sending_checked

        return blocking("send", sending_checked(self, events))

    async def send_async(self, events: Events) -> list[str]:
        """As `send`, without blocking the event loop."""
        from onward.client import sending_checked
        from onward.transport.http import perform_async

        return await perform_async(sending_checked(self, events))

    def run(self, run_id: str) -> Run:
        """The run of that id: its status and result, and to cancel it. Asks nothing yet."""
        from onward.client import Run

        return Run(self, run_id)

    def runs_of(self, event_id: str) -> list[Run]:
        """The runs that the event of that id, one that `send` returned, has started so far."""
        from onward.client import blocking, listing_handles

        return blocking("runs_of", listing_handles(self, event_id))

    async def runs_of_async(self, event_id: str) -> list[Run]:
        """As `runs_of`."""
        from onward.client import listing_handles
        from onward.transport.http import perform_async

        return await perform_async(listing_handles(self, event_id))

    def cancel_runs(
        self,
        function: str,
        *,
        started_before: datetime | None = None,
        started_after: datetime | None = None,
        if_: str | None = None,
    ) -> str:
        """Cancel all runs of `function`, given by its id, that started in a time; returns an id.

        Args:
            function: The id of one of this app's functions.
            started_before: An aware datetime, not in the future. Default: now.
            started_after: An aware datetime. Default: the beginning.
            if_: A CEL expression over `event`, such as `"event.data.tenant == 'acme'"`.
        """
        from onward.client import blocking, bulk_cancelling

        plan = bulk_cancelling(self, function, started_before, started_after, if_)
        return blocking("cancel_runs", plan)

    async def cancel_runs_async(
        self,
        function: str,
        *,
        started_before: datetime | None = None,
        started_after: datetime | None = None,
        if_: str | None = None,
    ) -> str:
        """As `cancel_runs`."""
        from onward.client import bulk_cancelling
        from onward.transport.http import perform_async

        plan = bulk_cancelling(self, function, started_before, started_after, if_)
        return await perform_async(plan)


def _middleware(value: object, where: str) -> tuple[Middleware, ...]:
    if value in ((), []):
        return ()
    from onward.middleware.base import check_middleware

    return check_middleware(value, where)


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
