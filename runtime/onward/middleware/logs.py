"""Logging that says nothing twice: silent while results are replayed, and knows the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from onward.errors import ConfigurationError
from onward.middleware.base import Call, Input, Middleware, Step

_call: ContextVar[Call | None] = ContextVar("onward_logged_call", default=None)
_step: ContextVar[Step | None] = ContextVar("onward_logged_step", default=None)

_METHODS = frozenset(
    "trace debug info success warn warning error exception critical fatal log msg".split()  # noqa: SIM905
)

#: Those that are awaited, as structlog has them: `ainfo`.
_AWAITED = frozenset(f"a{name}" for name in _METHODS)


class LoggingMiddleware(Middleware):
    """Makes `logger` the function's `ctx.logger`, with the run's ids and silent during replay.

    It may be a `logging.Logger` or `LoggerAdapter`, whose records get `run_id`, `function_id`,
    `attempt` and `step_id` (`""` outside of steps), or a logger with `bind`, such as structlog's
    and loguru's, to which these are bound. With it, `RunFilter` does the same for other loggers.

    Raises ConfigurationError.
    """

    def __init__(self, logger: Any = None) -> None:
        known = logger is None or isinstance(logger, (logging.Logger, logging.LoggerAdapter))
        if not known and not callable(getattr(logger, "info", None)):
            raise ConfigurationError(
                f"The logger of the LoggingMiddleware is {logger!r}, which has no info(). Give a"
                " logging.Logger, or a logger with its methods."
            )
        self._logger = logger

    def transform_input(self, call: Call, given: Input) -> Input:
        """Give the function its logger."""
        _call.set(call)
        _step.set(None)
        if self._logger is None:
            return given
        if isinstance(self._logger, (logging.Logger, logging.LoggerAdapter)):
            return given.with_extras(logger=_StandardLogger(self._logger, call))
        return given.with_extras(logger=_AnyLogger(self._logger, call))

    def before_step(self, call: Call, step: Step) -> None:  # noqa: ARG002
        """What the body logs knows its step."""
        _step.set(step)


class RunFilter(logging.Filter):
    """For a handler: `handler.addFilter(RunFilter())`. It needs a `LoggingMiddleware`.

    Drops what functions log while results are replayed, whatever logger they use, and adds
    `run_id`, `function_id`, `attempt` and `step_id` to every record (`""` where there is none).
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is new."""
        call = _call.get()
        for name, value in _ids(call).items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return call is None or not _replayed(call)


def _replayed(call: Call) -> bool:
    return _step.get() is None and call.replaying


def _ids(call: Call | None) -> dict[str, Any]:
    if call is None:
        return {"run_id": "", "function_id": "", "attempt": "", "step_id": ""}
    ids: dict[str, Any] = {"run_id": call.run_id, "function_id": call.function_id}
    step = _step.get()
    return {**ids, "attempt": call.attempt, "step_id": step.id if step is not None else ""}


class _StandardLogger(logging.LoggerAdapter[Any]):
    """A logger of the standard library's."""

    def __init__(self, logger: Any, call: Call) -> None:
        super().__init__(logger, None)
        self._call = call

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the standard library's name
        return not _replayed(self._call) and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**_ids(self._call), **(kwargs.get("extra") or {})}
        return msg, kwargs


class _AnyLogger:
    """A logger of another library's; what is bound to it later stays silent during replay too."""

    def __init__(self, logger: Any, call: Call) -> None:
        self._logger = logger
        self._call = call

    def __getattr__(self, name: str) -> Any:
        if name in _METHODS or name in _AWAITED:
            return self._method(name)
        value = getattr(self._logger, name)
        if name not in {"bind", "new", "unbind", "opt"}:
            return value
        return lambda *args, **kwargs: _AnyLogger(value(*args, **kwargs), self._call)

    def _method(self, name: str) -> Callable[..., Any]:
        if _replayed(self._call):
            return _say_nothing_soon if name in _AWAITED else _say_nothing
        logger = self._logger
        if hasattr(logger, "bind"):
            logger = logger.bind(**_ids(self._call))
        method: Callable[..., Any] = getattr(logger, name)
        return method


def _say_nothing(*_args: Any, **_kwargs: Any) -> None:
    """What a logger's method does during replay."""


async def _say_nothing_soon(*_args: Any, **_kwargs: Any) -> None:
    """The same, awaited."""
