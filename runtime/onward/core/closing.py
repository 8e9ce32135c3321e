"""How an invocation ends that answers its own caller: what the run's last checkpoint says.

The orchestrator does not read such an answer. So what would have been the response of a call
becomes ops of a checkpoint, and the ending says what the caller is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from onward.core.ids import RUN_COMPLETE_ID
from onward.core.ops import Op, Opcode
from onward.core.response import Response


class Ending(Enum):
    """What the caller is told."""

    RESULT = auto()  # the handler's own response
    FAILED = auto()  # its exception: nothing tries it again
    ASYNC = auto()  # where the response will be: the orchestrator goes on
    GONE = auto()  # the same: somebody else owns the run already


@dataclass(frozen=True, slots=True)
class Closing:
    """The last checkpoint, `ops` (none for a run that is not ours any more), and the ending."""

    ending: Ending
    ops: tuple[Op, ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether the run goes on without this invocation."""
        return self.ending in {Ending.ASYNC, Ending.GONE}


def closing(response: Response, failed: str) -> Closing:
    """How the invocation that decided on `response` ends.

    `failed` is the result (JSON text) of a run whose function failed for good. One that failed
    otherwise is tried again as the reference SDK asks for it: by a `StepError` under the id of the
    run's completion.
    """
    ops = response.ops
    if response.error is not None:
        if response.no_retry:
            return Closing(Ending.FAILED, (*ops, _complete(failed)))
        name = response.error.name
        again = Op(Opcode.STEP_ERROR, RUN_COMPLETE_ID, name, name, error=response.error)
        return Closing(Ending.ASYNC, (*ops, again))
    if any(op.code is Opcode.NONE for op in ops):
        return Closing(Ending.GONE)
    if response.result is not None or any(op.code is Opcode.RUN_COMPLETE for op in ops):
        return Closing(Ending.RESULT, ops)
    return Closing(Ending.ASYNC, ops)


def _complete(result: str) -> Op:
    return Op(Opcode.RUN_COMPLETE, RUN_COMPLETE_ID, data=result)
