"""What user code sees of a run: `ctx`, and the steps under `ctx.step`.

Functions are annotated with these classes, so that importing them costs little.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from datetime import datetime
    from logging import Logger, LoggerAdapter

    from onward.config import Duration
    from onward.core.deadline import Deadline
    from onward.execution.steps import StepMaker

_T = TypeVar("_T")


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
        events: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ) -> list[str]:
        """Send one event or several, once. Returns their ids.

        Each gets the step's idempotency key as its id unless it has one: a retry sends no twins.
        """
        sent = await self._driver.step(self._make.send_event(id, events))
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
        events: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ) -> list[str]:
        """Send one event or several, once. Returns their ids."""
        return list(self._driver.step(self._make.send_event(id, events))["ids"])

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

    def __init__(self, driver: Any, make: StepMaker, *, call: Any, deadline: Deadline) -> None:
        super().__init__(driver, call=call, deadline=deadline)
        self.step = Steps(driver, make)


class BlockingContext(_Context):
    """The run, for a blocking function; its steps block."""

    step: BlockingSteps

    def __init__(self, driver: Any, make: StepMaker, *, call: Any, deadline: Deadline) -> None:
        super().__init__(driver, call=call, deadline=deadline)
        self.step = BlockingSteps(driver, make)


class TimeLeft:
    """The deadline of this invocation."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def remaining(self) -> float:
        """Seconds until bodies are cut and the invocation answers; `inf` without a deadline."""
        import time

        return max(0.0, self._deadline.ends_at - time.monotonic())

    def __repr__(self) -> str:
        return f"<{self.remaining():.3f} s left>"
