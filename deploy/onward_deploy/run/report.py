"""What `onward run` saw of a run, and the object that `--json` prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from onward.core.ops import ORCHESTRATED, Opcode

if TYPE_CHECKING:
    from onward_deploy.run.ledger import Ledger

COMPLETED = "Completed"


class Ending(StrEnum):
    """How an invocation ended."""

    RUNNING = "running"
    CONTINUE = "continue"
    COMPLETE = "complete"
    KILLED = "killed"
    CRASHED = "crashed"
    STEP = "step"
    STEP_ERROR = "step error"
    STEP_FAILED = "step failed"
    WAITING = "waiting"
    PLANNED = "planned"
    ERROR = "error"
    FAILED = "failed"
    OVER = "over"
    STOPPED = "stopped"


#: The first kind found in an answer's ops says how the invocation ended.
_BY_OPCODE = (
    (Opcode.RUN_COMPLETE, Ending.COMPLETE),
    (Opcode.STEP_FAILED, Ending.STEP_FAILED),
    (Opcode.STEP_ERROR, Ending.STEP_ERROR),
    (Opcode.DISCOVERY_REQUEST, Ending.CONTINUE),
    *((opcode, Ending.WAITING) for opcode in sorted(ORCHESTRATED)),
    (Opcode.STEP_PLANNED, Ending.PLANNED),
    (Opcode.STEP_RUN, Ending.STEP),
    (Opcode.NONE, Ending.OVER),
)

_DONE, _OPS, _NOT_AGAIN = 200, 206, 400


def classify(answer: dict[str, Any]) -> tuple[Ending, str]:
    """How an invocation ended that gave `answer` (`status` and `body`), and the error's words."""
    status, body = answer["status"], answer["body"]
    if status == _OPS and isinstance(body, list):
        by_opcode = {op["op"]: op for op in body}
        for opcode, ending in _BY_OPCODE:
            if opcode in by_opcode:
                return ending, _error_words(by_opcode[opcode])
        return Ending.OVER, ""
    if status == _DONE:
        return Ending.COMPLETE, ""
    return Ending.FAILED if status == _NOT_AGAIN else Ending.ERROR, _error_words({"error": body})


def _error_words(op: dict[str, Any]) -> str:
    error = op.get("error")
    if not isinstance(error, dict):
        return ""
    where = f"{op['displayName']}: " if op.get("displayName") else ""
    return f"{where}{error.get('name', 'Error')}: {error.get('message', '')}"


@dataclass
class Invocation:
    """One invocation. Times are seconds; `started` counts from the start of the run.

    `limit` is when it is killed. `memoized` is how many results its call request carried.
    `margin` is what was left of the limit when it answered, None when it did not answer.
    """

    number: int
    request_id: str
    attempt: int
    target: str
    memoized: int
    started: float
    limit: float
    ending: Ending = Ending.RUNNING
    detail: str = ""
    seconds: float = 0.0
    checkpoints: int = 0
    exit_status: int | None = None

    @property
    def margin(self) -> float | None:
        """Seconds between the answer and the kill that would have come."""
        if self.ending is Ending.RUNNING or self.exit_status is not None:
            return None
        return self.limit - self.seconds


@dataclass
class Report:
    """A run as seen from outside: by the parent's clock, exit statuses, and the ledger.

    `limited` says that the user chose `limit`, so that margins mean something.
    """

    app: str
    function: str
    ledger: Ledger
    limit: float
    limited: bool = True
    run_id: str = ""
    status: str = ""
    result: Any = None
    error: dict[str, Any] | None = None
    wall: float = 0.0
    invocations: list[Invocation] = field(default_factory=list)

    @property
    def completed(self) -> bool:
        """Whether the run ended with a result."""
        return self.status == COMPLETED

    @property
    def checkpoints(self) -> int:
        """How many checkpoints the orchestrator confirmed."""
        return sum(one.checkpoints for one in self.invocations)

    @property
    def killed(self) -> int:
        """How many invocations ended by SIGKILL, by the exit statuses of their processes."""
        return self._ended(Ending.KILLED)

    @property
    def continuations(self) -> int:
        """How many invocations answered checkpoint and continue."""
        return self._ended(Ending.CONTINUE)

    def _ended(self, ending: Ending) -> int:
        return sum(one.ending is ending for one in self.invocations)

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints. Durations are milliseconds."""
        repeated = self.ledger.repeated
        return {
            "status": self.status,
            "run_id": self.run_id,
            "app": self.app,
            "function": self.function,
            "result": self.result,
            "error": self.error,
            "invocations": len(self.invocations),
            "steps": self.ledger.steps,
            "steps_repeated": len(repeated),
            "repeated": repeated,
            "checkpoints": self.checkpoints,
            "continuations": self.continuations,
            "killed": self.killed,
            "wall_ms": _ms(self.wall),
            "limit_ms": _ms(self.limit),
            "timeline": [self._row(one) for one in self.invocations],
        }

    def _row(self, one: Invocation) -> dict[str, Any]:
        steps = self.ledger.of(one.number)
        return {
            "invocation": one.number,
            "attempt": one.attempt,
            "target": one.target,
            "started_ms": _ms(one.started),
            "duration_ms": _ms(one.seconds),
            "memoized": one.memoized,
            "steps": steps.ended,
            "cut": steps.in_flight,
            "checkpoints": one.checkpoints,
            "ended_by": one.ending.value,
            "margin_ms": None if one.margin is None else _ms(one.margin),
            "exit_status": one.exit_status,
            "detail": one.detail or None,
        }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
