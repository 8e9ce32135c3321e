"""Delivering memoized results in the order in which the journal has them."""

from __future__ import annotations

from onward.core.calls import CallState, StepCall
from onward.core.journal import Journal, Memo


class Replay:
    """Matches open calls with memos, in recorded order.

    A memo whose call user code has not made yet is passed over only when nothing else can happen;
    if its call comes after all, the recorded order could not be reached, and a warning says so.
    `never_called` counts memos that no call has asked for: steps that were deleted or renamed, or
    that were in a branch that lost a race.
    """

    __slots__ = (
        "_cursor",
        "_journal",
        "_late",
        "_open",
        "_passed",
        "_warned",
        "delivered",
        "never_called",
    )

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._cursor = 0
        self._passed: set[int] = set()
        self._late: set[int] = set()
        self._open: dict[int, StepCall] = {}
        self._warned = False
        self.delivered = 0
        self.never_called = len(journal)

    def claim(self, call: StepCall) -> bool:
        """Whether `call` is memoized; it then waits for its turn."""
        if call.id not in self._journal:
            return False
        self.never_called -= 1
        position = self._journal.position(call.id)
        self._open[position] = call
        if position in self._passed:
            self._late.add(position)
        return True

    def withdraw(self, call: StepCall) -> None:
        """The branch of `call` was cancelled before its turn."""
        position = self._journal.position(call.id)
        self._open.pop(position, None)
        self._late.discard(position)

    @property
    def waiting(self) -> bool:
        """Whether a memoized call waits for its turn."""
        return bool(self._open)

    @property
    def in_order(self) -> bool:
        """Whether the next memo in recorded order can be delivered at once."""
        if not self._journal.ordered:
            return bool(self._open)
        return bool(self._late) or self._cursor in self._open

    def next(self) -> tuple[StepCall, Memo, str | None] | None:
        """The next delivery and a warning, or None when no open call is memoized."""
        if not self._open:
            return None
        position = self._next_position()
        call = self._open.pop(position)
        warning = None
        if position in self._late:
            self._late.discard(position)
            self._passed.discard(position)
            warning = self._warn(call)
        elif self._journal.ordered:
            self._passed.update(range(self._cursor, position))
            self._cursor = position + 1
        while self._cursor in self._passed:
            self._cursor += 1
        call.state = CallState.DELIVERED
        self.delivered += 1
        return call, self._journal.at(position), warning

    def _next_position(self) -> int:
        if not self._journal.ordered:
            return min(self._open, key=lambda position: self._open[position].sequence)
        if self._late:
            return min(self._late)
        return self._cursor if self._cursor in self._open else min(self._open)

    def _warn(self, call: StepCall) -> str | None:
        if self._warned:
            return None
        self._warned = True
        return (
            f"The step {call.user_id!r} was recorded before steps that this replay has delivered"
            " already: the function reached its steps in another order than before. Results are"
            " right, but code that depends on the order of branches may see another one. This"
            " happens when a branch awaits something outside of steps, or when the function was"
            " changed while a run was under way."
        )
