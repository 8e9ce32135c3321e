"""Building the ops of responses that hand work back to the orchestrator."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from onward.core import response as answers
from onward.core.calls import StepCall
from onward.core.journal import Memo
from onward.core.ops import Op, Opcode

#: No response is larger than this, in bytes.
RESPONSE_LIMIT = 3_000_000


def planned(call: StepCall, now: float) -> Op:
    """The op for an open call: its own for an orchestrated one, else `StepPlanned`.

    A relative sleep became an instant when it was called; what is left of it at `now` is sent.
    """
    if not call.orchestrated:
        return call.op_of(Opcode.STEP_PLANNED, opts=call.opts)
    opts = dict(call.opts)
    if call.wakes_at is not None:
        left = max(0, round((call.wakes_at - now) * 1000))
        opts["duration"] = call.name = f"{left}ms"
    return call.op_of(call.code, opts=opts)


def that_go_together(calls: Iterable[StepCall]) -> list[StepCall]:
    """Those of `calls`, in order, whose ops one response can carry; the rest is planned later.

    Each op that is resolved makes a call of its own, in which what is still open is planned.
    """
    room = RESPONSE_LIMIT
    together: list[StepCall] = []
    for call in calls:
        if call.size <= room:
            room -= call.size
            together.append(call)
    return together


def again(call: StepCall | None, memo: Memo) -> answers.Response:
    """The answer to a targeted call whose result is in the journal already: the same result."""
    known = call or StepCall(Opcode.STEP_RUN, memo.id, id=memo.id)
    if memo.error:
        op = known.op_of(Opcode.STEP_FAILED, error=memo.error)
        return answers.step_failed(answers.in_race_mode(op))
    data = json.dumps(memo.value)
    if len(data) > RESPONSE_LIMIT:
        data = "null"  # the first result is kept, whatever is answered
    op = known.op_of(Opcode.STEP_RUN, data=data)
    return answers.step_run(answers.in_race_mode(op))


def that_fit(ops: Sequence[Op]) -> list[Op]:
    """The first of `ops` that one response can carry."""
    room = RESPONSE_LIMIT
    fitting: list[Op] = []
    for op in ops:
        room -= op.size
        if room < 0:
            break
        fitting.append(op)
    return fitting
