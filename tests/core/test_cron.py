from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onward.core.cron import parse_cron
from onward.errors import ConfigurationError, CronError

MONDAY = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
ZONES = [
    "America/New_York",
    "America/Sao_Paulo",  # the clocks changed at midnight
    "Asia/Beirut",  # they do at midnight
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kathmandu",  # never, at an odd offset
    "Europe/London",
    "Pacific/Apia",  # a whole day was skipped
]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * *", "2026-03-02T10:31"),
        ("30 10 * * *", "2026-03-03T10:30"),
        ("31 10 * * *", "2026-03-02T10:31"),
        ("*/15 * * * *", "2026-03-02T10:45"),
        ("5/20 * * * *", "2026-03-02T10:45"),
        ("10-20/5 * * * *", "2026-03-02T11:10"),
        ("1,2 11,12 * * *", "2026-03-02T11:01"),
        ("0 0 1 jan *", "2027-01-01T00:00"),
        ("0 9 * * MON-fri", "2026-03-03T09:00"),
        ("0 9 ? * SUN", "2026-03-08T09:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        # Both days given: either will do.
        ("0 0 13 * FRI", "2026-03-06T00:00"),
        ("0 0 3 * FRI", "2026-03-03T00:00"),
        # A star among them leaves the day open, and a step does not.
        ("0 0 13,* * FRI", "2026-03-06T00:00"),
        ("0 0 */10 * FRI", "2026-03-06T00:00"),
        ("0 0 */10 * *", "2026-03-11T00:00"),
        ("0 0 */10 * 0-6", "2026-03-03T00:00"),
    ],
)
def test_the_next_time(schedule: str, expected: str) -> None:
    found = parse_cron(schedule).next_after(MONDAY)
    assert found.replace(tzinfo=None) == datetime.fromisoformat(expected)
    assert found.utcoffset() == timedelta(0)


def test_a_time_zone_in_front() -> None:
    for prefix in ("TZ", "CRON_TZ"):
        cron = parse_cron(f"{prefix}=Europe/Berlin 0 9 * * *")
        assert cron.zone == "Europe/Berlin"
        assert cron.next_after(MONDAY) == datetime(2026, 3, 3, 8, tzinfo=UTC)
        # Summer time has begun.
        assert cron.next_after(MONDAY.replace(day=30)) == datetime(2026, 3, 31, 7, tzinfo=UTC)


def test_the_instant_may_be_in_any_zone_and_between_minutes() -> None:
    tokyo = MONDAY.replace(second=59, microsecond=999999).astimezone(ZoneInfo("Asia/Tokyo"))
    assert parse_cron("* * * * *").next_after(tokyo) == MONDAY + timedelta(minutes=1)
    with pytest.raises(ValueError, match="no time zone"):
        parse_cron("* * * * *").next_after(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("schedule", "start", "expected"),
    [
        # Clocks go from 2:00 to 3:00: what is skipped runs right after.
        ("30 2 * * *", "2026-03-08T00:00-05:00", "2026-03-08T03:00-04:00"),
        ("*/30 2 * * *", "2026-03-08T00:00-05:00", "2026-03-09T02:00-04:00"),
        # Clocks go from 2:00 to 1:00: a fixed time runs the first time only.
        ("30 1 * * *", "2026-11-01T00:00-04:00", "2026-11-01T01:30-04:00"),
        ("30 1 * * *", "2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"),
        ("30 * * * *", "2026-11-01T01:30-04:00", "2026-11-01T01:30-05:00"),
    ],
)
def test_where_the_clocks_change(schedule: str, start: str, expected: str) -> None:
    cron = parse_cron(f"TZ=America/New_York {schedule}")
    assert cron.next_after(datetime.fromisoformat(start)) == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    ("schedule", "part"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * *", "6 fields"),
        ("60 * * * *", "minute is '60'"),
        ("* 24 * * *", "hour is '24'"),
        ("* * 0 * *", "day of the month is '0'"),
        ("* * * 13 *", "month is '13'"),
        ("* * * * 7", "Sunday is 0"),
        ("* * * * someday", "'someday' is not a number"),
        ("mon * * * *", "'mon' is not a number"),
        ("-1 * * * *", "'' is not a number"),
        ("1,,2 * * * *", "'' is not a number"),
        ("٣ * * * *", "is not a number"),
        ("5-2 * * * *", "ends before it begins"),
        ("*/0 * * * *", "step in '*/0'"),
        ("*/x * * * *", "step in '*/x'"),
        ("0 0 31 2,4 *", "no month that it names has a day 31"),
        ("TZ= * * * * *", "time zone is empty"),
        ("@daily", "write '0 0 * * *'"),
        ("@every 5m", "not taken by Inngest servers"),
    ],
)
def test_a_bad_schedule_names_what_is_wrong(schedule: str, part: str) -> None:
    with pytest.raises(CronError, match="Write five fields") as caught:
        parse_cron(schedule)
    assert part in caught.value.message
    assert isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "Europe", "../etc/passwd", "Local", "+01:00"])
