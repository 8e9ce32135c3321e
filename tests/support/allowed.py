"""What an invocation may answer, written from the semantics and the recorded traps alone.

Everything else starves a branch, hangs the run, or runs a step twice on a real server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from onward.core.response import Response

#: Bytes of results that one response may hold.
MOST_BYTES = 3_000_000

_WAITS = {"Sleep", "WaitForEvent", "WaitForSignal", "InvokeFunction"}


def wire_ops(response: Response) -> list[dict[str, Any]]:
    """The ops of `response`, as far as this module looks at them."""
    return [{"op": str(op.code), "id": op.id, "opts": op.opts} for op in response.ops]


def why_not(
    ops: Sequence[Mapping[str, Any]],
    *,
    targeted: bool = False,
    unconfirmable: bool = False,
) -> str | None:
    """Why a response with status 206 must not have these ops; None if it may.

    `targeted`: one step was asked for. `unconfirmable`: a checkpoint could not be confirmed.
    """
    kinds = Counter(str(op["op"]) for op in ops)
    if not ops:
        return "it has no op"
    if len({op["id"] for op in ops}) < len(ops):
        return "it has two ops with one id"
    if any(not op["id"] for op in ops):
        return "an op has no id: the function would be called again"
    if targeted and not _all_race(op for op in ops if op["op"] not in _STOPS):
        return "the answer of a targeted call is not in race mode"
    if kinds["RunComplete"]:
        return _why_not_complete(ops, kinds)
    for alone in ("StepError", "StepFailed", "DiscoveryRequest", "None"):
        if kinds[alone] and len(ops) > 1:
            return f"{alone} does not stand alone"
    if sum(kinds[alone] for alone in ("StepError", "StepFailed", "DiscoveryRequest", "None")):
        return None
    return _why_not_open(ops, kinds, unconfirmable=unconfirmable)


#: Ops that end a call without a result of a step.
_STOPS = {"RunComplete", "DiscoveryRequest", "None"}


def _all_race(ops: Any) -> bool:
    return all((op.get("opts") or {}).get("parallelMode") == "race" for op in ops)


def _why_not_complete(ops: Sequence[Mapping[str, Any]], kinds: Counter[str]) -> str | None:
    if kinds["RunComplete"] > 1 or set(kinds) - {"RunComplete", "StepRun"}:
        return "beside RunComplete there may be StepRuns only"
    return None if ops[-1]["op"] == "RunComplete" else "StepRuns come before RunComplete"


def _why_not_open(
    ops: Sequence[Mapping[str, Any]], kinds: Counter[str], *, unconfirmable: bool
) -> str | None:
    unknown = set(kinds) - _WAITS - {"StepRun", "StepPlanned"}
    if unknown:
        return f"it has {sorted(unknown)}"
    if not kinds["StepRun"]:
        return None if _all_race(ops) else "not every op is in race mode"
    if len(ops) == 1:
        return None
    if not unconfirmable:
        return "StepRuns stand beside others although they could have been confirmed"
    if set(kinds) - {"StepRun", "StepPlanned"} or kinds["StepPlanned"] > 1:
        return "beside StepRuns that nothing could confirm there may be one StepPlanned only"
    return None


def why_not_answer(
    response: Response,
    *,
    targeted: bool = False,
    classic: bool = False,
    unconfirmable: bool = False,
) -> str | None:
    """Why `response` must not be answered; None if it may. `classic`: without checkpointing."""
    if response.status == 206:
        if response.result is not None or response.error is not None:
            return "a response with ops has a result or an error too"
        if sum(op.size for op in response.ops) > MOST_BYTES and len(response.ops) > 1:
            return "it is too large"
        return why_not(wire_ops(response), targeted=targeted, unconfirmable=unconfirmable)
    if response.ops:
        return f"status {response.status} has ops"
    if response.status == 200:
        return None if classic and response.result is not None else "status 200 without a result"
    if response.error is None or response.no_retry is not (response.status == 400):
        return f"status {response.status} without an error, or with the wrong retry header"
    return None if response.status in {400, 500} else f"the status is {response.status}"


_ALONE = {"StepError": "b", "StepFailed": "b", "DiscoveryRequest": "c", "None": "f"}


def allowed_response(
    ops: Sequence[Mapping[str, Any]], *, targeted: bool = False, unconfirmable: bool = False
) -> str:
    """Which of the allowed responses `ops` are: `a` to `f` as in the design, or `handover`.

    `targeted`: they answer a call for one step. `unconfirmable`: a checkpoint of this invocation
    was not confirmed. Raises AssertionError for anything that is not allowed.
    """
    reason = why_not(ops, targeted=targeted, unconfirmable=unconfirmable)
    shown = [(op["op"], op.get("displayName"), op.get("opts")) for op in ops]
    assert reason is None, f"{reason}: {shown}"
    kinds = [op["op"] for op in ops]
    if kinds[-1] == "RunComplete":
        return "a"
    if kinds[0] == "StepRun":
        return "d" if len(ops) == 1 else "handover"
    return _ALONE.get(kinds[0], "e")


def one_outcome(confirmed: Mapping[str, Any], ops: Sequence[Mapping[str, Any]]) -> None:
    """A step has one outcome: `ops` say nothing else of a step than what was confirmed before.

    `confirmed` are results by step id. Raises AssertionError.
    """
    for op in ops:
        if op["id"] in confirmed:
            assert op["op"] == "StepRun", (
                f"{op['displayName']} was confirmed, and is {op['op']} now"
            )
            assert op.get("data") == confirmed[op["id"]], f"{op['displayName']} has two results"
