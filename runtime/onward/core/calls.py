"""Steps as user code calls them, and what becomes of each call."""

from __future__ import annotations

from collections.abc import Container, Hashable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from onward.core.ids import hash_step
from onward.core.ops import ORCHESTRATED, ErrorInfo, Op, Opcode


class CallState(Enum):
    """Where a call is on its way from being called to being delivered."""

    OPEN = auto()  # called; nothing has happened yet
    RUNNING = auto()  # its body runs
    SETTLED = auto()  # its outcome is claimed, user code has not got it yet
    DELIVERED = auto()
    CLOSED = auto()  # its branch was cancelled


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a body, or a function, failed. `retry_after` in whole seconds; None: the default."""

    error: ErrorInfo
    retriable: bool = True
    retry_after: int | None = None


@dataclass(slots=True, eq=False)
class StepCall:
    """One call of a step.

    `name` is the op's own on the wire: None for the user's id, empty for none. `callable_key`
    groups bodies whose durations predict each other. `size` is that of `opts` in bytes, where they
    may be large. `expected` and `timeout` are in seconds;
    `tries` counts failures in place, `overdue`: the body could not be stopped at its timeout.
    `raced`: an earlier invocation reported it in race mode (see `core.racing`).
    `started_at`, `not_before` (of an in-place retry) and `wakes_at` (of a relative sleep) are
    instants on the driver's monotonic clock. `token` is the driver's own.
    """

    code: Opcode
    user_id: str
    name: str | None = None
    opts: dict[str, Any] = field(default_factory=dict)
    size: int = 0
    branch: Hashable = None
    callable_key: Hashable = None
    expected: float | None = None
    timeout: float | None = None
    barrier: bool = False
    in_place_left: int = 0
    tries: int = 0
    overdue: bool = False
    raced: bool = False
    token: Any = None
    index: int = 0
    id: str = ""
    sequence: int = 0
    state: CallState = CallState.OPEN
    op: Op | None = None
    value: Any = None
    failure: Failure | None = None
    started_at: float = 0.0
    not_before: float = 0.0
    wakes_at: float | None = None

    @property
    def orchestrated(self) -> bool:
        """Whether only the orchestrator can resolve it."""
        return self.code in ORCHESTRATED

    @property
    def outstanding(self) -> bool:
        """Whether its result makes a call of its own."""
        return self.raced or self.code in ORCHESTRATED

    def op_of(self, code: Opcode, **changes: Any) -> Op:
        """An op of kind `code` about this step."""
        return Op(
            code,
            self.id,
            self.user_id if self.name is None else self.name,
            self.user_id,
            self.user_id,
            self.index,
            **changes,
        )


class StepIds:
    """Counts repeated step ids, and notices those that are repeated from another branch."""

    __slots__ = ("_seen", "_warned")

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, Hashable]] = {}
        self._warned: set[str] = set()

    def assign(self, call: StepCall, taken: Container[str] = ()) -> str | None:
        """Give `call` its index and wire id. Returns a warning where the order is not certain.

        `taken`: wire ids that are in use. The second `a` has that of a step called `a:1`; if there
        is one, it gets the next that is free.
        """
        count, branch = self._seen.get(call.user_id, (0, call.branch))
        repeats = count > 0
        call.id = hash_step(call.user_id, count)
        while call.id in taken:
            count += 1
            call.id = hash_step(call.user_id, count)
        call.index = count
        self._seen[call.user_id] = (count + 1, branch)
        if not repeats or branch == call.branch or call.user_id in self._warned:
            return None
        self._warned.add(call.user_id)
        return (
            f"The step id {call.user_id!r} is used by concurrent branches. Which call gets which"
            " result depends on the order in which they reach it. Give each branch an id of its"
            " own, for instance with the branch's number in it."
        )
