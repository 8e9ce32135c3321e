"""Functions that functions invoke, and what is told about runs that have ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onward_server import events
from onward_server.answers import error_info
from onward_server.events import Event
from onward_server.identifiers import stable_uuid
from onward_server.json_text import dumps
from onward_server.model import Invocation, Status

#: The key of an event's data that holds what the orchestrator itself says (recorded).
META = "_inngest"

_SHOWN_STATUS = {Status.COMPLETED: "Completed", Status.FAILED: "Failed"}
_ABOUT_RUNS = frozenset({events.FUNCTION_FAILED, events.FUNCTION_FINISHED})


def correlation_id(run_id: str, step_id: str) -> str:
    """What an invoked run is known by to the step that waits for it."""
    return f"{run_id}.{step_id}"


def meta_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the orchestrator itself says in the data of `event`."""
    found = event["data"].get(META)
    return found if isinstance(found, Mapping) else {}


def correlation_of(event: Mapping[str, Any]) -> str | None:
    """Which step waits for the run that `event` starts. Events from outside cannot say so."""
    if event["name"] != events.FUNCTION_INVOKED:
        return None
    found = meta_of(event).get("correlation_id")
    return found if isinstance(found, str) else None


def invocation_event(
    invocation: Invocation,
    *,
    run_id: str,
    source_app_id: str,
    source_fn_id: str,
    event_id: str,
    now_ms: int,
) -> Event:
    """The `inngest/function.invoked` event (recorded, but for the trace's own fields)."""
    correlation = correlation_id(run_id, invocation.step_id)
    payload = invocation.payload
    data = {
        **dict(payload.get("data") or {}),
        META: {
            "correlation_id": correlation,
            "expire": invocation.expires_ms,
            "fn_id": invocation.function_id,
            "gid": stable_uuid("group", correlation),
            "name": invocation.label,
            "source_app_id": source_app_id,
            "source_fn_id": source_fn_id,
            "source_fn_v": 1,
        },
    }
    return events.make(
        events.FUNCTION_INVOKED,
        data,
        event_id,
        payload.get("ts") or now_ms,
        external_id=payload.get("id") or "",
        user=payload.get("user"),
        version=payload.get("v"),
    )


def invoked_entry(data: Mapping[str, Any]) -> str:
    """The journal entry, as JSON text, of the step whose run ended with the finished event."""
    if "error" in data:
        return dumps({"error": data["error"]})
    return dumps({"data": data.get("result")})


def refusal_event(
    correlation: str, name: str, message: str, *, event_id: str, now_ms: int
) -> Event:
    """What is told to the step that invoked a function which did not start."""
    data = {"correlation_id": correlation, "error": error_info(name, message)}
    return events.make(events.FUNCTION_FINISHED, data, event_id, now_ms)


def ending_events(
    *,
    function_id: str,
    run_id: str,
    status: Status,
    triggers: list[dict[str, Any]],
    output: Any,
    no_retry: bool,
    ulid: Callable[[], str],
    now_ms: int,
) -> list[Event]:
    """What is told about a run that ended: `inngest/function.finished`, `.failed`, `.cancelled`.

    A batch is told once, and once more to each step that invoked it. `triggers` are the events
    that started the run, `output` its result or its error.
    """
    base: dict[str, Any] = {
        "_inngest": {"status": _SHOWN_STATUS.get(status, "Cancelled")},
        "event": None,
        "events": [{k: v for k, v in event.items() if k != "user" or v} for event in triggers],
        "function_id": function_id,
        "run_id": run_id,
    }
    if status is Status.COMPLETED:
        base["result"] = output
    else:
        if status is Status.FAILED:
            base["result"] = dict(output)
        kind = "NonRetriableError" if no_retry else "Error"
        base["error"] = {"error": kind, **output}
    told: list[Event] = []
    for number, trigger in enumerate(triggers):
        correlation = correlation_of(trigger)
        if trigger["name"] in _ABOUT_RUNS or (number and not correlation):
            continue
        data = {**base, "event": trigger}
        if correlation:
            data["correlation_id"] = correlation
        told.append(events.make(events.FUNCTION_FINISHED, data, ulid(), now_ms))
        name = {Status.FAILED: events.FUNCTION_FAILED, Status.CANCELLED: events.FUNCTION_CANCELLED}
        if number == 0 and status in name:
            told.append(events.make(name[status], data, ulid(), now_ms, external_id=run_id))
    return told
