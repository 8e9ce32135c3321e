"""Checkpoints: finished ops handed to the orchestrator while the function keeps running."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from onward.core.ops import ErrorInfo, Op
from onward.core.retry import Verdict
from onward.protocol.call_request import CallRequest

_quote = json.encoder.encode_basestring_ascii


def checkpoint_path(run_id: str) -> str:
    """Where a background run's checkpoints go (recorded)."""
    return f"/v1/checkpoint/{run_id}/async"


def journal_path(run_id: str) -> str:
    """Where a run's memoized results are read (SDK specification, 4.4.2)."""
    return f"/v0/runs/{run_id}/actions"


def encode_error(error: ErrorInfo) -> dict[str, Any]:
    """The wire form of an error."""
    return {"name": error.name, "message": error.message, "stack": error.stack}


def encode_op(op: Op) -> str:
    """One op as JSON text. Written out by hand: `data` is JSON already and is not encoded twice.

    An op without a title is none of a step's (`RunComplete`, `None`): it has its result alone.
    """
    parts = [f'{{"id":"{op.id}","op":"{op.code.value}"']
    if op.display_name:
        display = _quote(op.display_name)
        if op.name:
            parts.append(f',"name":{display if op.name == op.display_name else _quote(op.name)}')
        parts.append(f',"displayName":{display}')
        if op.user_id:
            user_id = display if op.user_id == op.display_name else _quote(op.user_id)
            index = f',"index":{op.index}' if op.index else ""
            parts.append(f',"userland":{{"id":{user_id}{index}}}')
        parts.append(f',"opts":{json.dumps(op.opts) if op.opts else "{}"}')
    if op.data is not None:
        parts.append(f',"data":{op.data}')
    if op.error is not None:
        parts.append(f',"error":{json.dumps(encode_error(op.error))}')
    if op.started_ns:
        parts.append(f',"timing":{{"a":{op.started_ns},"b":{op.duration_ns}}}')
    parts.append("}")
    return "".join(parts)


def encode_ops(ops: Iterable[Op]) -> str:
    """Ops as the text of a JSON array."""
    return "[" + ",".join(map(encode_op, ops)) + "]"


def encode_checkpoint(
    call: CallRequest, ops: Iterable[Op], *, request_started_ms: int, sent_ms: int
) -> bytes:
    """The body of a checkpoint of `call`'s run. Times are milliseconds since the epoch."""
    head = json.dumps(
        {
            "run_id": call.run_id,
            "fn_id": call.fn_id,
            "qi_id": call.qi_id,
            "request_id": call.request_id,
            "generation_id": call.generation_id,
            "request_started_at": request_started_ms,
            "ts": sent_ms,
        }
    )
    return f'{head[:-1]},"steps":{encode_ops(ops)}}}'.encode()


class Checkpoints(Protocol):
    """How one invocation's checkpoints look, and what their answers mean.

    `hands_over`: whether the response of the invocation can carry what no checkpoint confirmed.
    `plain_result`: whether the function's result has to be the whole response.
    `heartbeat`: after so many seconds without a checkpoint an empty one says that the invocation
    lives; 0 for never. `patience`: how long a checkpoint may take, in seconds; None: until the
    deadline.
    """

    @property
    def hands_over(self) -> bool:
        """See above."""
        ...

    @property
    def plain_result(self) -> bool:
        """See above."""
        ...

    @property
    def heartbeat(self) -> float:
        """See above."""
        ...

    @property
    def patience(self) -> float | None:
        """See above."""
        ...

    def encode(
        self, ops: Iterable[Op], *, request_started_ms: int, sent_ms: int
    ) -> tuple[str, bytes] | None:
        """The path and the body of a checkpoint; None: it need not be sent."""
        ...

    def judge(self, verdict: Verdict, answer: str) -> Verdict:
        """What `verdict` means, given the server's answer."""
        ...


@dataclass(frozen=True, slots=True)
class BackgroundRun:
    """The checkpoints of a run that its orchestrator called."""

    call: CallRequest

    #: The orchestrator reads the response.
    hands_over = True
    plain_result = False
    heartbeat = 0.0
    patience = None

    def encode(
        self, ops: Iterable[Op], *, request_started_ms: int, sent_ms: int
    ) -> tuple[str, bytes] | None:
        """See `Checkpoints`."""
        body = encode_checkpoint(
            self.call, ops, request_started_ms=request_started_ms, sent_ms=sent_ms
        )
        return checkpoint_path(self.call.run_id), body

    def judge(self, verdict: Verdict, answer: str) -> Verdict:
        """See `Checkpoints`."""
        del answer
        return verdict
