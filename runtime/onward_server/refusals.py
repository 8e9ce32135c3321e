"""Runs that cannot go on: each ends with an error that says why, where elsewhere it would hang."""

from __future__ import annotations

from collections.abc import Sequence

from onward_server.answers import WireOp, error_info
from onward_server.settings import Settings
from onward_server.shapes import describe


class RunRefusedError(Exception):
    """The run fails with this error now."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.error = error_info(name, message)


def bad_response(message: str) -> RunRefusedError:
    """A response that would hang the run, or run a step twice."""
    return RunRefusedError("ResponseRefusedError", message)


def second_outcome(op: WireOp) -> RunRefusedError:
    """A failure reported for a step that has a result."""
    return bad_response(
        f"The function answered {op.code} for step {op.label!r}, whose result it had checkpointed"
        " before; a step has one outcome. Elsewhere this run would hang. Answer StepFailed only for"
        " a step that nothing has confirmed."
    )


def planned_again() -> RunRefusedError:
    """A targeted call that did not run its step."""
    return bad_response(
        "The function was called to run one planned step and planned it again instead. A call whose"
        " stepId is a step's id must run that step."
    )


def repeated_continuation(op: WireOp) -> RunRefusedError:
    """A continuation under the id of an earlier one."""
    return bad_response(
        f"The function continued with the DiscoveryRequest id {op.id!r} a second time. Elsewhere a"
        " repeated id is dropped and the run hangs: derive the id from the call request's"
        " request_id, which is new each time."
    )


def idle(times: int) -> RunRefusedError:
    """Continuation after continuation without a result."""
    return RunRefusedError(
        "NoProgressError",
        f"The function asked to be called again {times} times in a row without one new result."
        " Answer a retriable error when an invocation gets nothing done, so that its attempts run"
        " out.",
    )


def stalled(ops: Sequence[WireOp]) -> RunRefusedError:
    """Nothing is left that could ever call the function again."""
    return RunRefusedError(
        "RunStalledError",
        f"The function answered {describe(ops)} and nothing is left to wait for: no call, no sleep,"
        " no event. Elsewhere this run would hang. Report only steps that the journal does not"
        " have, and end quietly (a None op with an id) only when another invocation owns the run.",
    )


def overflow(steps: int, size: int, settings: Settings) -> RunRefusedError:
    """A journal that has outgrown the limits; names and first sentences are the server's own."""
    advice = (
        f"It has {steps:,} steps and {size:,} bytes of results. Split the work into several runs,"
        " or keep large results elsewhere and return where they are."
    )
    if steps >= settings.max_steps:
        return RunRefusedError(
            "InngestErrFunctionOverflowed",
            f"The function run exceeded the step limit of {settings.max_steps} steps. {advice}",
        )
    return RunRefusedError(
        "InngestErrStateOverflowed",
        f"The function run exceeded the state size limit of {settings.max_run_bytes} bytes."
        f" {advice}",
    )


def step_not_found(target: str) -> RunRefusedError:
    """The function does not have a step that it planned."""
    return RunRefusedError(
        "StepNotFoundError",
        f"The function was called for its step {target!r} and does not have it any more. The code"
        " changed under this run: bring the step back, or start a new run.",
    )


def too_large(op: WireOp, limit: int) -> str:
    """The message about a result over `limit` bytes."""
    return (
        f"step output too large: step {op.id} ({op.label!r}) is {len(op.result):,} bytes, the limit"
        f" is {limit:,}. Return less, or store the data elsewhere and return where it is."
    )
