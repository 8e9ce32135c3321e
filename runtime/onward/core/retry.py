"""Retrying: checkpoints within an invocation, and how long the orchestrator is asked to wait."""

from __future__ import annotations

from enum import Enum, auto
from math import ceil

#: Bounds of the `retry-after` header in seconds.
RETRY_AFTER_LEAST, RETRY_AFTER_MOST = 1, 24 * 3600

#: Backoff of a checkpoint: base, factor and ceiling, in seconds.
BACKOFF_BASE, BACKOFF_FACTOR, BACKOFF_CEILING = 0.05, 2.0, 2.0

#: How long a checkpoint is retried where no deadline bounds it, in seconds.
RETRY_BUDGET = 30.0


_OK, _REDIRECT, _BAD_REQUEST, _UNAUTHORIZED = 200, 300, 400, 401
_CONFLICT, _GONE, _TOO_LARGE, _TOO_MANY, _SERVER_ERROR = 409, 410, 413, 429, 500


class Verdict(Enum):
    """What became of a checkpoint."""

    CONFIRMED = auto()
    TRY_AGAIN = auto()  # network errors, 5xx, 429
    BAD_KEY = auto()  # 401
    GONE = auto()  # the run is over, cancelled, or another invocation owns it
    TOO_LARGE = auto()  # 413
    REFUSED = auto()  # any other 4xx
    UNCONFIRMED = auto()  # retries ran out


def classify(status: int | None, body: str = "") -> Verdict:
    """The verdict on a checkpoint's answer; `status` None for a network error.

    The texts are the reference server's (recorded): it answers 400 for a run that is over.
    """
    if status is None or status == _TOO_MANY or status >= _SERVER_ERROR:
        return Verdict.TRY_AGAIN
    if _OK <= status < _REDIRECT:
        return Verdict.CONFIRMED
    if status in {_CONFLICT, _GONE} or (status == _BAD_REQUEST and "run not found" in body):
        return Verdict.GONE
    other = {_UNAUTHORIZED: Verdict.BAD_KEY, _TOO_LARGE: Verdict.TOO_LARGE}
    return other.get(status, Verdict.REFUSED)


def backoff(attempt: int, chance: float) -> float:
    """Seconds before the retry `attempt` (from 0); `chance` in 0…1 jitters it by a half."""
    delay = min(BACKOFF_BASE * BACKOFF_FACTOR ** min(attempt, 16), BACKOFF_CEILING)
    return delay * (0.5 + chance / 2)


def bounded_retry_after(seconds: float) -> int:
    """Whole seconds for the `retry-after` header: rounded up, 1 second to 24 hours."""
    return int(min(max(ceil(seconds), RETRY_AFTER_LEAST), RETRY_AFTER_MOST))
