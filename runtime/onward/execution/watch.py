"""The watchdog: one thread that wakes invocations at their instants, whatever they are doing."""

from __future__ import annotations

import heapq
import os
import threading
import time
from typing import Protocol


class Watched(Protocol):
    """An invocation as the watchdog sees it."""

    def on_watch(self) -> None:
        """An instant that was armed has come."""


class Watch:
    """Wakes whatever is armed, on a daemon thread that starts with the first arming."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Have nothing armed, and no thread: so it is in a forked child."""
        self._entries: list[tuple[float, int, Watched]] = []
        self._sequence = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def arm(self, when: float, watched: Watched) -> None:
        """Call `watched.on_watch()` at `when`, an instant of `time.monotonic()`."""
        with self._changed:
            self._sequence += 1
            heapq.heappush(self._entries, (when, self._sequence, watched))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._loop, name="onward-watchdog", daemon=True
                )
                self._thread.start()
            if self._entries[0][1] == self._sequence:
                self._changed.notify()

    def forget(self, watched: Watched) -> None:
        """Drop what is armed for `watched`."""
        with self._changed:
            self._entries = [entry for entry in self._entries if entry[2] is not watched]
            heapq.heapify(self._entries)

    def _loop(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                if not self._entries or self._entries[0][0] > now:
                    self._changed.wait(self._entries[0][0] - now if self._entries else None)
                    continue
                watched = heapq.heappop(self._entries)[2]
            watched.on_watch()
            del watched


watch = Watch()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watch.begin)
