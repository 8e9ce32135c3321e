"""Events as they come in: checked, and given what they lack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onward.errors import Fault, OnwardError
from onward_server.answers import encodable
from onward_server.json_text import dumps, loads

FUNCTION_FAILED = "inngest/function.failed"
FUNCTION_FINISHED = "inngest/function.finished"
FUNCTION_CANCELLED = "inngest/function.cancelled"
FUNCTION_INVOKED = "inngest/function.invoked"
TIMER = "inngest/scheduled.timer"
_RESERVED = "inngest/"
#: Between which instants (1980 and 2100, in milliseconds) an Inngest server takes events.
EARLIEST_TS, LATEST_TS = 315_532_800_000, 4_102_444_800_000


class BadEventError(OnwardError):
    """An event that cannot be taken; the message is worded as recorded."""

    code = "bad_event"
    fault = Fault.USER


@dataclass(frozen=True, slots=True)
class Event:
    """An event with its internal id. `external_id` is the sender's own id, or empty.

    `value` is what functions see.
    """

    id: str
    external_id: str
    value: dict[str, Any]

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.value["name"])

    @property
    def cron(self) -> bool:
        """Whether a schedule made it."""
        return self.name == TIMER

    @property
    def text(self) -> str:
        """The event as JSON text."""
        return dumps(self.value)


def accept(value: object, event_id: str, now_ms: int) -> Event:
    """The event in the JSON value `value`, with the internal id `event_id`.

    Raises BadEventError for one without a name, with a reserved name, or with fields of a wrong
    type.
    """
    if not isinstance(value, Mapping):
        raise BadEventError("an event must be a JSON object with at least a name")
    name = value.get("name")
    if name is None or name == "":
        raise BadEventError("event name is empty")
    if not isinstance(name, str) or not encodable(name):
        raise BadEventError(f"event name must be a string, not {name!r}")
    if name.startswith(_RESERVED):
        raise BadEventError(f"event name is reserved for internal use: {name}")
    for key in ("data", "user"):
        if value.get(key) is not None and not isinstance(value[key], Mapping):
            kind = {list: "array", str: "string", bool: "bool"}.get(type(value[key]), "number")
            raise BadEventError(
                f"json: cannot unmarshal {kind} into Go struct field raw.{key} of type"
                " map[string]interface {}"
            )
    ts = _instant(value["ts"]) if value.get("ts") else now_ms
    external_id = value.get("id") or ""
    if not isinstance(external_id, str) or not encodable(external_id):
        raise BadEventError(f"event id must be a string, not {external_id!r}")
    return make(
        name,
        dict(value.get("data") or {}),
        event_id,
        ts,
        external_id=external_id,
        user=dict(value.get("user") or {}),
        version=value.get("v"),
    )


def _instant(ts: object) -> int:
    if isinstance(ts, bool) or not isinstance(ts, int):
        raise BadEventError(f"event ts must be milliseconds since the epoch, not {ts!r}")
    if ts < EARLIEST_TS:
        raise BadEventError("timestamp is before Jan 1, 1980")
    if ts > LATEST_TS:
        raise BadEventError("timestamp is after Jan 1, 2100")
    return ts


def make(
    name: str,
    data: Mapping[str, Any],
    event_id: str,
    ts: int,
    *,
    external_id: str = "",
    user: Mapping[str, Any] | None = None,
    version: object = None,
) -> Event:
    """An event of our own making. `ts` is in milliseconds since the epoch."""
    value: dict[str, Any] = {
        "data": dict(data),
        "id": external_id or event_id,
        "name": name,
        "ts": ts,
        "user": dict(user or {}),
    }
    if isinstance(version, str) and version:
        value["v"] = version
    return Event(event_id, external_id, value)


def stored(event_id: str, external_id: str, text: str) -> Event:
    """An event as it was stored, `text` being its JSON."""
    return Event(event_id, external_id, loads(text))
