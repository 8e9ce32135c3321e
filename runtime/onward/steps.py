"""The steps under `ctx.step`: every way in which a run does or awaits something once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

if TYPE_CHECKING:
    from datetime import datetime

    from onward.config import Duration
    from onward.context import BlockingContext, Context, InboundEvent, InboundSignal
    from onward.execution.steps import StepMaker
    from onward.outbound import Events
    from onward.triggers import Event

    class StepOptions(TypedDict, total=False):
        """The options of each step of a `map`, as those of `run`."""

        timeout: Duration | None
        expected: Duration | None
        barrier: bool
        retry_in_place: int

    AsyncHandler: TypeAlias = Callable[[Context], Awaitable["_T"]]
    BlockingHandler: TypeAlias = Callable[[BlockingContext], "_T"]

_T = TypeVar("_T")
_I = TypeVar("_I")


class _Steps:
    """What the steps of both kinds of functions have in common."""

    def __init__(self, driver: Any, make: StepMaker) -> None:
        self._driver = driver
        self._make = make

    @property
    def idempotency_key(self) -> str:
        """A key for the outside world, the same each time that this step is tried.

        Raises StepUsageError outside of a step's body.
        """
        return self._make.current_idempotency_key()


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
        return await self._driver.step(self._make.run(id, body, args, kwargs, options))

    async def sleep(self, id: str, duration: Duration) -> None:  # noqa: A002
        """Suspend until `duration` has passed since this call. Raises DurationError."""
        await self._driver.step(self._make.sleep(id, duration))

    async def sleep_until(self, id: str, until: datetime | str) -> None:  # noqa: A002
        """Suspend until `until`: an aware datetime, or RFC 3339 text."""
        await self._driver.step(self._make.sleep_until(id, until))

    async def send_event(
        self,
        id: str,  # noqa: A002
        events: Events,
    ) -> list[str]:
        """Send one event or several, once. Returns their ids.

        They are what `App.send` takes. Tries of the step send them with the same seeds, from which
        the orchestrator makes their ids: a retry sends no twins.
        """
        return _ids(await self._driver.step(self._make.send_event(id, events)))

    @overload
    async def map(
        self,
        id: str,
        items: Iterable[_I],
        body: Callable[[_I], Awaitable[_T]],
        *,
        concurrency: int = 10,
        **options: Unpack[StepOptions],
    ) -> list[_T]: ...
    @overload
    async def map(
        self,
        id: str,
        items: Iterable[_I],
        body: Callable[[_I], _T],
        *,
        concurrency: int = 10,
        **options: Unpack[StepOptions],
    ) -> list[_T]: ...
    async def map(
        self,
        id: str,  # noqa: A002
        items: Iterable[_I],
        body: Callable[[_I], Any],
        *,
        concurrency: int = 10,
        **options: Unpack[StepOptions],
    ) -> list[Any]:
        """Run `body(item)` for each of `items`, each as a step of its own; their results in order.

        Args:
            id: The steps are called `id[0]`, `id[1]` and so on, by the items' places.
            items: As many as there are, in an order that is the same in every replay.
            body: An async or a blocking callable that takes one item.
            concurrency: How many of the steps are open at a time, at least 1.
            **options: `timeout`, `expected`, `barrier` and `retry_in_place` of each step, as in
                `run`.

        All steps end, whatever becomes of one; then the error of the first item that failed is
        raised. Raises what `run` raises, and StepUsageError for a bad `concurrency`.
        """
        plan = self._make.map(id, items, body, concurrency, options)
        return list(await self._driver.map(plan))

    async def wait_for_event(
        self,
        id: str,  # noqa: A002
        *,
        event: str | Event,
        timeout: Duration,  # noqa: ASYNC109 - the orchestrator's, days if need be
        if_: str | None = None,
        type: Any = None,  # noqa: A002
    ) -> InboundEvent | None:
        """Suspend until an event named `event` comes in, or until `timeout` has passed.

        Args:
            id: As in `run`.
            event: The event's name, or an `onward.Event` without a condition.
            timeout: A duration, counted from when the orchestrator learns of the wait.
            if_: A CEL expression over `async` (the awaited event) and `event` (the one that started
                the run), such as `"async.data.id == event.data.id"`. None: any such event.
            type: What the event's data are rebuilt as: any type that a return annotation may have.
                Default: the event's schema, if it has one, else plain JSON.

        Returns the event, or None after the timeout. An event that came before the orchestrator
        learned of the wait is not seen. Raises DurationError, ExpressionError, StepUsageError, and
        ResultError when the data are not of the type.
        """
        return await self._driver.step(  # type: ignore[no-any-return]
            self._make.wait_for_event(id, event, timeout, if_, type)
        )

    async def wait_for_signal(
        self,
        id: str,  # noqa: A002
        *,
        signal: str,
        timeout: Duration,  # noqa: ASYNC109 - the orchestrator's, days if need be
        on_conflict: Literal["fail", "replace"] = "fail",
        type: Any = None,  # noqa: A002
    ) -> InboundSignal | None:
        """Suspend until the signal `signal` is sent, or until `timeout` has passed.

        Args:
            id: As in `run`.
            signal: The signal's name; one run at a time may wait for it.
            timeout: As in `wait_for_event`.
            on_conflict: What happens when another run waits for the signal already: `"fail"` fails
                this run, `"replace"` takes the wait over and leaves the other to its timeout.
            type: What the signal's data are rebuilt as. Default: plain JSON.

        Returns the signal with its data, or None after the timeout. Raises DurationError,
        StepUsageError, and ResultError when the data are not of the type.
        """
        return await self._driver.step(  # type: ignore[no-any-return]
            self._make.wait_for_signal(id, signal, timeout, on_conflict, type)
        )

    @overload
    async def invoke(
        self,
        id: str,
        function: AsyncHandler[_T] | BlockingHandler[_T],
        *,
        data: Any = None,
        timeout: Duration | None = None,  # noqa: ASYNC109
        type: None = None,
    ) -> _T: ...
    @overload
    async def invoke(
        self,
        id: str,
        function: str | Callable[..., Any],
        *,
        data: Any = None,
        timeout: Duration | None = None,  # noqa: ASYNC109
        type: type[_T],
    ) -> _T: ...
    @overload
    async def invoke(
        self,
        id: str,
        function: str | Callable[..., Any],
        *,
        data: Any = None,
        timeout: Duration | None = None,  # noqa: ASYNC109
        type: Any = None,
    ) -> Any: ...
    async def invoke(
        self,
        id: str,  # noqa: A002
        function: Any,
        *,
        data: Any = None,
        timeout: Duration | None = None,  # noqa: ASYNC109 - the orchestrator's
        type: Any = None,  # noqa: A002
    ) -> Any:
        """Run another function as a step, and wait for its result.

        Args:
            id: As in `run`.
            function: A handler of this app, the id of a function of this app, or a function of
                another app by its composite id `app-function`.
            data: Its event's data: a mapping, a pydantic model, or a dataclass.
            timeout: A duration after which it is no longer waited for; it goes on by itself. None:
                as long as the orchestrator lets it, a year on an Inngest server.
            type: What its result is rebuilt as. Default: the handler's return annotation where this
                app has it, else plain JSON.

        Raises StepError when it failed, with its error's `name`; when the timeout passed, named
        `InngestInvokeTimeoutError`; and when the orchestrator has no such function, named
        `UnknownFunctionError`. The step is not tried again: the function's own retries come before.
        Raises StepUsageError for what is no function, and ResultError for data that are not JSON or
        a result of another type.
        """
        return await self._driver.step(self._make.invoke(id, function, data, timeout, type))


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
        return self._driver.step(self._make.run(id, body, args, kwargs, options))

    def sleep(self, id: str, duration: Duration) -> None:  # noqa: A002
        """Suspend until `duration` has passed since this call. Raises DurationError."""
        self._driver.step(self._make.sleep(id, duration))

    def sleep_until(self, id: str, until: datetime | str) -> None:  # noqa: A002
        """Suspend until `until`: an aware datetime, or RFC 3339 text."""
        self._driver.step(self._make.sleep_until(id, until))

    def send_event(
        self,
        id: str,  # noqa: A002
        events: Events,
    ) -> list[str]:
        """Send one event or several, once. Returns their ids."""
        return _ids(self._driver.step(self._make.send_event(id, events)))

    def gather(self, *branches: Callable[[], _T]) -> list[_T]:
        """Run `branches` concurrently and return their results in order.

        Each branch is a callable without arguments that may use steps; one branch's own code runs
        at a time, their bodies run in parallel. All end before the first error is raised.
        """
        return list(self._driver.gather(branches))

    @overload
    def map(
        self,
        id: str,
        items: Iterable[_I],
        body: Callable[[_I], Awaitable[_T]],
        *,
        concurrency: int = 10,
        **options: Unpack[StepOptions],
    ) -> list[_T]: ...
    @overload
    def map(
        self,
        id: str,
        items: Iterable[_I],
        body: Callable[[_I], _T],
        *,
        concurrency: int = 10,
        **options: Unpack[StepOptions],
    ) -> list[_T]: ...
    def map(
        self,
        id: str,  # noqa: A002
        items: Iterable[_I],
        body: Callable[[_I], Any],
        *,
        concurrency: int = 10,
        **options: Unpack[StepOptions],
    ) -> list[Any]:
        """Run `body(item)` for each of `items` as a step of its own, as `Steps.map` does."""
        plan = self._make.map(id, items, body, concurrency, options)
        return list(self._driver.map(plan))

    def wait_for_event(
        self,
        id: str,  # noqa: A002
        *,
        event: str | Event,
        timeout: Duration,
        if_: str | None = None,
        type: Any = None,  # noqa: A002
    ) -> InboundEvent | None:
        """Suspend until an event comes in, as `Steps.wait_for_event` does."""
        return self._driver.step(  # type: ignore[no-any-return]
            self._make.wait_for_event(id, event, timeout, if_, type)
        )

    def wait_for_signal(
        self,
        id: str,  # noqa: A002
        *,
        signal: str,
        timeout: Duration,
        on_conflict: Literal["fail", "replace"] = "fail",
        type: Any = None,  # noqa: A002
    ) -> InboundSignal | None:
        """Suspend until a signal is sent, as `Steps.wait_for_signal` does."""
        return self._driver.step(  # type: ignore[no-any-return]
            self._make.wait_for_signal(id, signal, timeout, on_conflict, type)
        )

    @overload
    def invoke(
        self,
        id: str,
        function: AsyncHandler[_T] | BlockingHandler[_T],
        *,
        data: Any = None,
        timeout: Duration | None = None,
        type: None = None,
    ) -> _T: ...
    @overload
    def invoke(
        self,
        id: str,
        function: str | Callable[..., Any],
        *,
        data: Any = None,
        timeout: Duration | None = None,
        type: type[_T],
    ) -> _T: ...
    @overload
    def invoke(
        self,
        id: str,
        function: str | Callable[..., Any],
        *,
        data: Any = None,
        timeout: Duration | None = None,
        type: Any = None,
    ) -> Any: ...
    def invoke(
        self,
        id: str,  # noqa: A002
        function: Any,
        *,
        data: Any = None,
        timeout: Duration | None = None,
        type: Any = None,  # noqa: A002
    ) -> Any:
        """Run another function and wait for its result, as `Steps.invoke` does."""
        return self._driver.step(self._make.invoke(id, function, data, timeout, type))


def _ids(sent: Any) -> list[str]:
    """The ids in the result of `send_event`; a run that began on the Python SDK has a bare list."""
    return list(sent["ids"] if isinstance(sent, dict) else sent)
