"""How many calls may be in flight at once: by function, or by what an expression says."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from onward_server.flow import key_of
from onward_server.registration import FunctionConfig

#: A key and how many calls may hold it.
Slot = tuple[str, int]

#: Every value but false makes a key of its own; false makes one too.
_FALSE = "false"


def slots_of(function: FunctionConfig, event: Mapping[str, Any]) -> tuple[Slot, ...]:
    """What a call of a run that `event` started needs.

    Functions share the slots of equal keys of equal expressions in the scopes `env` and `account`.
    """
    slots = []
    for limit in function.flow.concurrency:
        value = key_of(limit.key, event)
        value = _FALSE if value is None else value
        text = limit.key.text if limit.key is not None else ""
        whose = function.id if limit.scope == "fn" else text
        slots.append((f"{limit.scope}:{whose}:{value}", limit.limit))
    return tuple(slots)


class Slots:
    """Gives slots away in the order in which they are asked for; a call gets all of its or none."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()
        self._waiting: deque[tuple[tuple[Slot, ...], asyncio.Future[None]]] = deque()

    async def take(self, slots: Sequence[Slot]) -> None:
        """Waits until all of `slots` are free, and takes them."""
        if not slots:
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tuple(slots), granted))
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.free(slots)
            else:
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not granted)
                self._grant()
            raise

    def free(self, slots: Sequence[Slot]) -> None:
        """Gives `slots` back."""
        for key, _ in slots:
            self._used[key] -= 1
            if not self._used[key]:
                del self._used[key]
        if slots:
            self._grant()

    def _grant(self) -> None:
        blocked: set[str] = set()
        left: deque[tuple[tuple[Slot, ...], asyncio.Future[None]]] = deque()
        for slots, granted in self._waiting:
            keys = {key for key, _ in slots}
            if blocked & keys or any(self._used[key] >= limit for key, limit in slots):
                blocked |= keys
                left.append((slots, granted))
                continue
            self._used.update(key for key, _ in slots)
            granted.set_result(None)
        self._waiting = left
