"""Sending events. Imported when an event is sent."""

from __future__ import annotations

import os
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from onward.errors import EventRejectedError, EventsNotSentError, OnwardError
from onward.outbound import Chunk, Events, chunks, wire_events
from onward.protocol import headers as names
from onward.transport.http import Ask, Plan, Reply, asking, refused

if TYPE_CHECKING:
    from onward.app import App

#: How often a request that sends events is tried.
SEND_TRIES = 5

_UNAUTHORIZED = frozenset({401, 403})


def sending_checked(app: App, events: Events) -> Plan[list[str]]:
    """The ids of events as users write them. Raises EventError before anything is sent."""
    wires, chain = wire_events(app, events), app.chain()
    if chain is None:
        return (yield from sending(app, wires))
    from onward.middleware.sending import through

    return (yield from through(chain, wires, partial(sending, app)))


def sending(
    app: App,
    events: Sequence[Mapping[str, Any]],
    seed: Callable[[int], str] = lambda _: new_seed(),
) -> Plan[list[str]]:
    """The ids of `events`, which are as the wire carries them, in their order.

    Each request carries a seed, from which the server makes the ids of its events: one that is sent
    again, because the answer was lost, makes no twins. `seed` gives that of the request that begins
    with the event at this place; by default a random one.
    """
    settings = app.settings
    path = f"/e/{quote(settings.sending_key, safe='')}"
    ids: list[str] = []
    for chunk in chunks(events):
        fields = {**settings.outgoing(), names.EVENT_ID_SEED: seed(chunk.first)}
        ask = Ask(settings.events_url, "POST", path, chunk.body, fields)
        reply = yield from asking(ask, tries=SEND_TRIES)
        taken = _taken(reply)
        if not reply.good or len(taken) != chunk.events:
            raise _not_sent(ask, reply, chunk, events, (*ids, *taken))
        ids += taken
    return ids


def new_seed() -> str:
    """A value for `x-inngest-event-id-seed`: milliseconds since the epoch, and ten random bytes."""
    return f"{time.time_ns() // 1_000_000},{b64encode(os.urandom(10)).decode()}"


def _taken(reply: Reply) -> list[str]:
    """The ids of the events that were taken, also where one after them was refused."""
    try:
        body = reply.json()
    except ValueError:
        return []
    ids = body.get("ids") if isinstance(body, dict) else None
    return [str(each) for each in ids if each] if isinstance(ids, list) else []


def _not_sent(
    ask: Ask,
    reply: Reply,
    chunk: Chunk,
    events: Sequence[Mapping[str, Any]],
    sent: tuple[str, ...],
) -> OnwardError:
    before = "Nothing was sent."
    if sent:
        before = f"{len(sent):,} of the {len(events):,} events were taken before (see `sent`)."
    if reply.may_pass:
        problem = refused(ask, reply).message
        message = f"{_told(chunk, events)} could not be sent in {SEND_TRIES} tries: {problem}"
        return EventsNotSentError(f"{message} {before}", sent)
    if reply.good:
        told = f"answered {reply.status} without an id for each event: {reply.text[:500]}"
        return EventsNotSentError(f"{_told(chunk, events)}: {ask.told} {told} {before}", sent)
    at_fault = Chunk(len(sent), 1, b"") if len(sent) > chunk.first else chunk
    message = (
        f"{_told(at_fault, events)} was refused: {ask.told} answered {reply.status}:"
        f" {_words(reply)} {before}"
    )
    if reply.status in _UNAUTHORIZED:
        message += (
            " Set INNGEST_EVENT_KEY (or App(event_key=…)) to an event key of the environment that"
            " this server keeps."
        )
    return EventRejectedError(message, reply.status, sent)


def _told(chunk: Chunk, events: Sequence[Mapping[str, Any]]) -> str:
    first = min(chunk.first, len(events) - 1)
    if chunk.events == 1:
        place = f"The event {events[first]['name']!r}"
        return place if len(events) == 1 else f"{place} (events[{first}])"
    return f"One of events[{first}] to events[{first + chunk.events - 1}]"


def _words(reply: Reply) -> str:
    """The server's own words in an error."""
    try:
        body = reply.json()
    except ValueError:
        body = None
    said = body.get("error") if isinstance(body, dict) else None
    return f"{said or reply.text[:500] or 'no more'}."


# ---------------------------------------------------------------------- runs
