"""Cron schedules: five fields, in the syntax that the Inngest server takes.

That is the syntax of `github.com/robfig/cron`'s standard fields: names of months and weekdays,
lists, ranges, steps, `?` for `*`, and a time zone in front (`TZ=Europe/Berlin 0 9 * * MON-FRI`).
A day has to match its day of the month or its weekday where both are given, else both.

Where the clocks change, a schedule with an hour and a minute of its own runs once a day: a time
that is skipped runs right after the gap, one that comes twice runs the first time. A schedule
whose hour or minute begins with `*` goes by the time that passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from onward.errors import CronError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTHS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAY = timedelta(days=1)
#: No schedule is rarer than the 29th of February on both sides of 2100.
_MOST_YEARS = 9
_DECEMBER = 12


class Field:
    """One of the five fields: its name, its range, and names for its values."""

    __slots__ = ("high", "low", "name", "names")

    def __init__(self, name: str, low: int, high: int, names: tuple[str, ...] = ()) -> None:
        self.name = name
        self.low = low
        self.high = high
        self.names = names

    def number(self, text: str) -> int:
        """A value of this field. Raises ValueError, which says what is wrong."""
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.low
        if not (text.isascii() and text.isdecimal()):
            raise ValueError(f"{text!r} is not a number")
        value = int(text)
        if not self.low <= value <= self.high:
            sunday = ": Sunday is 0" if self.name == "day of the week" else ""
            raise ValueError(f"{text} is not from {self.low} to {self.high}{sunday}")
        return value

    def part(self, text: str) -> range:
        """The values of one element of a list. Raises ValueError, which says what is wrong."""
        span, slash, step_text = text.partition("/")
        step = 1
        if slash:
            if not (step_text.isascii() and step_text.isdecimal()) or int(step_text) == 0:
                raise ValueError(f"the step in {text!r} must be a number from 1")
            step = int(step_text)
        if span in {"*", "?"}:
            return range(self.low, self.high + 1, step)
        first, dash, last = span.partition("-")
        low = self.number(first)
        high = self.number(last) if dash else (self.high if slash else low)
        if high < low:
            raise ValueError(f"the range {span!r} ends before it begins")
        return range(low, high + 1, step)

    def values(self, text: str) -> frozenset[int]:
        """The values that a field's text names. Raises ValueError, which says what is wrong."""
        return frozenset(value for part in text.split(",") for value in self.part(part))


_FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of the month", 1, 31),
    Field("month", 1, 12, _MONTHS),
    Field("day of the week", 0, 6, _DAYS),
)


class Cron:
    """A parsed schedule. `text` is all of it; `zone` its time zone, None for UTC."""

    __slots__ = (
        "_by_clock",
        "_days",
        "_either",
        "_hours",
        "_minutes",
        "_months",
        "_weekdays",
        "text",
        "zone",
    )

    def __init__(self, text: str, zone: str | None, fields: list[str]) -> None:
        self.text = text
        self.zone = zone
        parsed: list[frozenset[int]] = []
        for field, part in zip(_FIELDS, fields, strict=True):
            try:
                parsed.append(field.values(part))
            except ValueError as error:
                raise _refusal(text, f"its {field.name} is {part!r}, and {error}") from None
        minutes, hours, self._days, self._months, self._weekdays = parsed
        self._minutes = sorted(minutes)
        self._hours = sorted(hours)
        self._either = not (_is_star(fields[2]) or _is_star(fields[4]))
        self._by_clock = fields[0][0] not in "*?" and fields[1][0] not in "*?"
        if not self._either and min(self._days) > max(_LONGEST_MONTHS[m] for m in self._months):
            raise _refusal(text, f"no month that it names has a day {min(self._days)}")

    def __repr__(self) -> str:
        return f"parse_cron({self.text!r})"

    def next_after(self, instant: datetime) -> datetime:
        """The first time after the aware `instant` that the schedule names, in UTC.

        Raises CronError where the time zone is unknown, ValueError for a naive `instant`.
        """
        if instant.tzinfo is None:
            raise ValueError(f"{instant!r} has no time zone")
        zone = UTC if self.zone is None else find_zone(self.zone)
        after = instant.astimezone(UTC)
        # The day before may end later than this one begins, where the clocks change at midnight.
        day = (after - _DAY).astimezone(zone).date()
        for candidate in self._dates(day):
            times = [time for time in self._times(candidate, zone) if time > after]
            if times:
                return min(times)
        raise _refusal(self.text, "it never comes")  # pragma: no cover - refused when parsed

    def _dates(self, day: date) -> Iterator[date]:
        last = day.year + _MOST_YEARS
        while day.year <= last:
            if day.month not in self._months:
                year, month = divmod(day.month, _DECEMBER)
                day = date(day.year + year, month + 1, 1)
                continue
            in_month = day.day in self._days
            in_week = day.isoweekday() % 7 in self._weekdays
            if (in_month or in_week) if self._either else (in_month and in_week):
                yield day
            day += _DAY

    def _times(self, day: date, zone: tzinfo) -> Iterator[datetime]:
        """The instants of a day, in UTC."""
        for hour in self._hours:
            for minute in self._minutes:
                local = datetime.combine(day, time(hour, minute), zone)
                if zone is UTC:
                    yield local
                    continue
                instant = local.astimezone(UTC)
                if instant.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
                    if self._by_clock:
                        yield _after_gap(local)
                    continue
                yield instant
                if not self._by_clock:
                    yield local.replace(fold=1).astimezone(UTC)


