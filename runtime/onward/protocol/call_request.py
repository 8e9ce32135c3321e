"""Call requests: the orchestrator asks to run a function from its journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from onward.core.ids import NO_TARGET
from onward.core.journal import Journal, Memo
from onward.core.ops import ErrorInfo
from onward.errors import MalformedCallRequestError
from onward.protocol import headers

#: The newest execution protocol that is spoken here. A server that has not chosen one sends -1.
NEWEST_VERSION = int(headers.EXECUTION_VERSION)

#: The server's own default where a call request does not say (SDK specification, 4.4.1).
DEFAULT_MAX_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A decoded call request (SDK specification, 4.4.1; fields beyond it as recorded).

    `function_id` is the composite id `app-function` from the address, `fn_id` the server's own id.
    `target` is the hashed id of the one step to run, or `"step"`. `attempt` counts from 0.
    `use_api` says that journal and events were left out and have to be fetched; `stack` is the
    journal's delivery order. `attempt_known`: whether the request told `attempt`.
    """

    function_id: str
    run_id: str
    request_id: str
    target: str = NO_TARGET
    fn_id: str = ""
    qi_id: str = ""
    job_id: str = ""
    generation_id: int = 0
    attempt: int = 0
    attempt_known: bool = True
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    event: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()
    journal: Journal = field(default_factory=Journal)
    disable_immediate_execution: bool = False
    use_api: bool = False
    stack: tuple[str, ...] = ()
    version: int = 2

    @property
    def targeted(self) -> bool:
        """Whether one step is asked for."""
        return self.target != NO_TARGET


def _malformed(what: str) -> MalformedCallRequestError:
    return MalformedCallRequestError(
        f"The call request is malformed: {what}. Nothing was run. Call requests come from an"
        " Inngest server or from `onward dev`; whatever sent this one speaks another protocol."
    )


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _malformed(f"{what} must be an object, not {type(value).__name__}")
    return value


def _number(ctx: Mapping[str, Any], key: str, default: int) -> int:
    value = ctx.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _malformed(f"ctx.{key} must be a whole number from 0, not {value!r}")
    return value


def _text(ctx: Mapping[str, Any], key: str, *, required: bool = False) -> str:
    value = ctx.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise _malformed(f"ctx.{key} must be a non-empty string, not {value!r}")
    return value


def _event(value: object, what: str) -> Mapping[str, Any]:
    """An event that user code can be given; `ts` may be missing, and be a float."""
    event = _mapping(value, what)
    for key in ("name", "id", "v"):
        if not isinstance(event.get(key), (str, type(None))):
            raise _malformed(f"{what}.{key} must be a string, not {event[key]!r}")
    stamp = event.get("ts", 0)
    if stamp is not None and not (isinstance(stamp, (int, float)) and abs(stamp) < inf):
        raise _malformed(f"{what}.ts must be milliseconds since the epoch, not {stamp!r}")
    if event.get("user") is not None:
        _mapping(event["user"], f"{what}.user")
    return event


def decode_events(value: object) -> tuple[Mapping[str, Any], ...]:
    """The events of a run. Raises MalformedCallRequestError."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _malformed("events must be a list of objects")
    return tuple(_event(item, f"events[{number}]") for number, item in enumerate(value))


def parse_json(body: bytes | str) -> Any:
    """`body` as JSON. Raises MalformedCallRequestError with the place of the first error."""
    try:
        return json.loads(body)
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        size = len(body)
        raise _malformed(f"its body of {size:,} bytes is not JSON ({error})") from None


def decode_memo(id_: str, entry: Any) -> Memo:
    """A `steps` entry. Raises MalformedCallRequestError for a shape the protocol does not know."""
    if entry is None:
        return Memo(id_)
    if not isinstance(entry, dict):
        raise _malformed(f"steps[{id_!r}] must be an object or null, not {type(entry).__name__}")
    error = entry.get("error")
    if error is not None:
        if not isinstance(error, dict):
            error = {"name": "Error", "message": str(error)}
        info = ErrorInfo(
            str(error.get("name") or "Error"),
            str(error.get("message") or ""),
            str(error.get("stack") or ""),
        )
        return Memo(id_, error=info, raw=entry)
    return Memo(id_, entry.get("data"), raw=entry)


def decode_journal(steps: object, stack: object) -> Journal:
    """The journal from `steps` in the order of `ctx.stack.stack`; None: the order is not known.

    Raises MalformedCallRequestError when the stack names a step that `steps` lacks.
    """
    entries = _mapping(steps if steps is not None else {}, "steps")
    order = stack if stack is not None else []
    if not isinstance(order, list) or not all(isinstance(id_, str) for id_ in order):
        raise _malformed("ctx.stack.stack must be a list of step ids")
    missing = [id_ for id_ in order if id_ not in entries]
    if missing:
        raise _malformed(
            f"its journal has a hole: the stack names {len(missing)} step(s) without a result,"
            f" first {missing[0]!r}"
        )
    known = set(order)
    ordered = [*order, *(id_ for id_ in entries if id_ not in known)]
    return Journal((decode_memo(id_, entries[id_]) for id_ in ordered), ordered=stack is not None)


def _version(value: object) -> int:
    if not isinstance(value, int):
        return NEWEST_VERSION
    if value > NEWEST_VERSION:
        raise MalformedCallRequestError(
            f"The call request is of execution version {value}; this Onward speaks versions up to"
            f" {NEWEST_VERSION}. Nothing was run, and the call is tried again. Upgrade Onward."
        )
    return value


def decode_call_request(body: object, *, function_id: str, target: str = NO_TARGET) -> CallRequest:
    """A call request from its parsed JSON `body` and its address (`fnId`, `stepId`).

    Raises MalformedCallRequestError.
    """
    data = _mapping(body, "the body")
    version = _version(data.get("version"))
    ctx = _mapping(data.get("ctx"), "ctx")
    stack = ctx.get("stack") or {}
    use_api = bool(data.get("use_api") or ctx.get("use_api"))
    event = data.get("event")
    if event is not None:
        event = _event(event, "event")
    events: tuple[Mapping[str, Any], ...] = () if event is None else (event,)
    if data.get("events") is not None:
        events = decode_events(data["events"])
    if event is None:
        event = events[0] if events else {}
    stack_ids = _mapping(stack, "ctx.stack").get("stack")
    return CallRequest(
        function_id=function_id,
        target=target or NO_TARGET,
        run_id=_text(ctx, "run_id", required=True),
        request_id=_text(ctx, "request_id") or _text(ctx, "job_id") or _text(ctx, "qi_id"),
        fn_id=_text(ctx, "fn_id"),
        qi_id=_text(ctx, "qi_id"),
        job_id=_text(ctx, "job_id"),
        generation_id=_number(ctx, "generation_id", 0),
        attempt=_number(ctx, "attempt", 0),
        max_attempts=_number(ctx, "max_attempts", DEFAULT_MAX_ATTEMPTS) or DEFAULT_MAX_ATTEMPTS,
        event=event,
        events=events,
        journal=Journal() if use_api else decode_journal(data.get("steps"), stack_ids),
        disable_immediate_execution=bool(ctx.get("disable_immediate_execution")),
        use_api=use_api,
        stack=tuple(stack_ids) if isinstance(stack_ids, list) else (),
        version=version,
    )
