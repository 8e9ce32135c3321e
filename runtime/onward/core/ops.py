"""What the runtime reports about steps: ops, their kinds, and their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Opcode(StrEnum):
    """The kind of an op. The values are the wire's own names."""

    NONE = "None"
    STEP_RUN = "StepRun"
    STEP_ERROR = "StepError"
    STEP_FAILED = "StepFailed"
    STEP_PLANNED = "StepPlanned"
    STEP_NOT_FOUND = "StepNotFound"
    SLEEP = "Sleep"
    WAIT_FOR_EVENT = "WaitForEvent"
    WAIT_FOR_SIGNAL = "WaitForSignal"
    INVOKE_FUNCTION = "InvokeFunction"
    DISCOVERY_REQUEST = "DiscoveryRequest"
    RUN_COMPLETE = "RunComplete"


#: Kinds that only the orchestrator can resolve.
ORCHESTRATED = frozenset(
    {Opcode.SLEEP, Opcode.WAIT_FOR_EVENT, Opcode.WAIT_FOR_SIGNAL, Opcode.INVOKE_FUNCTION}
)


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as it travels: `name` is the exception's class, `stack` its formatted traceback."""

    name: str
    message: str
    stack: str = ""


@dataclass(frozen=True, slots=True)
class Op:
    """One op.

    `id` is the hashed step id. `data` is the result as encoded JSON text (None: no data).
    `started_ns` is in nanoseconds since the epoch, `duration_ns` in nanoseconds.
    `size` counts the bytes of `data`, the part of an op that can be large.
    """

    code: Opcode
    id: str
    name: str = ""
    display_name: str = ""
    user_id: str = ""
    index: int = 0
    opts: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    error: ErrorInfo | None = None
    started_ns: int = 0
    duration_ns: int = 0

    @property
    def size(self) -> int:
        """Bytes of `data`."""
        return len(self.data) if self.data is not None else 0
