"""Sending events to the orchestrator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onward.app import App


def post_events(app: App, payload: list[dict[str, Any]]) -> dict[str, Any]:
    """Send `payload` to the event API; the answer's `ids`.

    Raises OnwardError when the orchestrator takes them not.
    """
    from onward.transport.http import request

    key = app.settings.event_key or "onward"
    answer = request(app.settings.events_url, "POST", f"/e/{key}", body=payload)
    return {"ids": list(answer.get("ids", []))}