def _after_gap(local: datetime) -> datetime:
    """The first instant after the gap that `local`, which does not exist, falls into."""
    before, after = local.utcoffset(), local.replace(fold=1).utcoffset()
    assert before is not None  # noqa: S101 - an aware time has an offset
    assert after is not None  # noqa: S101
    low = (local.replace(tzinfo=None) - max(before, after)).replace(tzinfo=UTC)
    high = (local.replace(tzinfo=None) - min(before, after)).replace(tzinfo=UTC)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if middle.astimezone(local.tzinfo).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def find_zone(name: str) -> tzinfo:
    """The time zone called `name`. Raises CronError for one that is unknown."""
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    try:
        zoneinfo.ZoneInfo("Europe/London")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise CronError(
            f"The time zone {name!r} cannot be looked up: this machine has no time zone database."
            " Install one: pip install tzdata."
        ) from None
    raise CronError(
        f"The time zone {name!r} is unknown. Write a name of the IANA database such as"
        " 'Europe/Berlin', or 'UTC'."
    )


def parse_cron(text: str) -> Cron:
    """`text` as a schedule: five fields, after an optional `TZ=Area/City `.

    The time zone itself is looked up when a time is asked for. Raises CronError, which names the
    field and the fix.
    """
    if not isinstance(text, str):
        raise CronError(f"{text!r} is not a cron schedule. Write a text such as '0 9 * * MON'.")
    fields = text.split()
    zone = None
    if fields and fields[0].startswith(("TZ=", "CRON_TZ=")):
        zone = fields.pop(0).partition("=")[2]
        if not zone:
            raise _refusal(text, "its time zone is empty")
    if fields and fields[0].startswith("@"):
        instead = _INSTEAD.get(fields[0], "five fields")
        raise _refusal(text, f"{fields[0]} is not taken by Inngest servers; write {instead}")
    if len(fields) != len(_FIELDS):
        raise _refusal(text, f"it has {len(fields)} fields")
    return Cron(text, zone, fields)


_INSTEAD = {
    "@yearly": "'0 0 1 1 *'",
    "@annually": "'0 0 1 1 *'",
    "@monthly": "'0 0 1 * *'",
    "@weekly": "'0 0 * * 0'",
    "@daily": "'0 0 * * *'",
    "@midnight": "'0 0 * * *'",
    "@hourly": "'0 * * * *'",
}


def _is_star(text: str) -> bool:
    """Whether a field leaves its days open, as the server reads it: `*/2` does not."""
    return any(part in {"*", "?", "*/1", "?/1"} for part in text.split(","))


def _refusal(text: str, what: str) -> CronError:
    return CronError(
        f"The cron schedule {text!r} is not valid: {what}. Write five fields, minute, hour, day of"
        " the month, month and day of the week, such as '30 9 * * MON-FRI', with a time zone in"
        " front if it is not UTC: 'TZ=Europe/Berlin 30 9 * * MON-FRI'."
    )
