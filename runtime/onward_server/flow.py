"""When runs start: rate limits, debouncing, batches, throttling, one run at a time. No IO.

What has to be remembered is kept as `Held` rows, which are written with the events and runs that
change them. Limits are the generic cell rate algorithm, as on the recorded server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from onward.core.expressions import Expression
from onward_server.events import Event, stored
from onward_server.flow_config import Rate
from onward_server.json_text import dumps, loads
from onward_server.model import DropHeld, Held, PutHeld, Write
from onward_server.registration import FunctionConfig

RATE = "rate"
THROTTLE = "throttle"
DEBOUNCE = "debounce"
BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Start:
    """A run to be begun with `events`, whose first call is due at `due_ms`."""

    function: FunctionConfig
    events: tuple[Event, ...]
    due_ms: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What an event does to one function: the run that it starts, if any, and what is written.

    `dropped` says why an event starts no run and never will. `displaced` are events that wait no
    more because this one took their place. `due` are held rows that have a time to come.
    """

    start: Start | None = None
    writes: tuple[Write, ...] = ()
    dropped: str = ""
    displaced: tuple[Event, ...] = ()
    due: tuple[Held, ...] = ()


def key_of(expression: Expression | None, event: Mapping[str, Any]) -> str | None:
    """What `expression` makes of `event`, as a key; None where it says false: it does not apply."""
    if expression is None:
        return ""
    value = expression.evaluate({"event": event})
    if value is False:
        return None
    try:
        text = value if isinstance(value, str) else dumps(value)
    except TypeError:  # bytes have no JSON
        text = repr(value)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def next_free_ms(rate: Rate, arrival_ms: float, now_ms: int) -> tuple[float, float]:
    """When the next start may be, and the arrival time to remember once it is (both in ms)."""
    interval = rate.period_s * 1000 / rate.limit
    arrival = max(arrival_ms, now_ms) + interval
    return arrival - interval * (rate.burst + 1), arrival


