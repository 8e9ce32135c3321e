from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.core.durations import format_duration, parse_duration
from onward.errors import ConfigurationError, DurationError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("14m30s", 870),
        ("300s", 300),
        ("500ms", 0.5),
        ("1h", 3600),
        ("2d", 172_800),
        ("1w", 604_800),
        ("10 s", 10),
        (" 1h 30m ", 5400),
        ("1.5h", 5400),
        ("1w2d3h4m5s6ms", 604_800 + 172_800 + 10_800 + 240 + 5 + 0.006),
        ("0", 0),
        ("0.0", 0),
        ("0s", 0),
        (0, 0),
        (-0.0, 0),
        (12, 12),
        (0.25, 0.25),
        (timedelta(minutes=2, milliseconds=250), 120.25),
        (timedelta(0), 0),
    ],
)
def test_parses(value: object, seconds: float) -> None:
    parsed = parse_duration(value, what="max_interval")
    assert parsed == pytest.approx(seconds)
    assert isinstance(parsed, float)
    assert str(parsed)[0] != "-"


@pytest.mark.parametrize(
    "value",
    [
        "5 parsecs",
        "",
        "  ",
        "s",
        "m30s",
        "1m30",
        "30s14m",
        "1s1s",
        "1h,30m",
        "1e3s",
        "1_000s",
        "+5s",
        "5S",
        ".5s",
        "5.s",
        "10  s",
        "٣s",  # a digit, but not one of ours
        "1m 30s\n1h",
        True,
        False,
        None,
        b"5s",
        [5],
        {"seconds": 5},
        5j,
    ],
)
def test_refuses_what_is_no_duration(value: Any) -> None:
    with pytest.raises(DurationError) as caught:
        parse_duration(value, what="max_interval")
    message = str(caught.value)
    assert message.startswith(f"max_interval is {value!r}")
    assert "not a duration" in message
    assert "14m30s" in message


@pytest.mark.parametrize(
    "value", [-1, -0.5, "-5s", "-5", "-1h30m", timedelta(seconds=-1), -(10**400)]
)
def test_refuses_negatives(value: object) -> None:
    with pytest.raises(DurationError, match=r"^timeout is .*(cannot be negative|not finite)"):
        parse_duration(value, what="timeout")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 10**400, "9" * 400 + "w"]
)
def test_refuses_what_is_not_finite(value: object) -> None:
    with pytest.raises(DurationError, match="not finite") as caught:
        parse_duration(value, what="timeout")
    assert len(str(caught.value)) < 300


def test_an_int_too_long_for_text_is_refused_as_well() -> None:
    with pytest.raises(DurationError, match="a huge int, which is not finite"):
        parse_duration(10**5000, what="timeout")


def test_text_without_a_unit_says_how_to_add_one() -> None:
    with pytest.raises(DurationError, match="'300', a number without a unit") as caught:
        parse_duration("300", what="ONWARD_MAX_INTERVAL")
    assert "Write '300s' for seconds" in str(caught.value)


def test_a_duration_error_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        parse_duration("soon", what="timeout")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (0.0004, "0.4ms"),
        (0.0000001, "0s"),
        (0.9999999, "1s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.9996, "1m"),
        (870, "14m30s"),
        (3600, "1h"),
        (129_600, "1d12h"),
        (604_800, "7d"),
        (-0.25, "-250ms"),
        (-1e-9, "0s"),
        (float("inf"), "infs"),
    ],
)
def test_formats(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e9))
def test_what_is_formatted_parses_to_the_nearest_millisecond(seconds: float) -> None:
    parsed = parse_duration(format_duration(seconds), what="it")
    assert parsed == pytest.approx(seconds, abs=0.000_500_1, rel=1e-12)


@given(st.integers(min_value=0, max_value=10**12))
def test_whole_milliseconds_survive_exactly(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert round(parse_duration(text, what="it") * 1000) == milliseconds
    assert format_duration(parse_duration(text, what="it")) == text


@given(st.timedeltas(min_value=timedelta(0)))
def test_every_timedelta_that_is_not_negative_parses(value: timedelta) -> None:
    assert parse_duration(value, what="it") == value.total_seconds()


@given(st.text(max_size=8) | st.from_regex(r"[0-9. ]{0,4}[wdhms]{0,2}", fullmatch=True))
def test_any_text_parses_or_is_a_duration_error(text: str) -> None:
    seconds, message = 0.0, "it is "
    try:
        seconds = parse_duration(text, what="it")
    except DurationError as error:
        message = str(error)
    assert seconds >= 0
    assert message.startswith("it is ")
