"""How many calls may be in flight at once: by function, or by what an expression says."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    slots: dict[str, int] = {}
    for limit in function.flow.concurrency:
        value = key_of(limit.key, event)
        value = _FALSE if value is None else value
        text = limit.key.text if limit.key is not None else ""
        whose = function.id if limit.scope == "fn" else text
        key = f"{limit.scope}:{whose}:{value}"
        slots[key] = min(limit.limit, slots.get(key, limit.limit))
    return tuple(slots.items())


@dataclass(eq=False, slots=True)
class _Waiter:
    slots: tuple[Slot, ...]
    granted: asyncio.Future[None]


class Slots:
    """Gives slots away in the order in which they are asked for; a call gets all of its or none."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()
        #: Who waits for a key, first come first; who wants several waits in each of their queues.
        self._waiting: dict[str, deque[_Waiter]] = {}

    async def take(self, slots: Sequence[Slot]) -> None:
        """Waits until all of `slots` are free, and takes them."""
        if not slots:
            return
        waiter = _Waiter(tuple(slots), asyncio.get_running_loop().create_future())
        for key, _ in waiter.slots:
            self._waiting.setdefault(key, deque()).append(waiter)
        self._grant(waiter.slots)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self.free(slots)
            else:
                self._leave(waiter)
                self._grant(waiter.slots)
            raise

    def free(self, slots: Sequence[Slot]) -> None:
        """Gives `slots` back."""
        for key, _ in slots:
            self._used[key] -= 1
            if not self._used[key]:
                del self._used[key]
        self._grant(slots)

    def _grant(self, changed: Iterable[Slot]) -> None:
        """Lets those go on who are first for all of their keys; only `changed` ones may be new."""
        keys = [key for key, _ in changed]
        while keys:
            queue = self._waiting.get(keys[-1])
            if queue is None or not self._next(queue[0]):
                keys.pop()
                continue
            waiter = queue[0]
            self._leave(waiter)
            self._used.update(key for key, _ in waiter.slots)
            waiter.granted.set_result(None)
            keys += [key for key, _ in waiter.slots]

    def _next(self, waiter: _Waiter) -> bool:
        if waiter.granted.done():  # cancelled: it leaves by itself
            return False
        return all(
            self._waiting[key][0] is waiter and self._used[key] < limit
            for key, limit in waiter.slots
        )

    def _leave(self, waiter: _Waiter) -> None:
        for key, _ in waiter.slots:
            queue = self._waiting[key]
            queue.remove(waiter)
            if not queue:
                del self._waiting[key]