def test_an_unknown_time_zone(zone: str) -> None:
    with pytest.raises(CronError, match="IANA"):
        parse_cron(f"TZ={zone} 0 0 * * *").next_after(MONDAY)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    spans = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    single = number.map(str)
    # The library takes `3-3/2` for `3/2`.
    wide = spans.filter(lambda span: len(set(span.split("-"))) > 1)
    stepped = st.tuples(wide, st.integers(1, 30)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    lists = st.lists(single | spans, min_size=1, max_size=3).map(",".join)
    return st.just("*") | single | lists | stepped


@st.composite
def schedules(draw: st.DrawFn) -> str:
    minute = draw(_field(0, 59) | st.integers(1, 59).map(lambda step: f"*/{step}"))
    hour = draw(_field(0, 23) | st.integers(1, 23).map(lambda step: f"*/{step}"))
    return f"{minute} {hour} {draw(_field(1, 28))} {draw(_field(1, 12))} {draw(_field(0, 6))}"


def _clocks_change(zone: ZoneInfo, around: datetime) -> bool:
    day = timedelta(days=1)
    before, after = (around - day).astimezone(zone), (around + day).astimezone(zone)
    return before.utcoffset() != after.utcoffset()


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        # Midnight to one is skipped on the 27th of March, which is a Sunday.
        ("TZ=Asia/Beirut * 0 * * 0", "2005-03-26T00:00Z", "2005-04-02T21:00Z"),
        # At two it is half past one again, and half an hour later it is two.
        ("TZ=Australia/Lord_Howe * 2 * 4 0", "2006-04-01T00:00Z", "2006-04-01T15:30Z"),
    ],
)
def test_a_schedule_with_steps_goes_by_the_time_that_passes(
    schedule: str, after: str, expected: str
) -> None:
    instant = parse_cron(schedule).next_after(datetime.fromisoformat(after))
    assert instant == datetime.fromisoformat(expected)


@settings(deadline=None)
@given(
    schedules(),
    st.sampled_from(ZONES),
    st.datetimes(datetime(2005, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001
)
@example("30 0 * * *", "America/Sao_Paulo", datetime(2018, 11, 3, 12))  # noqa: DTZ001
@example("30 0 * * *", "Pacific/Apia", datetime(2011, 12, 29, 12))  # noqa: DTZ001
def test_schedules_agree_with_a_library(schedule: str, zone: str, start: datetime) -> None:
    here = ZoneInfo(zone)
    instant = start.replace(tzinfo=UTC, microsecond=0).astimezone(here)
    cron = parse_cron(f"TZ={zone} {schedule}")
    theirs = CronSim(schedule, instant)
    steps = "*" in {field[0] for field in schedule.split()[:2]}
    for _ in range(4):
        expected = next(theirs).astimezone(UTC)
        instant = cron.next_after(instant)
        if steps and (_clocks_change(here, instant) or _clocks_change(here, expected)):
            return  # there the library goes by whole hours, and from a midnight that is none
        assert instant.astimezone(UTC) == expected
