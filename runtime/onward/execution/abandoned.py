"""Counts code that could not be stopped and still runs in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any, Protocol


class Piece(Protocol):
    """Code that runs: a task, or a stretch of code in a thread."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Have `callback` called with it when it ends; at once if it has."""


class Abandoned:
    """How much is left behind and still runs.

    At `limit` the process takes no more calls, until some of it has ended after all.
    """

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit
        self.count = 0
        self._lock = threading.Lock()

    def add(self, pieces: Collection[Piece]) -> None:
        """`pieces` were left behind; each counts for as long as it runs."""
        with self._lock:
            self.count += len(pieces)
        for piece in pieces:
            piece.add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        with self._lock:
            self.count -= 1

    @property
    def too_many(self) -> bool:
        """Whether this process should take no more calls."""
        return self.count >= self.limit


abandoned = Abandoned()
