from __future__ import annotations

from math import inf

import pytest

from onward.core.deadline import (
    MARGIN_FLOOR,
    NO_DEADLINE,
    NO_LIMITS,
    Deadline,
    Durations,
    Limits,
    deadline_of,
    fits,
    margin_for,
)


def test_the_margin_grows_with_the_round_trips_seen() -> None:
    assert margin_for(0.0) == MARGIN_FLOOR
    assert margin_for(0.1) == pytest.approx(MARGIN_FLOOR + 0.4)
    assert margin_for(0.1, floor=2.0) == pytest.approx(2.4)
    assert margin_for(0.1, floor=0.0) == pytest.approx(0.4)


def test_without_limits_there_is_no_deadline() -> None:
    assert deadline_of(NO_LIMITS, now=5.0) == (Deadline(5.0, inf, inf, 0.0), None)
    assert fits(NO_DEADLINE, 1e12, None)
    assert NO_DEADLINE.soft_at(10**9) == inf


@pytest.mark.parametrize(
    ("limits", "ends_in", "killed_in"),
    [
        (Limits(remaining=10.0), 9.0, 10.0),
        (Limits(front_door=8.0), 7.0, 8.0),
        (Limits(max_runtime=6.0), 5.0, inf),
        (Limits(remaining=10.0, front_door=8.0, max_runtime=6.0), 5.0, 8.0),
        (Limits(remaining=10.0, front_door=29.0, max_runtime=60.0), 9.0, 10.0),
        (Limits(remaining=10.0, maximum=10.0), 9.0, 10.0),
    ],
)
def test_the_nearest_limit_counts(limits: Limits, ends_in: float, killed_in: float) -> None:
    deadline, warning = deadline_of(limits, now=100.0, margin=1.0)
    assert deadline == Deadline(100.0, 100.0 + ends_in, 100.0 + killed_in, 0.0)
    assert deadline.window == ends_in
    assert warning is None


def test_the_margin_takes_at_most_half_of_the_time() -> None:
    deadline, _ = deadline_of(Limits(remaining=1.0), now=0.0, margin=5.0)
    assert (deadline.ends_at, deadline.kill_at) == (0.5, 1.0)


def test_a_front_door_that_has_closed_leaves_no_time() -> None:
    deadline, _ = deadline_of(Limits(front_door=-3.0), now=10.0)
    assert deadline.ends_at <= 10.0
    assert not fits(deadline, 10.0, 0.0)


@pytest.mark.parametrize(
    ("remaining", "maximum"), [(-1.0, None), (0.0, None), (901.0, 900.0), (1e9, 900.0)]
)
def test_an_impossible_remaining_time_is_ignored_with_a_warning(
    remaining: float, maximum: float | None
) -> None:
    deadline, warning = deadline_of(Limits(remaining=remaining, maximum=maximum), now=0.0)
    assert deadline.ends_at == inf
    assert warning is not None
    assert f"{remaining:g} s" in warning
    assert "ignored" in warning
    limited, warning = deadline_of(
        Limits(remaining=remaining, maximum=maximum, max_runtime=60.0), now=0.0, margin=1.0
    )
    assert limited.ends_at == 59.0
    assert warning is not None


def test_round_trips_are_remembered_for_the_flush_before_the_end() -> None:
    deadline, _ = deadline_of(Limits(remaining=10.0), now=0.0, round_trip=0.2)
    assert deadline.ends_at == pytest.approx(10.0 - MARGIN_FLOOR - 0.8)
    assert deadline.soft_at(0) == pytest.approx(deadline.ends_at - 0.4)
    assert deadline.soft_at(500_000) == pytest.approx(deadline.ends_at - 0.9)
    quick, _ = deadline_of(Limits(remaining=10.0), now=0.0)
    assert quick.soft_at(0) == pytest.approx(quick.ends_at - 0.05)


@pytest.mark.parametrize(
    ("now", "expected", "fit"),
    [
        (0.0, 10.0, True),
        (0.1, 10.0, False),
        (9.0, None, True),
        (9.01, None, False),
        (10.0, 0.0, True),
        (10.01, 0.0, False),
    ],
)
def test_what_fits(now: float, expected: float | None, *, fit: bool) -> None:
    assert fits(Deadline(0.0, 10.0, 11.0), now, expected) is fit


def test_an_unknown_body_needs_a_tenth_of_a_short_window() -> None:
    short = Deadline(0.0, 2.0, 2.5)
    assert fits(short, 1.8, None)
    assert not fits(short, 1.81, None)


def test_what_a_body_may_need_follows_from_those_before_it() -> None:
    durations = Durations()
    assert durations.expected("load") is None
    durations.saw("load", 1.0)
    assert durations.expected("load") == 1.5
    durations.saw("load", 10.0)
    assert durations.expected("load") == 12.0, "at most two seconds more"
    assert durations.expected("save") is None
    durations.saw("instant", 0.0)
    assert durations.expected("instant") == 0.0


def test_a_slow_body_is_remembered_but_not_for_ever() -> None:
    durations = Durations()
    durations.saw("load", 8.0)
    durations.saw("load", 1.0)
    once = durations.expected("load")
    assert once is not None
    assert 1.5 < once < 10.0
    for _ in range(20):
        durations.saw("load", 1.0)
    assert durations.expected("load") == pytest.approx(1.5, abs=0.01)
