"""Orchestrated ops as things to wait for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onward.core.durations import parse_duration
from onward.core.ops import Opcode
from onward.errors import ConfigurationError
from onward_server.answers import WireOp, parse_instant
from onward_server.expressions import parse_expression
from onward_server.json_text import loads
from onward_server.model import Pending
from onward_server.refusals import bad_response


def pending_of(op: WireOp, now_ms: int) -> Pending:
    """What the Sleep or WaitForEvent `op`, which came at `now_ms`, waits for.

    Raises RunRefusedError for a time or an expression that is not understood.
    """
    if op.code == Opcode.SLEEP:
        due = _due(op, op.opts.get("duration") or op.name, "its duration", now_ms)
        return Pending(op.id, op.code, op.race, due_ms=due, event=op.label)
    event = str(op.opts.get("event") or op.name)
    condition = str(op.opts.get("if") or "")
    if condition:
        try:
            parse_expression(condition)
        except ConfigurationError as error:
            raise bad_response(f"{op.code} {op.label!r} cannot be awaited. {error}") from None
    timeout = op.opts.get("timeout")
    due = _due(op, timeout, "its timeout", now_ms) if timeout else 0
    return Pending(op.id, op.code, op.race, due, event, condition)


def wakes(pending: Pending, event: Mapping[str, Any], first_event: str) -> bool:
    """Whether `event` is what `pending` waits for, in a run that `first_event` (JSON) started."""
    if pending.code != Opcode.WAIT_FOR_EVENT or pending.event != event["name"]:
        return False
    if not pending.condition:
        return True
    return parse_expression(pending.condition)({"event": loads(first_event), "async": event})


def _due(op: WireOp, value: object, what: str, now_ms: int) -> int:
    """When `value`, a duration or an RFC 3339 instant, ends: milliseconds since the epoch."""
    instant = parse_instant(value) if isinstance(value, str) else None
    if instant is not None:
        return max(1, round(instant * 1000))
    try:
        return now_ms + round(parse_duration(value, what=what) * 1000)
    except ConfigurationError as error:
        raise bad_response(f"{op.code} {op.label!r} cannot be timed: {error}") from None
