"""The deadline of an invocation, and whether a step still fits before it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import inf

#: The least time, in seconds, that is kept for flushing and answering.
MARGIN_FLOOR = 0.25

#: Round trips that have to fit into the margin.
MARGIN_ROUND_TRIPS = 4

#: Seconds per byte that a flush may need: one megabyte a second.
SECONDS_PER_BYTE = 1e-6

#: A body is expected to take at most this much longer than the longest one seen.
SLACK_SHARE, SLACK_LIMIT = 0.5, 2.0

#: The last part of an invocation in which no body of unknown length is begun.
UNKNOWN_SHARE, UNKNOWN_LIMIT = 0.1, 1.0


def margin_for(round_trip: float, floor: float | None = None) -> float:
    """Seconds kept before the platform's deadline, from the round trips seen, in seconds."""
    least = MARGIN_FLOOR if floor is None else floor
    return least + MARGIN_ROUND_TRIPS * round_trip


@dataclass(frozen=True, slots=True)
class Deadline:
    """The instants of one invocation on the driver's monotonic clock; `inf` where there is none.

    `ends_at`: bodies are cut and the answer begins. `kill_at`: the platform ends the process.
    """

    started_at: float = 0.0
    ends_at: float = inf
    kill_at: float = inf
    round_trip: float = 0.0

    def soft_at(self, buffered_bytes: int) -> float:
        """When the buffer is flushed at the latest, so that a kill costs the running body only."""
        return self.ends_at - max(0.05, 2 * self.round_trip) - buffered_bytes * SECONDS_PER_BYTE

    @property
    def window(self) -> float:
        """Seconds that steps may use in the whole invocation."""
        return self.ends_at - self.started_at


NO_DEADLINE = Deadline()


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds an invocation, in seconds; None for no limit.

    `remaining`: what the platform says is left. `maximum`: the most it can say. `front_door`: what
    is left of the front door's own limit. `max_runtime`: the user's own.
    """

    remaining: float | None = None
    maximum: float | None = None
    front_door: float | None = None
    max_runtime: float | None = None


NO_LIMITS = Limits()


def deadline_of(
    limits: Limits, *, now: float, round_trip: float = 0.0, margin: float | None = None
) -> tuple[Deadline, str | None]:
    """The deadline of an invocation that starts at `now`, and a warning about an impossible limit.

    `margin` in seconds replaces the floor of the margin. It never takes more than half of the
    time there is.
    """
    warning = None
    remaining = limits.remaining
    if remaining is not None and (
        remaining <= 0 or (limits.maximum is not None and remaining > limits.maximum)
    ):
        most = f" and at most {limits.maximum:g} s" if limits.maximum is not None else ""
        warning = (
            f"The platform says that {remaining:g} s of this invocation remain, which is impossible"
            f" (it must be above 0{most}). It is ignored: this invocation has no platform deadline."
        )
        remaining = None
    platform = min((t for t in (remaining, limits.front_door) if t is not None), default=inf)
    available = min(platform, inf if limits.max_runtime is None else limits.max_runtime)
    if available == inf:
        return Deadline(now, inf, inf, round_trip), warning
    keep = min(margin_for(round_trip, margin), max(available, 0.0) / 2)
    return Deadline(now, now + available - keep, now + platform, round_trip), warning


class Durations:
    """How long bodies took, by callable: what the next one of the same callable may need.

    It lives as long as the process: a warm invocation knows what an earlier one saw. A shorter body
    halves what a longer one has left behind, so that one slow body is soon forgotten.
    """

    __slots__ = ("_longest",)

    def __init__(self) -> None:
        self._longest: dict[Hashable, float] = {}

    def saw(self, key: Hashable, seconds: float) -> None:
        """A body of the callable `key` took `seconds`."""
        longest = self._longest.get(key, 0.0)
        self._longest[key] = seconds if seconds > longest else (longest + seconds) / 2

    def expected(self, key: Hashable) -> float | None:
        """Seconds to reckon with, or None for a callable never seen."""
        longest = self._longest.get(key)
        if longest is None:
            return None
        return longest + min(longest * SLACK_SHARE, SLACK_LIMIT)


def fits(deadline: Deadline, now: float, expected: float | None) -> bool:
    """Whether a body that needs `expected` seconds (None: unknown) ends before the deadline."""
    if deadline.ends_at == inf:
        return True
    if expected is None:
        expected = min(deadline.window * UNKNOWN_SHARE, UNKNOWN_LIMIT)
    return now + expected <= deadline.ends_at
