"""What starts a function and what cancels it: `Event`, `Cron`, `CancelOn`.

They are checked when the function is registered, so that an error can name it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onward.errors import ConfigurationError

if TYPE_CHECKING:
    from onward.config import Duration

#: Of an event's name, and of a schedule, in characters (the Inngest server's limits).
_LONGEST = 255
_JITTER = (1.0, 300.0)


@dataclass(frozen=True, slots=True)
class Event:
    """A trigger: the function runs for each event named `name` for which `if_` holds.

    Args:
        name: The event's name. A `*` at its end, after `/` or `.`, stands for anything.
        if_: A CEL expression over `event`, such as `"event.data.total > 0"`.
        schema: A pydantic model, or another annotation, for the data of every event of that name in
            the app.
    """

    name: str
    if_: str | None = None
    schema: Any = None

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        check_name(self.name, f"The name of {where}", several=True)
        check_if(self.if_, where)

    def to_wire(self) -> dict[str, Any]:
        """The trigger as a registration carries it."""
        wire = {"event": self.name}
        if self.if_ is not None:
            wire["expression"] = self.if_
        return wire


@dataclass(frozen=True, slots=True)
class Cron:
    """A trigger: the function runs by a schedule.

    Args:
        schedule: Five fields: minute, hour, day of the month, month, day of the week, such as
            `"30 9 * * MON-FRI"`. A time zone may stand in front: `"TZ=Europe/Berlin 0 9 * * *"`.
        timezone: The time zone, instead of in front. Default: UTC.
        jitter: Each run starts at a time of its own within this duration after the schedule's, from
            1 second to 5 minutes.
    """

    schedule: str
    timezone: str | None = None
    jitter: Duration | None = None

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        from onward.core.cron import find_zone, parse_cron

        try:
            parsed = parse_cron(self.schedule)
            if self.timezone is not None:
                if parsed.zone is not None:
                    raise ConfigurationError(  # noqa: TRY301 - it gets its place as the others do
                        f"Its timezone is {self.timezone!r}, and its schedule names"
                        f" {parsed.zone!r}. Name one: Cron('0 9 * * *', timezone='Europe/Berlin')."
                    )
                parsed = parse_cron(f"TZ={self.timezone} {self.schedule}")
            if parsed.zone is not None:
                find_zone(parsed.zone)
        except ConfigurationError as error:
            raise type(error)(f"The schedule of {where} is refused. {error.message}") from None
        if len(self._text()) > _LONGEST:
            raise ConfigurationError(
                f"The schedule of {where} has more than {_LONGEST} characters, which Inngest"
                " servers refuse. Give the function several triggers."
            )
        if self.jitter is not None:
            check_duration(self.jitter, f"The jitter of {where}", *_JITTER)

    def to_wire(self) -> dict[str, Any]:
        """The trigger as a registration carries it."""
        wire = {"cron": self._text()}
        if self.jitter is not None:
            wire["jitter"] = time_string(self.jitter)
        return wire

    def _text(self) -> str:
        zone = [f"TZ={self.timezone}"] if self.timezone is not None else []
        return " ".join([*zone, *self.schedule.split()])  # servers want one space after the zone


@dataclass(frozen=True, slots=True)
class CancelOn:
    """An event that cancels a run.

    Args:
        event: The event's whole name.
        if_: A CEL expression over `async` (the event that cancels) and `event` (the one that
            started the run), such as `"async.data.id == event.data.id"`. None: any such event.
            Inngest servers take comparisons and logic here, and no functions.
        timeout: How long after the run's start the event still cancels it. None: always.
    """

    event: str
    if_: str | None = None
    timeout: Duration | None = None

    def check(self, where: str) -> None:
        """Raise ConfigurationError, which begins with the field and `where`."""
        check_name(self.event, f"The event of {where}")
        check_if(self.if_, where, restricted=True)
        if self.timeout is not None:
            check_duration(self.timeout, f"The timeout of {where}", 0.001)

    def to_wire(self) -> dict[str, Any]:
        """The cancellation as a registration carries it."""
        wire = {"event": self.event}
        if self.if_ is not None:
            wire["if"] = self.if_
        if self.timeout is not None:
            wire["timeout"] = time_string(self.timeout)
        return wire


def check_name(value: object, what: str, *, several: bool = False) -> None:
    """Raise ConfigurationError if `value` is not an event's name.

    `several`: it may stand for the names that begin with what is before its `*`.
    """
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{what} is {value!r}. Write a text such as 'order/paid'.")
    if len(value) > _LONGEST:
        raise ConfigurationError(
            f"{what} has {len(value)} characters. Inngest servers take {_LONGEST}: shorten it."
        )
    if "*" in (value[:-1] if several and value.endswith(("/*", ".*")) else value):
        allowed = "'order/*' or 'order/item.*', with the `*` at the end, after '/' or '.'"
        raise ConfigurationError(
            f"{what} is {value!r}, which Inngest servers match with no event. Write"
            f" {allowed if several else 'the whole name of the event'}."
        )


def check_if(value: object, where: str, field: str = "if_", *, restricted: bool = False) -> None:
    """Raise ExpressionError if `value` is neither None nor an expression."""
    if value is not None:
        from onward.core.expressions import check_expression

        check_expression(value, f"The {field} of {where}", restricted=restricted)


def check_duration(value: object, what: str, least: float, most: float | None = None) -> None:
    """Raise DurationError if `value` is not a duration from `least` to `most` seconds."""
    from onward.core.durations import format_duration, parse_duration
    from onward.errors import DurationError

    seconds = parse_duration(value, what=what)
    if seconds < least or (most is not None and seconds > most):
        limits = f"at least {format_duration(least)}"
        if most is not None:
            limits = f"from {format_duration(least)} to {format_duration(most)}"
        raise DurationError(f"{what} is {value!r}. Inngest servers take {limits}: write that.")


def time_string(value: object) -> str:
    """A checked duration as the wire has it (SDK specification, 1.3.2)."""
    from onward.core.durations import format_duration, parse_duration

    return format_duration(parse_duration(value, what="a duration"))