class Flow:
    """Decides on events, and remembers what it decided until that is written or given up."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self._undo: dict[str, Held | None] = {}

    def load(self, rows: Iterable[Held]) -> None:
        """Takes over what is stored."""
        self.held = {row.key: row for row in rows}

    # One event

    def decide(self, function: FunctionConfig, event: Event, now_ms: int) -> Decision:
        """What `event`, which `function` is triggered by, does."""
        flow = function.flow
        if flow.batch is not None and not event.cron:
            applies = flow.batch.condition is None or flow.batch.condition.test(
                {"event": event.value}
            )
            if applies:
                return self._batch(function, event, now_ms)
        writes: list[Write] = []
        for name, rate in (("rateLimit", flow.rate_limit), ("idempotency", flow.idempotency)):
            key = self._key(f"{RATE}-{name}", function, rate.key, event) if rate else None
            if rate is None or key is None:
                continue
            admitted = self._admit(key, rate, function.id, now_ms)
            if admitted is None:
                return Decision(writes=tuple(writes), dropped=f"its {name} has been reached")
            writes.append(admitted)
        if flow.debounce is not None:
            return self._debounce(function, event, now_ms, writes)
        return self.start(function, (event,), now_ms, writes)

    def start(
        self,
        function: FunctionConfig,
        events: tuple[Event, ...],
        now_ms: int,
        writes: Iterable[Write] = (),
    ) -> Decision:
        """A run with `events`, when its throttle lets it start.

        An event of its own with a time to come starts it then (as on the recorded server).
        """
        written = list(writes)
        due_ms = now_ms if function.flow.batch is not None else max(now_ms, events[0].value["ts"])
        throttle = function.flow.throttle
        if throttle is not None:
            key = self._key(THROTTLE, function, throttle.key, events[0])
            if key is not None:
                free, arrival = next_free_ms(throttle, self._arrival(key), now_ms)
                due_ms = max(due_ms, round(free))
                written.append(self.put(Held(key, THROTTLE, function.id, 0, str(arrival))))
        return Decision(Start(function, events, due_ms), tuple(written))

    def _key(
        self, kind: str, function: FunctionConfig, expression: Expression | None, event: Event
    ) -> str | None:
        key = key_of(expression, event.value)
        return None if key is None else f"{kind}:{function.id}:{key}"

    def put(self, row: Held) -> PutHeld:
        """Holds `row` from now on."""
        self._undo.setdefault(row.key, self.held.get(row.key))
        self.held[row.key] = row
        return PutHeld(row)

    def drop(self, key: str) -> DropHeld:
        """Holds nothing under `key` from now on."""
        self._undo.setdefault(key, self.held.pop(key, None))
        return DropHeld(key)

    def _arrival(self, key: str) -> float:
        row = self.held.get(key)
        return float(row.value) if row is not None else 0.0

    def _admit(self, key: str, rate: Rate, function_id: str, now_ms: int) -> PutHeld | None:
        """Counts one more start against `rate`, or None where it has been reached."""
        free, arrival = next_free_ms(rate, self._arrival(key), now_ms)
        if free > now_ms:
            return None
        return self.put(Held(key, RATE, function_id, 0, str(arrival)))

    def _debounce(
        self, function: FunctionConfig, event: Event, now_ms: int, writes: list[Write]
    ) -> Decision:
        debounce = function.flow.debounce
        assert debounce is not None  # noqa: S101 - the caller saw it
        key = (
            self._key(DEBOUNCE, function, debounce.key, event) or f"{DEBOUNCE}:{function.id}:false"
        )
        waiting = self.held.get(key)
        since = now_ms
        displaced: tuple[Event, ...] = ()
        if waiting is not None:
            value = loads(waiting.value)
            since = value["since"]
            earlier = _unpack(value["events"])
            if earlier[0].value["ts"] > event.value["ts"]:  # out of order: the newer one stays
                return Decision(
                    writes=tuple(writes), dropped="a later event is waiting in its debounce"
                )
            displaced = earlier
        due = now_ms + round(debounce.period_s * 1000)
        if debounce.timeout_s is not None:
            due = min(due, since + round(debounce.timeout_s * 1000))
        text = dumps({"since": since, "events": _pack((event,))})
        row = Held(key, DEBOUNCE, function.id, due, text)
        writes.append(self.put(row))
        return Decision(writes=tuple(writes), displaced=displaced, due=(row,))

    def _batch(self, function: FunctionConfig, event: Event, now_ms: int) -> Decision:
        batch = function.flow.batch
        assert batch is not None  # noqa: S101 - the caller saw it
        key = self._key(BATCH, function, batch.key, event) or _never(BATCH, function)
        waiting = self.held.get(key)
        due = now_ms + round(batch.timeout_s * 1000)
        events: tuple[Event, ...] = (event,)
        if waiting is not None:
            due = waiting.due_ms
            events = (*_unpack(loads(waiting.value)["events"]), event)
        if len(events) >= batch.max_size:
            return self.start(function, events, now_ms, [self.drop(key)])
        row = Held(key, BATCH, function.id, due, dumps({"events": _pack(events)}))
        return Decision(writes=(self.put(row),), due=(row,) if waiting is None else ())

    # What was held

    def due(self, key: str, function: FunctionConfig | None, now_ms: int) -> Decision:
        """What happens when the time of the held row `key` has come: its run starts."""
        row = self.held.get(key)
        if row is None or row.due_ms > now_ms or function is None:
            return Decision()
        events = _unpack(loads(row.value)["events"])
        return self.start(function, events, now_ms, [self.drop(key)])

    def expired(self, functions: Mapping[str, FunctionConfig], now_ms: int) -> list[DropHeld]:
        """Limits that have been free again for so long that they need not be remembered."""
        over = [
            row.key
            for row in self.held.values()
            if row.kind in {RATE, THROTTLE}
            and (float(row.value) <= now_ms or row.function_id not in functions)
        ]
        return [self.drop(key) for key in over]

    def take_undo(self) -> dict[str, Held | None]:
        """What was held, under each key that has changed since this was last asked."""
        undo, self._undo = self._undo, {}
        return undo

    def give_up(self, undo: Mapping[str, Held | None]) -> None:
        """Forgets what could not be written."""
        for key, row in undo.items():
            if row is None:
                self.held.pop(key, None)
            else:
                self.held[key] = row


def _never(kind: str, function: FunctionConfig) -> str:
    """The key of events for which a key's expression is false."""
    return f"{kind}:{function.id}:false"


def _pack(events: Iterable[Event]) -> list[list[str]]:
    return [[event.id, event.external_id, event.text] for event in events]


def _unpack(packed: Iterable[list[str]]) -> tuple[Event, ...]:
    return tuple(stored(*entry) for entry in packed)
