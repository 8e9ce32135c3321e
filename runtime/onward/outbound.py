"""Events that are sent: what users write, checked and turned into what the wire carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from onward.core.values import encode, shown
from onward.errors import EventError

if TYPE_CHECKING:
    from onward.app import App

#: Names that the orchestrator keeps for events of its own.
RESERVED = "inngest/"

#: What an Inngest server takes: the bytes of one event, the length of its name, and the instants of
#: `ts` in milliseconds since the epoch (1980 to 2100).
MOST_EVENT_BYTES, MOST_NAME_LENGTH = 3 * 1024 * 1024, 512
EARLIEST_MS, LATEST_MS = 315_532_800_000, 4_102_444_800_000

#: How much is sent in one request. The server takes 5,000 events of up to 3 MiB each; smaller
#: requests cost little and are soon sent again.
MOST_EVENTS, MOST_BYTES = 1_000, 1024 * 1024

_HOW = "Write onward.NewEvent('order/paid', {…}), or {'name': 'order/paid', 'data': {…}}."


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be sent.

    Attributes:
        name: What happened, such as `"order/paid"`.
        data: A mapping of JSON values, or an object that pydantic can write. Default: empty.
        id: Makes it count once: an event with the id of an earlier one starts no runs (within 24
            hours on an Inngest server). Default: none; every event counts.
        ts: When it happened: milliseconds since the epoch, or an aware datetime. Default: when the
            orchestrator takes it. One in the future delays what it starts.
        user: Facts about the user whom it concerns.
        v: The version of its form.
    """

    name: str
    data: Any = None
    id: str | None = None
    ts: int | datetime | None = None
    user: Mapping[str, Any] | None = None
    v: str | None = None


OneEvent: TypeAlias = NewEvent | Mapping[str, Any]
Events: TypeAlias = OneEvent | Iterable[OneEvent]

_FIELDS = tuple(field.name for field in fields(NewEvent))


def listed(events: object) -> list[tuple[str, Mapping[str, Any]]]:
    """One event or several, each with how messages name it. Raises EventError for what is none."""
    if isinstance(events, (NewEvent, Mapping)):
        placed: list[tuple[str, object]] = [("The event", events)]
    elif isinstance(events, Iterable) and not isinstance(events, (str, bytes)):
        placed = [(f"events[{n}]", event) for n, event in enumerate(events)]
    else:
        raise EventError(f"{shown(events)} is no event. Nothing was sent. {_HOW}")
    found = [(place, _given(event, place)) for place, event in placed]
    for place, event in found:
        _name(event.get("name"), place)
    return found


def wire_events(app: App, events: object) -> list[dict[str, Any]]:
    """One event or several, checked and as the wire carries them. Raises EventError."""
    return [_wire_event(app, event, place) for place, event in listed(events)]


def _wire_event(app: App, event: Mapping[str, Any], place: str) -> dict[str, Any]:
    from onward.schemas import outgoing

    name: str = event["name"]
    wire: dict[str, Any] = {"name": name, "data": outgoing(app, name, event.get("data"))}
    for key in ("id", "v"):
        value = event.get(key)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise _wrong(
                place, name, f"its {key} is {shown(value)}, which is no text", "Use a text"
            )
        wire[key] = value
    if event.get("ts") is not None:
        wire["ts"] = _milliseconds(event["ts"], place, name)
    for key in ("user", "meta"):
        value = event.get(key)
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise _wrong(place, name, f"its {key} is {shown(value)}", "Use a mapping")
        wire[key] = dict(value)
    return wire


def _given(event: object, place: str) -> Mapping[str, Any]:
    if isinstance(event, NewEvent):
        return {name: getattr(event, name) for name in _FIELDS}
    if not isinstance(event, Mapping):
        raise EventError(f"{place} is {shown(event)}, which is no event. Nothing was sent. {_HOW}")
    unknown = [key for key in event if key not in {*_FIELDS, "meta"}]
    if unknown:
        raise EventError(
            f"{place} has {', '.join(map(repr, unknown))}, which no event has: an event has"
            f" {', '.join(_FIELDS)}. Nothing was sent. What is your own belongs into its data."
        )
    return event


def _name(name: object, place: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise EventError(f"{place} has the name {name!r}. Nothing was sent. {_HOW}")
    if name.lower().startswith(RESERVED):
        raise _wrong(
            place, name, f"names that begin with {RESERVED!r} are the server's", "Rename it"
        )
    if len(name) > MOST_NAME_LENGTH:
        problem = f"its name has {len(name):,} characters, over {MOST_NAME_LENGTH}"
        raise _wrong(place, name[:60] + "…", problem, "Shorten it")


def _milliseconds(ts: object, place: str, name: str) -> int:
    fix = "Use milliseconds since the epoch, such as 1767225600000, or an aware datetime"
    if isinstance(ts, datetime) and ts.tzinfo is not None:
        ts = int(ts.timestamp() * 1000)
    if isinstance(ts, bool) or not isinstance(ts, int):
        raise _wrong(place, name, f"its ts is {shown(ts)}", fix)
    if not EARLIEST_MS <= ts <= LATEST_MS:
        raise _wrong(place, name, f"its ts is {ts}, which is not between 1980 and 2100", fix)
    return ts


def _wrong(place: str, name: str, problem: str, fix: str) -> EventError:
    return EventError(f"{place} ({name!r}) cannot be sent: {problem}. Nothing was sent. {fix}.")


class Chunk(NamedTuple):
    """What one request sends: so many `events`, from the one at `first`, as JSON text."""

    first: int
    events: int
    body: bytes


def chunks(events: Sequence[Mapping[str, Any]]) -> list[Chunk]:
    """`events` in order, in as few requests as the limits allow.

    Raises EventError for one that is too large, before any is sent.
    """
    return list(_chunks([_text(event, n) for n, event in enumerate(events)]))


def _text(event: Mapping[str, Any], number: int) -> str:
    try:
        text = encode(event)
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"its user or meta cannot be written as JSON ({error})"
        raise _wrong(f"events[{number}]", event["name"], problem, "Use JSON values") from None
    if len(text) > MOST_EVENT_BYTES:
        problem = f"it is {len(text):,} bytes, over the server's {MOST_EVENT_BYTES:,}"
        fix = "Store its data elsewhere, and send where they are"
        raise _wrong(f"events[{number}]", event["name"], problem, fix)
    return text


def _chunks(texts: Sequence[str]) -> Iterator[Chunk]:
    first, size, taken = 0, 0, list[str]()
    for number, text in enumerate(texts):
        if taken and (len(taken) == MOST_EVENTS or size + len(text) > MOST_BYTES):
            yield _chunk(first, taken)
            first, size, taken = number, 0, []
        taken.append(text)
        size += len(text) + 1
    if taken:
        yield _chunk(first, taken)


def _chunk(first: int, texts: Sequence[str]) -> Chunk:
    return Chunk(first, len(texts), f"[{','.join(texts)}]".encode())
