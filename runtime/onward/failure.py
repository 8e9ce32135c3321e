"""What a failure handler sees: the error that a run ended with, and what had started the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onward.context import InboundEvent
from onward.errors import EventSchemaError, StepError, StepUsageError
from onward.protocol.registration import FUNCTION_FAILED

if TYPE_CHECKING:
    from onward.app import App


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that has failed for good, as its `on_failure` handler sees it.

    Args:
        error: What it failed with: `error.name`, `error.message` and `error.stack`.
        event: The event that had started it, its data as its schema says; as it came where it does
            not fit, which may be what the run failed of.
        events: All of them, for a function that takes batches.
        run_id: The run that failed.
        function_id: Its function's id, with the app's in front.
    """

    error: StepError
    event: InboundEvent
    events: tuple[InboundEvent, ...]
    run_id: str
    function_id: str


def failure_of(event: InboundEvent, app: App | None = None) -> Failure:
    """The failure that an `inngest/function.failed` event tells of.

    Args:
        event: The event that a failure handler has received.
        app: Whose schemas the original event's data is rebuilt by.

    Raises StepUsageError for another event.
    """
    data = event.data
    if event.name != FUNCTION_FAILED or not isinstance(data, Mapping):
        raise StepUsageError(
            f"ctx.failure is for on_failure handlers; this run was started by the event"
            f" {event.name!r}. Use it in the function that is given as on_failure=…, or that has"
            f" the trigger onward.Event({FUNCTION_FAILED!r})."
        )
    told = data.get("error")
    error: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    first = _original(data.get("event"), app)
    batch = data.get("events")
    events = [_original(item, app) for item in batch] if isinstance(batch, list) else [first]
    return Failure(
        StepError(
            str(error.get("name") or "Error"),
            str(error.get("message") or ""),
            str(error.get("stack") or ""),
        ),
        first,
        tuple(events),
        str(data.get("run_id") or ""),
        str(data.get("function_id") or ""),
    )


def _original(wire: object, app: App | None) -> InboundEvent:
    event = InboundEvent.of(wire if isinstance(wire, Mapping) else {})
    if app is None or not app.event_schemas:
        return event
    from dataclasses import replace

    from onward.schemas import received

    try:
        return replace(event, data=received(app, event.name, event.data, event_id=event.id))
    except EventSchemaError:
        return event
