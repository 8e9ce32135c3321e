"""Orchestrated ops as things to wait for, and what they resolve to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onward.core.durations import parse_duration
from onward.core.expressions import evaluable_expression
from onward.core.ops import ORCHESTRATED, Opcode
from onward.errors import ConfigurationError
from onward_server.answers import WireOp, encodable, error_info, parse_instant
from onward_server.events import EARLIEST_TS, LATEST_TS
from onward_server.json_text import dumps, loads
from onward_server.model import REPLACED, Holder, Invocation, Pending
from onward_server.refusals import RunRefusedError, bad_response

#: The kinds that are resolved here.
RESOLVED = frozenset(code.value for code in ORCHESTRATED)

_DAY_MS = 86_400_000
#: The furthest that a sleep may end and a wait may time out (the recorded server's limit).
LONGEST_MS = 366 * _DAY_MS
#: When a wait for a signal or a function times out that names no timeout (the server's default).
_DEFAULT_TIMEOUT_MS = 365 * _DAY_MS
_TOO_LONG = "InngestErrTimeoutTooLong"
_CONFLICT = "Signal conflict; signal wait already exists for another run"
_NULL = "null"


def pending_of(op: WireOp, now_ms: int, holder: Holder | None) -> Pending:
    """What the orchestrated `op`, which came at `now_ms`, waits for.

    `holder` is the run and the step that wait for its signal already. Raises RunRefusedError for a
    time, an expression or a target that is not understood, and for a signal that is taken.
    """
    if op.code == Opcode.SLEEP:
        due = _due(op, op.opts.get("duration") or op.name, "its duration", now_ms)
        return Pending(op.id, op.code, op.race, due, op.label)
    timeout = op.opts.get("timeout")
    if op.code == Opcode.WAIT_FOR_EVENT:
        # An empty timeout is one that is over: the TypeScript SDK's way to write a negative one.
        due = _due(op, timeout, "its timeout", now_ms) if timeout else now_ms
        event = _text(op, op.opts.get("event") or op.name, "the event's name")
        return Pending(op.id, op.code, op.race, due, event, _condition(op))
    due = _due(op, timeout, "its timeout", now_ms) if timeout else now_ms + _DEFAULT_TIMEOUT_MS
    if op.code == Opcode.INVOKE_FUNCTION:
        return Pending(op.id, op.code, op.race, due, op.label)
    signal = _text(op, op.opts.get("signal") or op.name, "the signal")
    if holder is not None and op.opts.get("conflict") != "replace":
        raise RunRefusedError(
            "Error",
            f"{_CONFLICT}: step {op.label!r} waits for the signal {signal!r}, and run {holder[0]}"
            ' waits for it already. Use another signal, or wait with on_conflict="replace".',
        )
    return Pending(op.id, op.code, op.race, due, signal)


def invocation_of(op: WireOp, pending: Pending) -> Invocation:
    """What the InvokeFunction `op` invokes. Raises RunRefusedError where it does not say."""
    function_id = _text(op, op.opts.get("function_id"), "opts.function_id")
    payload = op.opts.get("payload")
    payload = {} if payload is None else payload
    data = payload.get("data") if isinstance(payload, Mapping) else None
    if not isinstance(payload, Mapping) or not isinstance(data, Mapping | None):
        raise bad_response(
            f"{op.code} {op.label!r} cannot be invoked: opts.payload and its data must be JSON"
            " objects."
        )
    ts, id_, user = (payload.get(name) for name in ("ts", "id", "user"))
    timed = not ts or (type(ts) is int and EARLIEST_TS <= ts <= LATEST_TS)
    named = not id_ or (isinstance(id_, str) and encodable(id_))
    if not timed or not named or not isinstance(user, Mapping | None):
        raise bad_response(
            f"{op.code} {op.label!r} cannot be invoked: opts.payload has a ts that is not"
            " milliseconds between 1980 and 2100, an id that is no text, or a user that is no JSON"
            " object."
        )
    return Invocation(op.id, op.label, function_id, payload, pending.due_ms)


def wakes(pending: Pending, event: Mapping[str, Any], first_event: str) -> bool:
    """Whether `event` is what `pending` waits for, in a run that `first_event` (JSON) started."""
    if pending.code != Opcode.WAIT_FOR_EVENT or pending.event != event["name"]:
        return False
    if not pending.condition:
        return True
    scope = {"event": loads(first_event), "async": event}
    return evaluable_expression(pending.condition).test(scope)


def signal_of(pending: Pending) -> str:
    """The signal that resolves `pending`; empty for other kinds and for a replaced wait."""
    waiting = pending.code == Opcode.WAIT_FOR_SIGNAL and pending.condition != REPLACED
    return pending.event if waiting else ""


def event_of(pending: Pending) -> str:
    """The name of the event that may resolve `pending`; empty for other kinds."""
    return pending.event if pending.code == Opcode.WAIT_FOR_EVENT else ""


def signal_entry(signal: str, data: object) -> str:
    """The journal entry of a wait whose signal came with `data` (recorded)."""
    return dumps({"data": {"data": data, "signal": signal}})


def elapsed_entry(pending: Pending) -> str:
    """The journal entry of an op whose time is over."""
    if pending.code != Opcode.INVOKE_FUNCTION:
        return _NULL
    error = error_info(
        "InngestInvokeTimeoutError", "Timed out waiting for invoked function to complete"
    )
    return dumps({"error": error})


def _condition(op: WireOp) -> str:
    condition = str(op.opts.get("if") or "")
    if condition:
        try:
            evaluable_expression(condition)
        except ConfigurationError as error:
            raise RunRefusedError(
                "InvalidExpression",
                f"Wait for event If expression failed to compile: {op.code} {op.label!r} cannot be"
                f" awaited. {error}",
            ) from None
    return condition


def _text(op: WireOp, value: object, what: str) -> str:
    if not isinstance(value, str) or not value or not encodable(value):
        raise bad_response(
            f"{op.code} {op.label!r} cannot be resolved: {what} must be a non-empty string of valid"
            f" Unicode, not {value!r}."
        )
    return value


def _due(op: WireOp, value: object, what: str, now_ms: int) -> int:
    """When `value`, a duration or an RFC 3339 instant, ends: milliseconds since the epoch."""
    instant = parse_instant(value) if isinstance(value, str) else None
    if instant is not None:
        due = max(1, round(instant * 1000))
    else:
        try:
            due = now_ms + round(min(parse_duration(value, what=what) * 1000, 2.0 * LONGEST_MS))
        except ConfigurationError as error:
            raise bad_response(f"{op.code} {op.label!r} cannot be timed: {error}") from None
    if due - now_ms > LONGEST_MS:
        raise RunRefusedError(
            _TOO_LONG,
            f"{op.code} {op.label!r} ends more than one year from now ({value!r}): sleeps, waits"
            " and invocations may last at most one year.",
        )
    return due
