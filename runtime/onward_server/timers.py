"""One timer for everything that is due some time: nothing is polled."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from onward_server.clock import Clock, Handle

_SWEPT_FROM = 1024


class Timers:
    """Calls `fire(run_id, key)` on the event loop at each instant that `add` was told.

    `wanted(run_id)` says whether a run may still need its timers: most are over long before, and
    may leave some that are due in a year.
    """

    def __init__(
        self, clock: Clock, fire: Callable[[str, str], None], wanted: Callable[[str], bool]
    ) -> None:
        self._clock = clock
        self._fire = fire
        self._wanted = wanted
        self._sweep_at = _SWEPT_FROM
        self._heap: list[tuple[int, str, str]] = []
        self._handle: Handle | None = None
        self._armed_for = 0

    def add(self, due_ms: int, run_id: str, key: str) -> None:
        """Fires at `due_ms` (milliseconds since the epoch), at once if that is over."""
        heapq.heappush(self._heap, (due_ms, run_id, key))
        if len(self._heap) >= self._sweep_at:
            self._sweep()
        if self._handle is None or due_ms < self._armed_for:
            self._arm()

    def stop(self) -> None:
        """Forgets everything."""
        self._heap.clear()
        self._disarm()

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if self._wanted(entry[1])]
        heapq.heapify(self._heap)
        self._sweep_at = max(_SWEPT_FROM, 2 * len(self._heap))

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        self._disarm()
        if self._heap:
            self._armed_for = self._heap[0][0]
            self._handle = self._clock.call_at(self._armed_for, self._ring)

    def _ring(self) -> None:
        self._handle = None
        now = self._clock.now_ms()
        while self._heap and self._heap[0][0] <= now:
            _, run_id, key = heapq.heappop(self._heap)
            self._fire(run_id, key)
        self._arm()
