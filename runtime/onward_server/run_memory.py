"""What one run knows, and how results and waits enter it. No IO."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from onward.core.ops import Opcode
from onward_server import waits
from onward_server.answers import WireOp
from onward_server.json_text import dumps, loads
from onward_server.model import (
    REPLACED,
    DropPending,
    Effects,
    Holder,
    Job,
    Now,
    Pending,
    PutPending,
    PutStep,
    ReplaceSignal,
    Status,
)
from onward_server.settings import Settings

_NULL = "null"


@dataclass(slots=True)
class RunMemory:
    """What a run knows: its journal, what it waits for, the calls that are due or in flight.

    `steps` maps each memoized id, in order, to its `"id":entry` JSON text.

    `events` is the JSON text of the array of events that started it. `redo` is the position of a
    result that came while a call was in flight that could not see it: one more call follows.
    `idle` counts continuations in a row that brought no result. `no_retry`: the function said that
    its failure is final. `expired`: why it is cancelled as soon as no call is in flight.
    """

    run_id: str
    function_id: str
    event_id: str
    event_names: str
    events: str
    settings: Settings
    max_attempts: int
    started_ms: int
    version: int = -1
    status: Status = Status.RUNNING
    steps: dict[str, str] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    size: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    continuations: set[str] = field(default_factory=set)
    redo: int | None = None
    idle: int = 0
    ended_ms: int = 0
    output: str = _NULL
    first_event: str = ""
    no_retry: bool = False
    expired: str = ""

    def __post_init__(self) -> None:
        self.first_event = dumps(loads(self.events)[0])

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status is not Status.RUNNING

    @property
    def called(self) -> bool:
        """Whether a call was made, as far as an earlier process wrote it down."""
        return self.version != -1 or any(job.generation for job in self.jobs.values())

    def holds_success(self, id_: str) -> bool:
        """Whether `id_` is memoized with anything but an error."""
        text = self.steps.get(id_)
        return text is not None and not text[len(dumps(id_)) + 1 :].startswith('{"error":')

    def add_memo(self, id_: str, entry: str) -> int:
        """Memoizes `entry` (JSON text) in memory, and returns its position from 0."""
        self.positions[id_] = position = len(self.steps)
        self.steps[id_] = f"{dumps(id_)}:{entry}"
        self.size += len(entry)
        return position

    def save(self, id_: str, label: str, entry: str, effects: Effects) -> int:
        """The position of `id_` in the journal, counted from 1. The first result wins."""
        position = self.positions.get(id_)
        if position is None:
            position = self.add_memo(id_, entry)
            effects.writes.append(PutStep(self.run_id, position, id_, label, entry))
            effects.fresh += 1
            self.idle = 0
        return position + 1

    def forget(self, id_: str, effects: Effects) -> None:
        """What `id_` waited for has come, or is planned anew."""
        del self.pending[id_]
        effects.writes.append(DropPending(self.run_id, id_))

    def wait(self, op: WireOp, effects: Effects, now: Now) -> None:
        """Waits for what resolves the orchestrated `op`, once. Raises RunRefusedError."""
        if op.id in self.pending or op.id in self.steps:
            return
        holder = self._holder(str(op.opts.get("signal") or op.name), now)
        pending = waits.pending_of(op, now.ms, holder)
        if holder is not None and waits.signal_of(pending):
            self._give_up_signal(holder, effects)
        self.add_pending(pending, effects)
        if op.code == Opcode.INVOKE_FUNCTION:
            effects.invocations.append(waits.invocation_of(op, pending))
        if pending.due_ms:
            effects.timers.append((pending.due_ms, pending.id))

    def _holder(self, signal: str, now: Now) -> Holder | None:
        own = [p.id for p in self.pending.values() if waits.signal_of(p) == signal]
        return (self.run_id, own[0]) if own else now.holder(signal)

    def _give_up_signal(self, holder: Holder, effects: Effects) -> None:
        """Leaves the step that waited for a signal so far to its timeout."""
        effects.writes.append(ReplaceSignal(*holder))
        if holder[0] == self.run_id:
            self.pending[holder[1]] = replace(self.pending[holder[1]], condition=REPLACED)

    def add_pending(self, pending: Pending, effects: Effects) -> None:
        """Notes what is waited for."""
        self.pending[pending.id] = pending
        effects.writes.append(PutPending(self.run_id, pending))
