"""The buffer: finished ops that nothing has confirmed yet, and when it has to be flushed."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from onward.core.ops import Op

#: Buffered results of this size, in bytes, are flushed whatever the options say.
FLUSH_BYTES = 1_000_000

#: A pipelined window holds at least this many steps.
PIPELINE_STEPS = 100


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When the buffer is flushed. `max_interval` in seconds, 0 for none."""

    buffered_steps: int = 1
    max_interval: float = 0.0
    pipelined: bool = False


class Buffer:
    """Unconfirmed ops in the order of their delivery: a batch in flight, and what came since."""

    __slots__ = ("_policy", "bytes", "confirmed", "in_flight", "oldest_at", "waiting")

    def __init__(self, policy: FlushPolicy) -> None:
        self._policy = policy
        self.waiting: list[Op] = []
        self.in_flight: tuple[Op, ...] = ()
        self.bytes = 0
        self.oldest_at = inf
        self.confirmed = 0

    def __bool__(self) -> bool:
        return bool(self.waiting or self.in_flight)

    @property
    def unconfirmed(self) -> tuple[Op, ...]:
        """Everything that may be lost, in order."""
        return (*self.in_flight, *self.waiting)

    def add(self, op: Op, now: float) -> None:
        """Append a finished op."""
        if not self.waiting:
            self.oldest_at = now
        self.waiting.append(op)
        self.bytes += op.size

    @property
    def full(self) -> bool:
        """Whether nothing may be delivered before a flush."""
        steps = self._policy.buffered_steps
        if self._policy.pipelined:
            steps = max(steps, PIPELINE_STEPS)
        return len(self.waiting) >= steps or self.bytes >= FLUSH_BYTES

    def due_at(self) -> float:
        """When the oldest waiting op has to be on its way; the monotonic clock, `inf` for never."""
        if not self.waiting or not self._policy.max_interval:
            return inf
        return self.oldest_at + self._policy.max_interval

    def due(self, now: float) -> bool:
        """Whether what waits should be sent now."""
        if not self.waiting or self.in_flight:
            return False
        return self._policy.pipelined or self.full or now >= self.due_at()

    def take(self, limit: int | None = None) -> tuple[Op, ...]:
        """Put what waits, or its first `limit` ops, in flight.

        One batch at a time keeps the journal a prefix of what user code saw.
        """
        if self.in_flight:
            msg = "a batch is in flight already"
            raise RuntimeError(msg)
        self.in_flight = tuple(self.waiting[:limit])
        self.waiting = self.waiting[len(self.in_flight) :]
        self.bytes = sum(op.size for op in self.waiting)
        self.oldest_at = -inf if self.waiting else inf
        return self.in_flight

    def confirm(self) -> None:
        """The batch in flight is safe."""
        self.confirmed += len(self.in_flight)
        self.in_flight = ()

    def fail(self) -> None:
        """The batch in flight was not confirmed: it waits again, before what came since."""
        self.waiting[:0] = self.in_flight
        self.in_flight = ()
        self.bytes = sum(op.size for op in self.waiting)
        self.oldest_at = -inf

    def drop(self, op: Op) -> None:
        """Forget `op`, which can never be confirmed."""
        self.waiting.remove(op)
        self.bytes -= op.size
