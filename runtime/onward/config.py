"""When finished steps are checkpointed: `Checkpointing` and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from onward.core.durations import parse_duration
from onward.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import timedelta

    Duration: TypeAlias = str | float | timedelta

Mode: TypeAlias = Literal["confirmed", "pipelined"]

_MODES = ("confirmed", "pipelined")


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """When finished steps are handed to the orchestrator while the function keeps running.

    Two values are equal when they mean the same, however their durations are written.

    Args:
        max_runtime: How long one invocation may run before it checkpoints and is called again.
            Default `"auto"`: as long as the platform lets it, and without limit on a plain server.
            A duration (`"14m30s"`, seconds, `timedelta`) sets a limit of your own, which only ever
            shortens the platform's; `"0"` lifts your own limit and never the platform's. Safety:
            none of your results depends on it. Latency: each continuation costs one call.
        buffered_steps: How many finished steps are handed over together, at least 1. Default 1:
            a step's result is confirmed before the next step starts. Safety: when an invocation is
            killed, up to this many finished steps run again. Latency: one round trip each
            `buffered_steps` steps.
        max_interval: The longest that a finished step waits for its checkpoint, even while the
            next body runs. Default 0: no timer, the buffer goes when it is full. Safety: bounds
            in time what a kill repeats. Latency: none for your function.
        mode: Default `"confirmed"`: the function waits for each checkpoint. `"pipelined"`: the
            next steps run while one checkpoint is in flight. Safety: a kill repeats the batch in
            flight and the one after it. Latency: round trips disappear behind the bodies.

    Raises:
        DurationError: `max_runtime` or `max_interval` is not a duration, or negative.
        ConfigurationError: `buffered_steps` or `mode` is not one of the values above.
    """

    max_runtime: Duration = field(default="auto", compare=False)
    buffered_steps: int = 1
    max_interval: Duration = field(default=0, compare=False)
    mode: Mode = "confirmed"
    _max_runtime_s: float | None = field(init=False, repr=False)
    _max_interval_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_steps(self.buffered_steps, "buffered_steps")
        _check_mode(self.mode, "mode")
        runtime = _runtime_seconds(self.max_runtime, "max_runtime")
        interval = parse_duration(self.max_interval, what="max_interval")
        object.__setattr__(self, "_max_runtime_s", runtime)
        object.__setattr__(self, "_max_interval_s", interval)

    @property
    def max_runtime_s(self) -> float | None:
        """`max_runtime` in seconds; None when it sets no limit of its own (`"auto"`, `"0"`)."""
        return self._max_runtime_s

    @property
    def max_interval_s(self) -> float:
        """`max_interval` in seconds; 0 when there is no timer."""
        return self._max_interval_s

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Checkpointing:
        """The configuration in environment variables; a missing or empty one means the default.

        Args:
            environ: Such as `os.environ`. Read are `ONWARD_MAX_RUNTIME` (`"auto"`, `"0"` or a
                duration), `ONWARD_BUFFERED_STEPS` (a whole number), `ONWARD_MAX_INTERVAL` (a
                duration) and `ONWARD_MODE` (`confirmed` or `pipelined`).

        Raises:
            DurationError: A duration does not parse, or is negative.
            ConfigurationError: One of the others has no valid value. Either error names the
                variable, its value and the fix.
        """
        runtime: Duration = _variable(environ, "ONWARD_MAX_RUNTIME", "auto")
        _runtime_seconds(runtime, "ONWARD_MAX_RUNTIME")
        interval: Duration = _variable(environ, "ONWARD_MAX_INTERVAL", "0")
        parse_duration(interval, what="ONWARD_MAX_INTERVAL")
        count = _variable(environ, "ONWARD_BUFFERED_STEPS", "1")
        steps: object = int(count) if _is_whole(count) else count
        _check_steps(steps, "ONWARD_BUFFERED_STEPS")
        mode = _variable(environ, "ONWARD_MODE", "confirmed")
        _check_mode(mode, "ONWARD_MODE")
        return cls(runtime, cast("int", steps), interval, cast("Mode", mode))


def resolve_checkpointing(
    app_value: object, function_value: object = None, where: str = "function"
) -> Checkpointing | None:
    """What a function's checkpointing is, given what its app and the function itself say.

    Args:
        app_value: `True`, `False` or a `Checkpointing`; None means `True`.
        function_value: The same; None leaves it to the app.
        where: Which function, for messages.

    Returns:
        The configuration, or None for the classic protocol of one call for each step.

    Raises:
        ConfigurationError: A value is anything else.
    """
    of_app = True if app_value is None else app_value
    for owner, value in ((where, function_value), ("app", of_app)):
        if value is None:
            continue
        if isinstance(value, Checkpointing):
            return value
        if value is True:
            return SAFE
        if value is False:
            return None
        raise ConfigurationError(
            f"checkpointing={value!r} on the {owner} is not valid. Write True, False, or "
            "Checkpointing(max_runtime=…, buffered_steps=…, max_interval=…, mode=…)."
        )
    raise AssertionError  # the app's value is never None here


def _runtime_seconds(value: object, what: str) -> float | None:
    if value == "auto":
        return None
    if value is None:
        raise ConfigurationError(f"{what} is None. Write 'auto', '0', or a duration like '5m'.")
    return parse_duration(value, what=what) or None


def _check_steps(value: object, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(
            f"{what} is {value!r}. Write a whole number from 1: how many finished steps are "
            "checkpointed together (1: each step is confirmed before the next starts)."
        )


def _check_mode(value: object, what: str) -> None:
    if value not in _MODES:
        raise ConfigurationError(f"{what} is {value!r}. Write 'confirmed' or 'pipelined'.")


def _variable(environ: Mapping[str, str], name: str, default: str) -> str:
    return environ.get(name, "").strip() or default


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii()


#: Each step is confirmed before the next starts: the default.
SAFE = Checkpointing()

#: A checkpoint every 3 steps or 3 seconds: a third of the round trips, 3 steps at risk.
BLENDED = Checkpointing(buffered_steps=3, max_interval="3s")

#: A checkpoint only at the end, at a suspend, or every 1,000 steps. A kill repeats all steps since.
#: An Inngest server allows a run 1,000 steps by default, so a run usually has one checkpoint.
PERFORMANT = Checkpointing(buffered_steps=1000)

#: Short invocations whose progress is visible at once.
HIGH_FREQUENCY = Checkpointing(max_runtime="1m", buffered_steps=1, max_interval="1s")

#: Minutes of work in steps of some seconds.
BALANCED = Checkpointing(max_runtime="5m", buffered_steps=3, max_interval="10s")

#: Long batch work in many small steps, each of which may safely run again.
HIGH_THROUGHPUT = Checkpointing(max_runtime="10m", buffered_steps=10, max_interval="30s")
