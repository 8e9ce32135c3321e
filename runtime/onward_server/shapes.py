"""Which responses can never be right: they would hang, or run a step twice."""

from __future__ import annotations

from collections.abc import Sequence

from onward.core.ops import Opcode
from onward_server.answers import WireOp

_RESULTS = frozenset({Opcode.STEP_RUN.value, Opcode.STEP_FAILED.value})

_COMPLETED = "Answer RunComplete alone, or after the StepRun ops that nothing has confirmed."
_ERROR = "Confirm finished steps by a checkpoint first, and then answer one StepError alone."
_CONTINUE = (
    "Confirm what is finished and answer one DiscoveryRequest alone, or report the orchestrated ops"
    " and planned steps without it."
)


def describe(ops: Sequence[WireOp]) -> str:
    """`ops` for people."""
    return "[" + ", ".join(f"{op.code} {op.label!r}" for op in ops) + "]"


def refuse_shape(ops: Sequence[WireOp]) -> str | None:
    """Why a response of `ops` cannot work, and the fix; None if it can."""
    found = _misplaced(ops)
    if found is None:
        return None
    why, fix = found
    return f"The function answered {describe(ops)}, which cannot work: {why}. {fix}"


def _misplaced(ops: Sequence[WireOp]) -> tuple[str, str] | None:
    """Ops that must not stand beside each other."""
    kinds = [op.code for op in ops]
    complete = kinds.count(Opcode.RUN_COMPLETE)
    if complete and complete + kinds.count(Opcode.STEP_RUN) + (complete > 1) != len(kinds):
        return "a run cannot be complete and have open steps", _COMPLETED
    if Opcode.STEP_ERROR in kinds and len(kinds) > 1:
        return "the failed step would run again beside its own retry", _ERROR
    continued = kinds.count(Opcode.DISCOVERY_REQUEST)
    if continued and continued + sum(kind in _RESULTS for kind in kinds) < len(kinds):
        return "the open ops would never be called back", _CONTINUE
    return None
