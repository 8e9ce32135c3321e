"""Flow control: how many runs of a function there are, when they start and which come first.

Each is enforced by the orchestrator. They are checked when the function is registered, against the
limits of Inngest servers, so that an error can name the function and the field. They are named
tuples because those cost a cold start a quarter of what dataclasses do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from onward.core.durations import parse_duration
from onward.errors import ConfigurationError
from onward.triggers import check_duration, check_if, time_string

if TYPE_CHECKING:
    from onward.config import Duration

_DAY = 86_400.0
_MOST_LIMITS = 2
_MOST_BATCHED = 100
_SCOPES = ("fn", "env", "account")
_MODES = ("skip", "cancel")


class Concurrency(NamedTuple):
    """How many steps run at the same time.

    Args:
        limit: How many, from 1.
        key: A CEL expression over `event`; each of its values has a limit of its own.
        scope: Whom the limit is shared with: `"fn"`, only this function; `"env"`, all functions of
            the environment with the same key; `"account"`, those of the account. The last two need
            a key.
    """

    limit: int
    key: str | None = None
    scope: Literal["fn", "env", "account"] = "fn"

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        _check_count(self.limit, f"The limit of {where}", 1)
        check_if(self.key, where, "key")
        _check_choice(self.scope, f"The scope of {where}", _SCOPES)
        if self.scope != "fn" and self.key is None:
            raise ConfigurationError(
                f"The key of {where} is missing: a limit with scope={self.scope!r} is shared by"
                " what has the same key. Give it one, such as key='event.data.tenant', or a text in"
                " quotes of its own: key='\"ai\"'."
            )

    def to_wire(self) -> dict[str, Any]:
        """The setting as a registration carries it."""
        wire = _present(limit=self.limit, key=self.key)
        return wire if self.scope == "fn" else {**wire, "scope": self.scope}


class Throttle(NamedTuple):
    """How many runs start in a period; those over it wait.

    Args:
        limit: How many, from 1.
        period: In which time, from 1 second.
        burst: How many more may start at once; the server's default is 1.
        key: A CEL expression over `event`; each of its values has a limit of its own.
    """

    limit: int
    period: Duration
    burst: int | None = None
    key: str | None = None

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        _check_count(self.limit, f"The limit of {where}", 1)
        check_duration(self.period, f"The period of {where}", 1.0)
        if self.burst is not None:
            _check_count(self.burst, f"The burst of {where}", 1)
        check_if(self.key, where, "key")

    def to_wire(self) -> dict[str, Any]:
        """The setting as a registration carries it."""
        period = time_string(self.period)
        return _present(limit=self.limit, period=period, burst=self.burst, key=self.key)


class RateLimit(NamedTuple):
    """How many runs start in a period; events over it start none.

    Args:
        limit: How many, from 1.
        period: In which time, from 1 second to 24 hours.
        key: A CEL expression over `event`; each of its values has a limit of its own.
    """

    limit: int
    period: Duration
    key: str | None = None

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        _check_count(self.limit, f"The limit of {where}", 1)
        check_duration(self.period, f"The period of {where}", 1.0, _DAY)
        check_if(self.key, where, "key")

    def to_wire(self) -> dict[str, Any]:
        """The setting as a registration carries it."""
        return _present(limit=self.limit, period=time_string(self.period), key=self.key)


class Debounce(NamedTuple):
    """A run starts only when no further event came for a while, with the last of them.

    Args:
        period: How long no event must have come, from 1 second to 7 days.
        key: A CEL expression over `event`; each of its values is waited for on its own.
        timeout: The longest that a run is put off, at least `period`. None: without end.
    """

    period: Duration
    key: str | None = None
    timeout: Duration | None = None

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        check_duration(self.period, f"The period of {where}", 1.0, 7 * _DAY)
        check_if(self.key, where, "key")
        if self.timeout is not None:
            period = parse_duration(self.period, what="period")
            check_duration(self.timeout, f"The timeout of {where}", period)

    def to_wire(self) -> dict[str, Any]:
        """The setting as a registration carries it."""
        timeout = None if self.timeout is None else time_string(self.timeout)
        return _present(period=time_string(self.period), key=self.key, timeout=timeout)


class BatchEvents(NamedTuple):
    """One run for several events: `ctx.events`.

    Args:
        max_size: How many events at most, 2 to 100.
        timeout: How long to wait for them, 1 to 60 seconds.
        key: A CEL expression over `event`; each of its values has batches of its own.
        if_: A CEL expression over `event`. An event for which it does not hold starts a run at
            once, on its own.
    """

    max_size: int
    timeout: Duration
    key: str | None = None
    if_: str | None = None

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        _check_count(self.max_size, f"The max_size of {where}", 2, _MOST_BATCHED)
        check_duration(self.timeout, f"The timeout of {where}", 1.0, 60.0)
        check_if(self.key, where, "key")
        check_if(self.if_, where)

    def to_wire(self) -> dict[str, Any]:
        """The setting as a registration carries it."""
        wire = _present(maxSize=self.max_size, timeout=time_string(self.timeout), key=self.key)
        return wire if self.if_ is None else {**wire, "if": self.if_}


class Priority(NamedTuple):
    """Which runs come first.

    `run` is a CEL expression over `event` that yields whole seconds: the run is queued as if it had
    been triggered so much earlier (up to 600), or later (down to -600). A number of the event needs
    a conversion: `"int(event.data.urgency)"`.
    """

    run: str

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        if self.run is None:
            raise ConfigurationError(
                f"The run of {where} is None. Write a CEL expression, such as"
                " \"event.data.plan == 'pro' ? 120 : 0\"."
            )
        check_if(self.run, where, "run")
        from onward.core.expressions import parse_expression

        if not parse_expression(self.run).may_be_whole():
            raise ConfigurationError(
                f"The run of {where} is {self.run!r}, which yields no whole number, so that Inngest"
                " servers leave it out: numbers of events are doubles. Write for instance"
                ' "int(event.data.urgency)".'
            )

    def to_wire(self) -> dict[str, Any]:
        """The setting as a registration carries it."""
        return {"run": self.run}


class Singleton(NamedTuple):
    """One run at a time.

    Args:
        mode: What happens to an event while a run goes on: `"skip"`, it starts none; `"cancel"`,
            its run replaces the one that goes on.
        key: A CEL expression over `event`; each of its values has a run of its own.
    """

    mode: Literal["skip", "cancel"] = "skip"
    key: str | None = None

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        _check_choice(self.mode, f"The mode of {where}", _MODES)
        check_if(self.key, where, "key")

    def to_wire(self) -> dict[str, Any]:
        """The setting as a registration carries it."""
        return _present(mode=self.mode, key=self.key)


class Timeouts(NamedTuple):
    """When a run is cancelled because it takes too long.

    Args:
        start: The longest from the event to the first call.
        finish: The longest from the first call to the end.
    """

    start: Duration | None = None
    finish: Duration | None = None

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        if self.start is None and self.finish is None:
            raise ConfigurationError(
                f"The {where} sets neither start nor finish. Write onward.Timeouts(finish='1h')."
            )
        if self.start is not None:
            check_duration(self.start, f"The start of {where}", 0.001)
        if self.finish is not None:
            check_duration(self.finish, f"The finish of {where}", 0.001)

    def to_wire(self) -> dict[str, Any]:
        """The setting as a registration carries it."""
        start = None if self.start is None else time_string(self.start)
        finish = None if self.finish is None else time_string(self.finish)
        return _present(start=start, finish=finish)


Setting = (
    Concurrency | Throttle | RateLimit | Debounce | BatchEvents | Priority | Singleton | Timeouts
)

_KINDS: dict[str, tuple[Any, str]] = {
    "throttle": (Throttle, "onward.Throttle(10, '1m')"),
    "rate_limit": (RateLimit, "onward.RateLimit(10, '1h')"),
    "debounce": (Debounce, "onward.Debounce('10s')"),
    "batch_events": (BatchEvents, "onward.BatchEvents(50, '10s')"),
    "priority": (Priority, "onward.Priority('event.data.urgent ? 120 : 0')"),
    "singleton": (Singleton, "onward.Singleton('skip')"),
    "timeouts": (Timeouts, "onward.Timeouts(finish='1h')"),
}

#: What an Inngest server does not take together, each with the reason.
_EXCLUSIVE = (
    ("batch_events", "cancel_on", "a batch has no single event to compare with"),
    ("batch_events", "debounce", "a batch keeps all its events, a debounce only the last"),
    ("batch_events", "singleton", "a batch has no single event that could be skipped"),
    ("batch_events", "priority", "a batch has no single event that could come first"),
    ("idempotency", "rate_limit", "idempotency is a rate limit, of one run in 24 hours"),
)


def check_flow(given: Mapping[str, Any], where: str) -> dict[str, Setting | tuple[Setting, ...]]:
    """The settings of a function, by option, without those that are None.

    Args:
        given: What `App.function` was given, by option, `cancel_on` and `idempotency` included.
        where: The function, for messages.

    Raises ConfigurationError, which names the function, the option and the field.
    """
    checked: dict[str, Setting | tuple[Setting, ...]] = {}
    for option, value in given.items():
        if value is None:
            continue
        if option == "concurrency":
            checked[option] = _concurrency(value, where)
        elif option in _KINDS:
            kind, example = _KINDS[option]
            if not isinstance(value, kind):
                raise ConfigurationError(
                    f"The {option} of {where} is {value!r}. Write {option}={example}."
                )
            value.check(f"{option} of {where}")
            checked[option] = value
    for first, second, why in _EXCLUSIVE:
        if given.get(first) and given.get(second):
            raise ConfigurationError(
                f"The {where} has both {first} and {second}, which exclude each other: {why}."
                " Leave one of them out."
            )
    return checked


def _concurrency(value: object, where: str) -> tuple[Concurrency, ...]:
    limits = (
        (Concurrency(value),)
        if isinstance(value, int)
        else (value,)
        if isinstance(value, Concurrency)
        else value
    )
    if not isinstance(limits, (list, tuple)) or not all(
        isinstance(limit, Concurrency) for limit in limits
    ):
        raise ConfigurationError(
            f"The concurrency of {where} is {value!r}. Write a number, onward.Concurrency(5), or"
            " up to two of the latter in a list."
        )
    if not 1 <= len(limits) <= _MOST_LIMITS:
        raise ConfigurationError(
            f"The concurrency of {where} has {len(limits)} limits. Inngest servers take one or"
            f" {_MOST_LIMITS}: keep those that matter most."
        )
    for number, limit in enumerate(limits, 1):
        nth = f"concurrency {number}" if len(limits) > 1 else "concurrency"
        limit.check(f"{nth} of {where}")
    return tuple(limits)


def _check_count(value: object, what: str, least: int, most: int | None = None) -> None:
    fits = isinstance(value, int) and not isinstance(value, bool)
    if not fits or value < least or (most is not None and value > most):  # type: ignore[operator]
        limits = f"from {least}" if most is None else f"from {least} to {most}"
        raise ConfigurationError(f"{what} is {value!r}. Write a whole number {limits}.")


def _check_choice(value: object, what: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        listed = ", ".join(map(repr, choices[:-1]))
        raise ConfigurationError(f"{what} is {value!r}. Write {listed} or {choices[-1]!r}.")


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
