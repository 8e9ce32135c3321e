"""Durations as people write them, in seconds."""

from __future__ import annotations

import re
from math import isfinite

from onward.errors import DurationError

#: Seconds in one of each unit, from the largest to the smallest.
_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_PATTERN = re.compile(
    "".join(rf"(?:({_NUMBER}) ?{unit} ?)?" for unit in _UNITS) + rf"(?:({_NUMBER}) ?ms)?"
)
_BARE_NUMBER = re.compile(rf"-?{_NUMBER}")
_LONGEST_SHOWN = 60
_SECOND = 1000  # in milliseconds

_EXAMPLES = "'14m30s', '300s', '500ms', '1h', '2d', '1w', a number of seconds, or a timedelta"


def parse_duration(value: object, *, what: str) -> float:
    """The seconds that `value` stands for.

    Args:
        value: Text of numbers with units from the largest to the smallest, each at most once
            (`"14m30s"`, `"1.5h"`, `"10 s"`; units `w`, `d`, `h`, `m`, `s`, `ms`), the text `"0"`,
            a number of seconds, or a `timedelta`.
        what: What the duration is for, such as `"max_interval"`; errors begin with it.

    Returns:
        Seconds, finite and not negative.

    Raises:
        DurationError: `value` is anything else, negative, or not finite. Text without a unit is
            refused (except `"0"`), because it does not say which unit was meant.
    """
    if isinstance(value, str):
        return _parse_text(value, what)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = float("inf")
    else:
        from datetime import timedelta

        if not isinstance(value, timedelta):
            raise DurationError(
                f"{what} is {_shown(value)} ({_type_name(value)}), which is not a duration. "
                f"Write {_EXAMPLES}."
            )
        seconds = value.total_seconds()
    return _in_range(seconds, value, what)


def format_duration(seconds: float) -> str:
    """`seconds` for people and for the wire: `"14m30s"`, `"1.5s"`, `"250ms"`, `"1d12h"`, `"0s"`.

    It is rounded to a millisecond, below a second to a microsecond. What it returns for a finite
    number that is not negative parses as a duration.
    """
    if not isfinite(seconds):
        return f"{seconds}s"
    if seconds < 0:
        text = format_duration(-seconds)
        return text if text == "0s" else f"-{text}"
    milliseconds = round(seconds * 1000)
    if milliseconds < _SECOND:
        text = _decimal(round(seconds * 1_000_000), "ms")
        return "0s" if text == "0ms" else text
    parts = []
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        count, milliseconds = divmod(milliseconds, length)
        if count:
            parts.append(f"{count}{unit}")
    if milliseconds:
        parts.append(_decimal(milliseconds, "s"))
    return "".join(parts)


def _parse_text(text: str, what: str) -> float:
    stripped = text.strip()
    match = _PATTERN.fullmatch(stripped)
    if match is not None and stripped:
        *larger, thousandths = match.groups()
        seconds = sum(
            float(number) * length
            for number, length in zip(larger, _UNITS.values(), strict=True)
            if number
        )
        return _in_range(seconds + float(thousandths or 0) / 1000, text, what)
    if _BARE_NUMBER.fullmatch(stripped):
        number = float(stripped)
        if number == 0:
            return 0.0
        if number > 0:
            raise DurationError(
                f"{what} is {_shown(text)}, a number without a unit. "
                f"Write {_shown(stripped + 's')} for seconds; or {_EXAMPLES}."
            )
    if stripped.startswith("-"):
        raise _negative(text, what)
    raise DurationError(f"{what} is {_shown(text)}, which is not a duration. Write {_EXAMPLES}.")


def _in_range(seconds: float, value: object, what: str) -> float:
    if not isfinite(seconds):
        raise DurationError(f"{what} is {_shown(value)}, which is not finite. Write {_EXAMPLES}.")
    if seconds < 0:
        raise _negative(value, what)
    return seconds + 0.0


def _negative(value: object, what: str) -> DurationError:
    return DurationError(
        f"{what} is {_shown(value)}, and a duration cannot be negative. Write {_EXAMPLES}."
    )


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int with more digits than Python converts to text
        text = f"a huge {_type_name(value)}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _type_name(value: object) -> str:
    return type(value).__name__


def _decimal(thousandths: int, unit: str) -> str:
    """`thousandths` of a unit, without zeros at the end."""
    whole, rest = divmod(thousandths, 1000)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    return f"{whole}{fraction}{unit}"
