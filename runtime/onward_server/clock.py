"""Where the orchestrator takes the time from, so that tests can bring their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

#: The wall clock may be set: look again at least this often.
_LONGEST_NAP_S = 60.0


class Handle(Protocol):
    """Something that was arranged and can be called off."""

    def cancel(self) -> None:
        """Calls it off."""


class Clock(Protocol):
    """The time in milliseconds since the epoch, and a way to be woken."""

    def now_ms(self) -> int:
        """The time now."""
        ...

    def call_at(self, due_ms: int, wake: Callable[[], None]) -> Handle:
        """Calls `wake` on the event loop at `due_ms`, or earlier: whoever is woken looks again."""
        ...


class WallClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """The time now."""
        return time.time_ns() // 1_000_000

    def call_at(self, due_ms: int, wake: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls `wake` at `due_ms`, or after a minute if that is earlier."""
        nap = min(max(0.0, (due_ms - self.now_ms()) / 1000), _LONGEST_NAP_S)
        return asyncio.get_running_loop().call_later(nap, wake)
