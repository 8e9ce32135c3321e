"""What an invocation may answer, and nothing else.

A response is exactly one of the shapes that the constructors below make. Everything else that was
tried on a real server starves, hangs or runs steps twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onward.core.ids import RUN_COMPLETE_ID, continuation_id
from onward.core.ops import ErrorInfo, Op, Opcode

STATUS_OPS = 206
STATUS_DONE = 200
STATUS_RETRY = 500
STATUS_NO_RETRY = 400

RACE = {"parallelMode": "race"}


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to one call request.

    `ops` for status 206, `result` (JSON text) for 200, `error` for 400 and 500. `no_retry` and
    `retry_after` (seconds) become headers; None leaves the header out.
    """

    status: int
    ops: tuple[Op, ...] = ()
    result: str | None = None
    error: ErrorInfo | None = None
    no_retry: bool | None = None
    retry_after: int | None = None


def run_complete(result: str, before: Sequence[Op] = ()) -> Response:
    """The run's result (JSON text), after the results that nothing has confirmed yet."""
    done = Op(Opcode.RUN_COMPLETE, RUN_COMPLETE_ID, data=result)
    return Response(STATUS_OPS, (*before, done))


def classic_complete(result: str) -> Response:
    """The run's result without checkpointing."""
    return Response(STATUS_DONE, result=result)


def plain_complete(result: str) -> Response:
    """The result of a run that went on without its caller: servers read it in an envelope."""
    return Response(STATUS_DONE, result=f'{{"data":{result}}}')


def step_run(op: Op) -> Response:
    """One finished step. The orchestrator calls again at once, with a new attempt counter."""
    return Response(STATUS_OPS, (op,))


def step_failed(op: Op, *, retry_after: int | None = None) -> Response:
    """One failed step: `StepError` to be tried again, `StepFailed` for good."""
    final = op.code is Opcode.STEP_FAILED
    return Response(STATUS_OPS, (op,), no_retry=final, retry_after=None if final else retry_after)


def plan(ops: Sequence[Op]) -> Response:
    """Orchestrated ops and planned steps, all in race mode: without it one starves another."""
    return Response(STATUS_OPS, tuple(in_race_mode(op) for op in ops))


def in_race_mode(op: Op) -> Op:
    """`op` with the mode in which each resolution calls the function at once."""
    return replace(op, opts={**op.opts, **RACE})


def continuation(request_id: str) -> Response:
    """Checkpoint and continue: nothing is left to hand over, call again at once."""
    op = Op(Opcode.DISCOVERY_REQUEST, continuation_id(request_id), "continue", "continue")
    return Response(STATUS_OPS, (op,))


def over(request_id: str) -> Response:
    """The quiet way out of a run that is over or owned by another invocation: no further call."""
    return Response(STATUS_OPS, (Op(Opcode.NONE, continuation_id(request_id)),))


def handover(finished: Sequence[Op], planned: Op | None) -> Response:
    """Finished steps that no checkpoint could confirm.

    A planned step beside them folds their resolutions into one call.
    """
    return Response(STATUS_OPS, (*finished, planned) if planned else tuple(finished))


def after(waiting: Sequence[Op], response: Response) -> Response:
    """`response` after results that wait for their confirmation: for those that nobody hands over.

    No orchestrator reads this answer; its ops become the run's last checkpoint.
    """
    return replace(response, ops=(*waiting, *response.ops))


def function_error(
    error: ErrorInfo, *, retriable: bool, retry_after: int | None = None
) -> Response:
    """The function raised."""
    if retriable:
        return Response(STATUS_RETRY, error=error, no_retry=False, retry_after=retry_after)
    return Response(STATUS_NO_RETRY, error=error, no_retry=True)
