"""Counts code that could not be stopped and still runs in this process."""

from __future__ import annotations

import threading


class Abandoned:
    """How much is left behind; past `limit` the process should be replaced."""

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit
        self.count = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """`count` more were left behind."""
        with self._lock:
            self.count += count

    @property
    def too_many(self) -> bool:
        """Whether this process should take no more calls."""
        return self.count >= self.limit


abandoned = Abandoned()
