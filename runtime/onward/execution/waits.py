"""What the orchestrator resolves with a value: waits, signals, invoked functions.

Imported when a function first uses one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from onward.context import InboundEvent, InboundSignal
from onward.core.durations import format_duration, parse_duration
from onward.core.ops import Opcode
from onward.core.planning import RESPONSE_LIMIT
from onward.core.values import PLAIN, Codec, codec_for, codec_of
from onward.errors import EventError, StepUsageError
from onward.triggers import Event

if TYPE_CHECKING:
    from onward.app import App, Function

_CONFLICTS = ("fail", "replace")


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a call needs besides its id. `name` is the op's own on the wire; see `StepCall`."""

    code: Opcode
    name: str
    opts: dict[str, Any]
    codec: Codec
    size: int = 0


class EventCodec(Codec):
    """An awaited event as user code gets it; its data as `schema` says, or else the app's own."""

    __slots__ = ("_app", "_schema")

    def __init__(self, app: App, schema: Any) -> None:
        self._app = app
        self._schema = schema

    def load(self, data: Any, where: str) -> InboundEvent | None:
        """See `Codec.load`. Raises EventSchemaError."""
        if data is None:
            return None
        event = InboundEvent.of(data)
        if self._schema is None and not self._app.event_schemas:
            return event
        from onward.schemas import received

        value = received(
            self._app, event.name, event.data, schema=self._schema, event_id=event.id, where=where
        )
        return replace(event, data=value)


class SignalCodec(Codec):
    """An awaited signal as user code gets it; `data` is for its data."""

    __slots__ = ("_data",)

    def __init__(self, data: Codec) -> None:
        self._data = data

    def load(self, data: Any, where: str) -> InboundSignal | None:
        """See `Codec.load`."""
        if data is None:
            return None
        name = str(data["signal"])
        what = f"the data of signal {name!r}, awaited by {where}"
        return InboundSignal(name, self._data.load(data.get("data"), what))


def event_wait(
    app: App, id_: str, event: object, *, timeout: object, if_: object, type_: Any
) -> Awaited:
    """A wait for an event (SDK specification, 5.3.3). Raises ConfigurationError, StepUsageError.

    The event's name is sent twice: the specification has it in `opts`, the TypeScript SDK as the
    op's name (recorded).
    """
    name = event.name if isinstance(event, Event) else event
    if not isinstance(name, str) or not name:
        raise StepUsageError(
            f"wait_for_event {id_!r} waits for {event!r}, which is no event. Write its name, such"
            " as event='order/paid'."
        )
    if isinstance(event, Event) and event.if_ is not None:
        raise StepUsageError(
            f"wait_for_event {id_!r} got an Event with a condition, which is one for triggers."
            " Write the condition as if_= of the wait: there `async` is the awaited event, and"
            " `event` the one that started the run."
        )
    opts: dict[str, Any] = {"event": name, "timeout": _timeout(timeout, "wait_for_event", id_)}
    if if_ is not None:
        opts["if"] = _expression(if_, id_)
    own = event.schema if isinstance(event, Event) else None
    schema = type_ if type_ is not None else own
    return Awaited(Opcode.WAIT_FOR_EVENT, name, opts, EventCodec(app, schema))


def signal_wait(
    id_: str, signal: object, *, timeout: object, on_conflict: object, type_: Any
) -> Awaited:
    """A wait for a signal (recorded). Raises DurationError, StepUsageError."""
    if not isinstance(signal, str) or not signal:
        raise StepUsageError(
            f"wait_for_signal {id_!r} waits for {signal!r}, which is no signal. Write its name,"
            " such as signal='approved-42'."
        )
    if on_conflict not in _CONFLICTS:
        raise StepUsageError(
            f"on_conflict of wait_for_signal {id_!r} is {on_conflict!r}. Write 'fail' or 'replace'."
        )
    opts: dict[str, Any] = {
        "signal": signal,
        "timeout": _timeout(timeout, "wait_for_signal", id_),
    }
    if on_conflict != "fail":  # what servers do unless they are told
        opts["conflict"] = on_conflict
    return Awaited(Opcode.WAIT_FOR_SIGNAL, signal, opts, SignalCodec(_codec(type_)))


def invocation(
    app: App, id_: str, function: object, *, data: object, timeout: object, type_: Any
) -> Awaited:
    """An invoked function (SDK specification, 5.3.4).

    Raises DurationError, EventError, ResultError, StepUsageError.
    """
    composite, known = _target(app, id_, function)
    payload, size = _payload(data, id_)
    opts: dict[str, Any] = {"payload": {"data": payload}, "function_id": composite}
    if timeout is not None:
        opts["timeout"] = _timeout(timeout, "invoke", id_)
    if type_ is not None:
        codec = _codec(type_)
    else:
        codec = codec_of(known.handler) if known is not None else PLAIN
    return Awaited(Opcode.INVOKE_FUNCTION, "", opts, codec, size)


def _timeout(value: object, what: str, id_: str) -> str:
    """`value` as the wire has it: to the millisecond, and never less than one."""
    seconds = parse_duration(value, what=f"the timeout of {what} {id_!r}")
    return format_duration(max(round(seconds, 3), 0.001))


def _expression(text: object, id_: str) -> str:
    from onward.core.expressions import check_expression

    if not isinstance(text, str):
        raise StepUsageError(
            f"if_ of wait_for_event {id_!r} is {text!r}. Write a CEL expression, such as"
            " 'async.data.id == event.data.id'."
        )
    return check_expression(text, f"The if_ of wait_for_event {id_!r}", restricted=True)


def _codec(annotation: Any) -> Codec:
    return PLAIN if annotation is None else codec_for(annotation)


def _target(app: App, id_: str, function: object) -> tuple[str, Function | None]:
    """The composite id of what is invoked, and the function if this app has it."""
    if isinstance(function, str) and function:
        own = app.functions.get(f"{app.id}-{function}") or app.functions.get(function)
        return (own.composite_id, own) if own is not None else (function, None)
    found = [known for known in app.functions.values() if known.handler == function]
    if len(found) == 1:
        return found[0].composite_id, found[0]
    if found:
        ids = " and ".join(repr(each.id) for each in found)
        problem = f"which is the handler of {ids}. Write the id of the one that is meant"
    else:
        problem = (
            f"which is no handler of app {app.id!r}. Write the handler itself, as @app.function"
            " returned it, the id of a function of this app, or 'app-function' for one of another"
        )
    raise StepUsageError(f"invoke {id_!r} got {function!r}, {problem}.")


def _payload(data: object, id_: str) -> tuple[dict[str, Any], int]:
    """The data of the event that the invoked function gets, and their size in bytes.

    Servers take nothing but an object.
    """
    from json import loads

    if data is None:
        return {}, 0
    where = f"The data of invoke {id_!r}"
    if isinstance(data, Mapping):
        text, _ = PLAIN.settle(dict(data), where)
    else:
        text, _ = codec_for(type(data)).settle(data, where)
    value = loads(text)
    if not isinstance(value, dict):
        raise StepUsageError(
            f"{where} is {type(data).__name__}, and an event's data have named fields. Pass a"
            f" mapping, such as data={{'value': …}}."
        )
    if len(text) > RESPONSE_LIMIT:
        raise EventError(
            f"{where} is {len(text):,} bytes, over the limit of {RESPONSE_LIMIT:,}. Nothing was"
            " invoked. Store it elsewhere and pass where it is, or let the function read it itself."
        )
    return value, len(text)
