"""What user code sees of a run: `ctx`, and what a run receives. Its steps: `onward.steps`.

Functions are annotated with these classes, so that importing them costs little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logging import Logger, LoggerAdapter

    from onward.core.deadline import Deadline
    from onward.execution.steps import StepMaker
    from onward.failure import Failure
    from onward.steps import BlockingSteps, Steps


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


@dataclass(frozen=True, slots=True)
class InboundSignal:
    """A signal as a waiting function receives it: its name, and the data that it was sent with."""

    signal: str
    data: Any = None


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
    def extras(self) -> Mapping[str, Any]:
        """What middleware adds for the function; its `logger` is `ctx.logger`."""
        hooks = self._driver.hooks
        return {} if hooks is None else hooks.extras

    @property
    def failure(self) -> Failure:
        """In an `on_failure` handler: what the run failed with, and the event that started it.

        Raises StepUsageError in other functions.
        """
        failure: Failure = self._driver.failure(self.event)
        return failure

    @property
    def logger(self) -> LoggerAdapter[Logger]:
        """A logger that knows the run and is silent while results are replayed."""
        if self._logger is None:
            self._logger = self.extras.get("logger")
        if self._logger is None:
            from onward.logs import run_logger

            self._logger = run_logger(self.run_id, self._driver.function_id, self._driver)
        return self._logger


class Context(_Context):
    """The run, for an async function; its steps are awaited."""

    step: Steps

    def __init__(self, driver: Any, make: StepMaker, *, call: Any, deadline: Deadline) -> None:
        from onward.steps import Steps

        super().__init__(driver, call=call, deadline=deadline)
        self.step = Steps(driver, make)


class BlockingContext(_Context):
    """The run, for a blocking function; its steps block."""

    step: BlockingSteps

    def __init__(self, driver: Any, make: StepMaker, *, call: Any, deadline: Deadline) -> None:
        from onward.steps import BlockingSteps

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
