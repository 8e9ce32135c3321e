"""One timer for everything that is due some time: nothing is polled."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

#: The wall clock may be set: look again at least this often.
_LONGEST_NAP_S = 60.0


class Timers:
    """Calls `fire(run_id, key)` on the event loop at each instant that `add` was told."""

    def __init__(self, now_ms: Callable[[], int], fire: Callable[[str, str], None]) -> None:
        self._now_ms = now_ms
        self._fire = fire
        self._heap: list[tuple[int, str, str]] = []
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def add(self, due_ms: int, run_id: str, key: str) -> None:
        """Fires at `due_ms` (milliseconds since the epoch), at once if that is over."""
        heapq.heappush(self._heap, (due_ms, run_id, key))
        if self._handle is None or due_ms < self._armed_for:
            self._arm()

    def stop(self) -> None:
        """Forgets everything."""
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._heap:
            self._armed_for = self._heap[0][0]
            wait = (self._armed_for - self._now_ms()) / 1000
            nap = min(max(0.0, wait), _LONGEST_NAP_S)
            self._handle = asyncio.get_running_loop().call_later(nap, self._ring)

    def _ring(self) -> None:
        self._handle = None
        now = self._now_ms()
        while self._heap and self._heap[0][0] <= now:
            _, run_id, key = heapq.heappop(self._heap)
            self._fire(run_id, key)
        self._arm()
