"""An app: the functions that are served under one id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from onward.config import Checkpointing, resolve_checkpointing
from onward.errors import ConfigurationError, UnknownFunctionError
from onward.functions import (
    DEFAULT_RETRIES,
    MOST_RETRIES,
    Function,
    add,
    check_id,
    declare,
    is_async,
)
from onward.triggers import CancelOn, Cron, Event

if TYPE_CHECKING:
    from datetime import datetime

    from onward.config import Duration
    from onward.flow import (
        BatchEvents,
        Concurrency,
        Debounce,
        Priority,
        RateLimit,
        Singleton,
        Throttle,
        Timeouts,
    )
    from onward.middleware.base import Middleware
    from onward.middleware.chain import Chain
    from onward.outbound import Events
    from onward.runs import Run
    from onward.schemas import Declared
    from onward.settings import Settings
    from onward.transport.channel import Channel, Keys

__all__ = ["DEFAULT_RETRIES", "MOST_RETRIES", "App", "BodyEvent", "Function", "is_async"]

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class BodyEvent:
    """A body began or returned: `phase` is `"start"` or `"end"`; `step_id` is the user's id."""

    run_id: str
    step_id: str
    index: int
    attempt: int
    phase: str


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
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _chains: dict[tuple[object, ...], Chain] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_id(self.id, "an app's id")
        resolve_checkpointing(self.checkpointing)
        self.middleware = _middleware(self.middleware, f"middleware of app {self.id!r}")
        if self.deadline_margin is not None:
            from onward.core.durations import parse_duration

            parse_duration(self.deadline_margin, what="deadline_margin")
        if self.schemas is not None and not isinstance(self.schemas, Mapping):
            raise ConfigurationError(
                f"The schemas of app {self.id!r} are {self.schemas!r}. Write a mapping of events'"
                " names to models: schemas={'order/paid': OrderPaid}."
            )
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
        parallel: Literal["eager", "orchestrated"] = "eager",
        name: str | None = None,
        concurrency: int | Concurrency | Sequence[Concurrency] | None = None,
        throttle: Throttle | None = None,
        rate_limit: RateLimit | None = None,
        debounce: Debounce | None = None,
        batch_events: BatchEvents | None = None,
        priority: Priority | None = None,
        singleton: Singleton | None = None,
        idempotency: str | None = None,
        timeouts: Timeouts | None = None,
        on_failure: Callable[[Any], Any] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> Callable[[_F], _F]:
        """Register a function: `async def f(ctx: Context)` or `def f(ctx: BlockingContext)`.

        Args:
            id: Unique in the app. Runs are tied to it.
            trigger: What starts it: one or several, at most 10.
            retries: How often a failed call is tried again, 0 to 20.
            checkpointing: Instead of the app's.
            cancel_on: Events that cancel a run, at most 5.
            parallel: `"eager"` runs concurrent steps in this process, `"orchestrated"` plans each
                as a call of its own, with its own attempts.
            name: For people; by default the id.
            concurrency: How many of its steps run at the same time: one limit or two.
            throttle: How many runs start in a time; those over it wait.
            rate_limit: How many runs start in a time; events over it start none.
            debounce: A run starts only when no further event came for a while.
            batch_events: One run for several events, `ctx.events`.
            priority: Which runs come first.
            singleton: One run at a time.
            idempotency: A CEL expression over `event`; in 24 hours, one run starts for each of its
                values.
            timeouts: When a run is cancelled because it takes too long.
            on_failure: Called when a run has failed for good, as a function of its own,
                `<id>-failure`; `ctx.failure` has the error and the event.
            middleware: Around this function, inside of the app's.

        Raises ConfigurationError, naming the function and the field.
        """
        where = f"function {id!r} of app {self.id!r}"
        make = declare(
            self.id,
            id,
            trigger,
            retries,
            resolve_checkpointing(self.checkpointing, checkpointing, where),
            parallel,
            name,
            _middleware(middleware, f"middleware of {where}"),
            {
                "cancel_on": cancel_on,
                "concurrency": concurrency,
                "throttle": throttle,
                "rate_limit": rate_limit,
                "debounce": debounce,
                "batch_events": batch_events,
                "priority": priority,
                "singleton": singleton,
                "idempotency": idempotency,
                "timeouts": timeouts,
                "on_failure": on_failure,
            },
        )

        def register(handler: _F) -> _F:
            made = make(handler)
            for event in made[0].triggers:
                if isinstance(event, Event) and event.schema is not None:
                    self._declare(event.name, event.schema, where)
            add(self, made)
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
        key = (where, *map(id, middleware))
        chain = self._chains.get(key)
        if chain is None:
            from onward.middleware.chain import Chain

            chain = self._chains[key] = Chain(middleware, self.id, where)
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
        from onward.protocol.registration import app_entry

        functions = [function.registration(url) for function in self.functions.values()]
        return app_entry(self.id, url, f"onward:v{__version__}", functions)

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

    def use_dev_server(self, url: str) -> None:
        """Have this process use the dev server at `url`, whatever the app was given.

        For what runs somebody else's app, such as `onward dev`: call it before the app is served.
        """
        self.orchestrator, self.dev = None, url
        self._settings = None
        self._made.clear()

    def keys(self) -> Keys:
        """The signing key and its fallback, for requests to the orchestrator.

        One object an app: once the orchestrator refused the key, the fallback is used for good.
        """
        keys: Keys | None = self._made.get("keys")
        if keys is None:
            from onward.transport.channel import Keys

            # Several threads may come here at once, and have to get the same one.
            keys = self._made.setdefault("keys", Keys(*self.settings.signing_keys))
        return keys

    @property
    def channel(self) -> Channel:
        """The checkpoint channel of this process."""
        channel: Channel | None = self._made.get("channel")
        if channel is None:
            from onward.transport.channel import Channel

            settings = self.settings
            channel = Channel(settings.api_url, self.keys(), headers=settings.outgoing())
            channel = self._made.setdefault("channel", channel)
        return channel

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
        from onward.client import sending_checked
        from onward.transport.http import blocking

        return blocking("send", sending_checked(self, events))

    async def send_async(self, events: Events) -> list[str]:
        """As `send`, without blocking the event loop."""
        from onward.client import sending_checked
        from onward.transport.http import perform_async

        return await perform_async(sending_checked(self, events))

    def run(self, run_id: str) -> Run:
        """The run of that id: its status and result, and to cancel it. Asks nothing yet."""
        from onward.runs import Run

        return Run(self, run_id)

    def runs_of(self, event_id: str, *, timeout: Duration | None = None) -> list[Run]:
        """The runs that the event of that id, one that `send` returned, has started so far.

        Args:
            event_id: One that `send` returned.
            timeout: A duration: how long to wait for the first run, which comes a moment after the
                event. Default: not at all.
        """
        from onward.runs import listing_handles
        from onward.transport.http import blocking

        return blocking("runs_of", listing_handles(self, event_id, timeout))

    async def runs_of_async(
        self,
        event_id: str,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 - the same as the blocking twin's
    ) -> list[Run]:
        """As `runs_of`."""
        from onward.runs import listing_handles
        from onward.transport.http import perform_async

        return await perform_async(listing_handles(self, event_id, timeout))

    def cancel_runs(
        self,
        function: str,
        *,
        started_before: datetime | None = None,
        started_after: datetime | None = None,
        if_: str | None = None,
    ) -> str:
        """Cancel all runs of `function` that started in a time; returns the cancellation's id.

        Args:
            function: The id of a function of this app, also where only another process has it.
            started_before: An aware datetime, not in the future. Default: now.
            started_after: An aware datetime. Default: the beginning.
            if_: A CEL expression over `event`, such as `"event.data.tenant == 'acme'"`.
        """
        from onward.runs import bulk_cancelling
        from onward.transport.http import blocking

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
        from onward.runs import bulk_cancelling
        from onward.transport.http import perform_async

        plan = bulk_cancelling(self, function, started_before, started_after, if_)
        return await perform_async(plan)


def _middleware(value: object, where: str) -> tuple[Middleware, ...]:
    if value in ((), []):
        return ()
    from onward.middleware.base import check_middleware

    return check_middleware(value, where)
