"""The failures that Onward itself reports, with messages that say what to change."""

from __future__ import annotations

from dataclasses import replace

from onward.core.calls import Failure, StepCall
from onward.core.journal import Memo
from onward.core.ops import ErrorInfo, Op, Opcode
from onward.errors import (
    CheckpointError,
    InvocationTooSlowError,
    MalformedCallRequestError,
    ResultTooLargeError,
    StepTimedOutError,
    UnknownFunctionError,
)

_NO_SUCH_FUNCTION = "could not find function with ID"


def result_too_large(name: str, size: int, over: str) -> Failure:
    """A step's result of `size` bytes is `over` some limit."""
    message = (
        f"The result of step {name!r} is {size:,} bytes, over {over}. Store it and return a"
        " reference, or split the step."
    )
    return Failure(ErrorInfo(ResultTooLargeError.__name__, message), retriable=False)


def function_result_too_large(size: int, limit: int) -> Failure:
    """The function's own result is over the limit."""
    message = (
        f"The function's result is {size:,} bytes, over the limit of {limit:,}. Return a reference"
        " to where it is stored instead."
    )
    return Failure(ErrorInfo(ResultTooLargeError.__name__, message), retriable=False)


def barrier(call: StepCall, reason: str) -> ErrorInfo:
    """A step that must not start before everything before it is confirmed."""
    message = (
        f"The step {call.user_id!r} is a barrier, and the results before it could not be confirmed"
        f" ({reason}). It was not started. Send the request again once the orchestrator answers."
    )
    return ErrorInfo(CheckpointError.__name__, message)


def step_timeout(call: StepCall) -> Failure:
    """A step ran longer than its own `timeout`."""
    message = (
        f"The step {call.user_id!r} ran longer than its timeout of {call.timeout:g} s and was"
        " stopped. Raise `timeout=`, or do less in the step."
    )
    return Failure(ErrorInfo(StepTimedOutError.__name__, message))


def step_over_deadline(call: StepCall, *, ran: float, window: float) -> Failure:
    """A step does not fit into an invocation. `ran` and `window` in seconds."""
    message = (
        f"The step {call.user_id!r} ran for {ran:.1f} s and was stopped at the deadline: an"
        f" invocation has {window:.1f} s for steps here, and this one had confirmed no step. A step"
        " must fit into one invocation: split it, or raise the platform's timeout (and"
        " `max_runtime`, if set)."
    )
    return Failure(ErrorInfo(StepTimedOutError.__name__, message))


def too_slow(*, spent: float, window: float) -> ErrorInfo:
    """An invocation whose time went outside of steps. Both in seconds."""
    message = (
        f"This invocation spent {spent:.1f} s of the {window:.1f} s it had without finishing a"
        " step: its time went outside of steps. Put the slow code into `ctx.step.run`, or raise the"
        " platform's timeout (and `max_runtime`, if set)."
    )
    return ErrorInfo(InvocationTooSlowError.__name__, message)


def step_not_found(target: str, waiting: str) -> ErrorInfo:
    """A targeted call for a step that the function does not reach."""
    message = (
        f"The orchestrator asked for the step {target}, but the function does not reach it: it"
        f" waits for {waiting}. The function was changed under a running run. Deploy the version"
        " that has the step, or cancel the run and start it again."
    )
    return ErrorInfo("StepNotFoundError", message)


def recorded(call: StepCall, memo: Memo) -> Failure | None:
    """The error in a memoized entry, if it has one.

    A function that nobody has is told from one that failed by the server's words alone (inngest,
    pkg/execution/runner/runner.go), and gets a name of its own.
    """
    error = memo.error
    if error is None:
        return None
    if call.code is Opcode.INVOKE_FUNCTION and error.message.startswith(_NO_SUCH_FUNCTION):
        error = replace(error, name=UnknownFunctionError.__name__)
    return Failure(error, retriable=False)


def unknown_memo(call: StepCall, memo: Memo) -> ErrorInfo:
    """A recorded result that nothing here can read: a newer server's, or another kind of step's."""
    keys = ", ".join(map(repr, memo.raw)) or "no keys"
    message = (
        f"The recorded result of step {call.user_id!r} is not one of a step of kind"
        f" {call.code.value}: it has {keys}. Either the orchestrator is newer than this Onward"
        " (upgrade Onward), or the function was changed under a running run, and the id belonged to"
        " a step of another kind (give the new step another id). Nothing was run, and no result is"
        " lost: the call is tried again."
    )
    return ErrorInfo(MalformedCallRequestError.__name__, message)


def unconfirmable(op: Op, reason: str) -> ErrorInfo:
    """A result that neither a checkpoint nor a response can carry."""
    message = (
        f"The result of step {op.user_id!r} ({op.size:,} bytes) could not be checkpointed"
        f" ({reason}) and is too large for a response. The step runs again."
    )
    return ErrorInfo(CheckpointError.__name__, message)
