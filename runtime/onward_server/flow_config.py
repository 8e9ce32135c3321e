"""Flow control as functions register it: checked, and ready to be decided by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from onward.core.durations import parse_duration
from onward.core.expressions import Expression, evaluable_expression
from onward.errors import ConfigurationError

_DAY_S = 86_400.0
_WEEK_S = 7 * _DAY_S
_SCOPES = ("fn", "env", "account")
_MODES = {"skip": "skip", "cancel": "cancel", 0: "skip", 1: "cancel"}
_MOST_CONCURRENCY = 2
#: The largest number of anything: those beyond are mistakes.
_MOST = 10**9
_DEFAULT_BATCH = 100
_DEFAULT_BATCH_TIMEOUT_S = 60.0
_LONGEST_BATCH_S = 600.0


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `limit` calls at once; `key` and `scope` say among which."""

    limit: int
    key: Expression | None = None
    scope: str = "fn"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` starts in `period_s` seconds; `burst` more may come at once."""

    limit: int
    period_s: float
    burst: int = 0
    key: Expression | None = None


@dataclass(frozen=True, slots=True)
class Debounce:
    """A run `period_s` after the last of several events, at most `timeout_s` after the first."""

    period_s: float
    timeout_s: float | None = None
    key: Expression | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One run for up to `max_size` events that come within `timeout_s`."""

    max_size: int
    timeout_s: float
    key: Expression | None = None
    condition: Expression | None = None


@dataclass(frozen=True, slots=True)
class Singleton:
    """One run at a time. `mode` is `skip` (no new one starts) or `cancel` (the old one ends)."""

    mode: str
    key: Expression | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """A run that has not begun after `start_s`, or not ended after `finish_s`, is cancelled."""

    start_s: float | None = None
    finish_s: float | None = None


@dataclass(frozen=True, slots=True)
class FlowControl:
    """Everything about when a function's runs start. `idempotency` is a rate of one a day."""

    concurrency: tuple[Concurrency, ...] = ()
    throttle: Rate | None = None
    rate_limit: Rate | None = None
    idempotency: Rate | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    priority: Expression | None = None
    singleton: Singleton | None = None
    timeouts: Timeouts = Timeouts()

    @property
    def remembers(self) -> bool:
        """Whether what one event does depends on those before it."""
        limits = (self.throttle, self.rate_limit, self.idempotency, self.debounce, self.batch)
        return self.singleton is not None or any(limit is not None for limit in limits)

    def unenforced(self) -> list[str]:
        """The fields that are registered and have no effect here."""
        return ["priority"] if self.priority is not None else []


class _Reader:
    """Reads one field of a registration; every refusal names the function and the field."""

    def __init__(self, where: str, field: str, value: object) -> None:
        self.where = f"{where}: its {field}"
        if not isinstance(value, Mapping):
            raise ConfigurationError(
                f"The registration of {self.where} must be an object, not {value!r}."
            )
        self.value = value

    def refuse(self, name: str, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"The registration of {self.where}.{name} is refused: {what}, not"
            f" {self.value.get(name)!r}."
        )

    def whole(self, name: str, low: int, default: int | None = None) -> int:
        value = self.value.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= _MOST:
            raise self.refuse(name, f"it must be a whole number from {low} to {_MOST}")
        return value

    def expression(self, name: str) -> Expression | None:
        text = self.value.get(name)
        if text is None or text == "":
            return None
        if not isinstance(text, str):
            raise self.refuse(name, "it must be an expression")
        try:
            return evaluable_expression(text)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"The registration of {self.where}.{name} is refused: {error.message}"
            ) from None

    def seconds(self, name: str, most: float, default: float | None = None) -> float | None:
        value = self.value.get(name)
        if value is None or value == "":
            return default
        try:
            seconds = parse_duration(value, what=name)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"The registration of {self.where}.{name} is refused: {error.message}"
            ) from None
        if not 0 < seconds <= most:
            raise self.refuse(name, f"it must be more than 0 and at most {most:g} s")
        return seconds

    def needed_seconds(self, name: str, most: float) -> float:
        seconds = self.seconds(name, most)
        if seconds is None:
            raise self.refuse(name, "it must be a duration such as '10s'")
        return seconds


def _concurrency(value: object, where: str) -> tuple[Concurrency, ...]:
    if isinstance(value, Mapping) and ("step" in value or "fn" in value):
        entries = [*(value.get("step") or []), *(value.get("fn") or [])]
    else:
        entries = value if isinstance(value, list) else [value]
    if len(entries) > _MOST_CONCURRENCY:
        raise ConfigurationError(
            f"The registration of {where}: its concurrency is refused: it has {len(entries)}"
            f" limits, and at most {_MOST_CONCURRENCY} are taken."
        )
    parsed = []
    for entry in entries:
        if isinstance(entry, int) and not isinstance(entry, bool):
            entry = {"limit": entry}  # noqa: PLW2901 - the short form
        reader = _Reader(where, "concurrency", entry)
        scope = reader.value.get("scope") or "fn"
        if scope not in _SCOPES:
            raise reader.refuse("scope", "it must be fn, env or account")
        limit = reader.whole("limit", 0)
        if limit:  # 0 is no limit of its own (recorded server)
            parsed.append(Concurrency(limit, reader.expression("key"), scope))
    return tuple(parsed)


def _throttle(value: object, where: str) -> Rate:
    reader = _Reader(where, "throttle", value)
    period = reader.needed_seconds("period", _WEEK_S)
    return Rate(
        reader.whole("limit", 1), period, reader.whole("burst", 0, 0), reader.expression("key")
    )


def _rate_limit(value: object, where: str) -> Rate:
    reader = _Reader(where, "rateLimit", value)
    limit = reader.whole("limit", 1)
    return Rate(
        limit, reader.needed_seconds("period", _DAY_S), limit // 10, reader.expression("key")
    )


def _idempotency(value: object, where: str) -> Rate:
    reader = _Reader(where, "idempotency", {"expression": value})
    return Rate(1, _DAY_S, 0, reader.expression("expression"))


def _debounce(value: object, where: str) -> Debounce:
    reader = _Reader(where, "debounce", value)
    return Debounce(
        reader.needed_seconds("period", _WEEK_S),
        reader.seconds("timeout", 10 * _WEEK_S),
        reader.expression("key"),
    )


def _batch(value: object, where: str) -> Batch:
    reader = _Reader(where, "batchEvents", value)
    timeout = reader.seconds("timeout", _LONGEST_BATCH_S, _DEFAULT_BATCH_TIMEOUT_S)
    return Batch(
        reader.whole("maxSize", 1, _DEFAULT_BATCH),
        timeout or _DEFAULT_BATCH_TIMEOUT_S,
        reader.expression("key"),
        reader.expression("if"),
    )


def _priority(value: object, where: str) -> Expression | None:
    return _Reader(where, "priority", value).expression("run")


def _singleton(value: object, where: str) -> Singleton:
    reader = _Reader(where, "singleton", value)
    given = reader.value.get("mode", "skip")
    mode = _MODES.get(given) if isinstance(given, str | int) else None
    if mode is None:
        raise reader.refuse("mode", "it must be skip or cancel")
    return Singleton(mode, reader.expression("key"))


def _timeouts(value: object, where: str) -> Timeouts:
    reader = _Reader(where, "timeouts", value)
    return Timeouts(reader.seconds("start", 10**9), reader.seconds("finish", 10**9))


_FIELDS: dict[str, tuple[str, Callable[[object, str], Any]]] = {
    "concurrency": ("concurrency", _concurrency),
    "throttle": ("throttle", _throttle),
    "rate_limit": ("rateLimit", _rate_limit),
    "idempotency": ("idempotency", _idempotency),
    "debounce": ("debounce", _debounce),
    "batch": ("batchEvents", _batch),
    "priority": ("priority", _priority),
    "singleton": ("singleton", _singleton),
    "timeouts": ("timeouts", _timeouts),
}


def parse_flow(entry: Mapping[str, Any], where: str) -> FlowControl:
    """The flow control of the registered function `entry`, called `where` in errors.

    Raises ConfigurationError naming the function, the field, and what is wrong with it.
    """
    read = {}
    for field in fields(FlowControl):
        name, parse = _FIELDS[field.name]
        value = entry.get(name)
        if value is not None:
            read[field.name] = parse(value, where)
    return FlowControl(**read)
