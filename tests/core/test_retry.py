from __future__ import annotations

import pytest

from onward.core.retry import (
    BACKOFF_CEILING,
    Verdict,
    backoff,
    bounded_retry_after,
    classify,
)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (None, "", Verdict.TRY_AGAIN),
        (429, "", Verdict.TRY_AGAIN),
        (500, "", Verdict.TRY_AGAIN),
        (503, "run not found", Verdict.TRY_AGAIN),
        (599, "", Verdict.TRY_AGAIN),
        (200, "", Verdict.CONFIRMED),
        (204, "", Verdict.CONFIRMED),
        (401, "", Verdict.BAD_KEY),
        (409, "", Verdict.GONE),
        (410, "", Verdict.GONE),
        (400, '{"error":"run not found in state store"}', Verdict.GONE),
        (400, "cannot checkpoint async steps", Verdict.REFUSED),
        (404, "run not found", Verdict.REFUSED),
        (413, "", Verdict.TOO_LARGE),
        (403, "", Verdict.REFUSED),
        (422, "", Verdict.REFUSED),
        (302, "", Verdict.REFUSED),
        (101, "", Verdict.REFUSED),
    ],
)
def test_what_an_answer_means(status: int | None, body: str, verdict: Verdict) -> None:
    assert classify(status, body) is verdict


def test_backoff_grows_and_is_jittered_by_a_half() -> None:
    longest = [backoff(n, 1.0) for n in range(30)]
    assert longest == sorted(longest)
    assert longest[:3] == [0.05, 0.1, 0.2]
    assert longest[-1] == BACKOFF_CEILING
    for n, most in enumerate(longest):
        assert backoff(n, 0.0) == most / 2
        assert most / 2 < backoff(n, 0.5) < most
    assert backoff(10_000, 1.0) == BACKOFF_CEILING


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(-5, 1), (0, 1), (0.2, 1), (1, 1), (1.01, 2), (43, 43), (86_400, 86_400), (1e12, 86_400)],
)
def test_retry_after_is_whole_seconds_within_its_bounds(seconds: float, header: int) -> None:
    assert bounded_retry_after(seconds) == header
