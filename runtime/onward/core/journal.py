"""The memoized results that a call request carries, in the order in which they are delivered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any

from onward.core.ops import ErrorInfo, Opcode


@dataclass(frozen=True, slots=True)
class Memo:
    """One memoized outcome: a JSON value, an error, or nothing (a sleep, a wait that timed out).

    `raw` is the orchestrator's own entry: an event that ended a wait has no `data` envelope. None
    for an entry that is null, and then so is the value of every kind of step.
    """

    id: str
    value: Any = None
    error: ErrorInfo | None = None
    raw: Any = None

    def value_for(self, code: Opcode) -> Any:
        """What a step of kind `code` makes of it.

        Raises UnknownMemoError when it is nothing that such a step can have (SDK specification,
        5.2.1 and 5.3; signals as recorded).
        """
        if self.raw is None or code is Opcode.SLEEP:
            return None
        if code is Opcode.WAIT_FOR_EVENT:
            return self._event()
        if "data" not in self.raw:
            raise UnknownMemoError
        value = self.value
        known = value is None or (isinstance(value, dict) and isinstance(value.get("signal"), str))
        if code is Opcode.WAIT_FOR_SIGNAL and not known:
            raise UnknownMemoError
        return value

    def _event(self) -> Any:
        """The event that ended a wait: as it is, or in an envelope of its own."""
        for event in (self.raw, self.value):
            if _is_event(event):
                return event
        raise UnknownMemoError


def _is_event(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("ts"), (int, float, NoneType))
        and isinstance(value.get("user"), (dict, NoneType))
    )


class UnknownMemoError(Exception):
    """A memoized entry has a shape that is not known here."""


class Journal:
    """Memos by id, and the order of their delivery (`ctx.stack`).

    `ordered`: whether that order was told; without it they are delivered as they are asked for.
    """

    __slots__ = ("_memos", "_order", "_position", "ordered")

    def __init__(self, memos: Iterable[Memo] = (), *, ordered: bool = True) -> None:
        self.ordered = ordered
        self._memos: dict[str, Memo] = {}
        for memo in memos:
            self._memos.setdefault(memo.id, memo)
        self._order = tuple(self._memos)
        self._position = {id_: n for n, id_ in enumerate(self._order)}

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._memos

    def __iter__(self) -> Iterator[Memo]:
        return iter(self._memos.values())

    def get(self, id_: str) -> Memo | None:
        """The memo of the hashed step id `id_`, or None."""
        return self._memos.get(id_)

    def at(self, position: int) -> Memo:
        """The memo at `position`, counted from 0 in delivery order."""
        return self._memos[self._order[position]]

    def position(self, id_: str) -> int:
        """Where `id_` stands in delivery order. Raises KeyError for an id that is not memoized."""
        return self._position[id_]
