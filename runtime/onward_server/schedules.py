"""Cron schedules: when they fire, and the events that they make. No IO.

The next time of a schedule is kept as a held row, which is written with the run that it starts:
a restart neither repeats a time nor leaves one out. Times that passed while nothing ran come late,
one run each, as on the recorded server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

from onward_server import events
from onward_server.events import Event
from onward_server.model import Held
from onward_server.registration import FunctionConfig, Schedule

CRON = "cron"

_LEAST_JITTER_MS = 1000


def rows_of(functions: Mapping[str, FunctionConfig], now_ms: int) -> dict[str, Held]:
    """The next time after `now_ms` of every registered schedule, by key."""
    return {
        row.key: row
        for function in functions.values()
        for schedule in function.schedules
        for row in [next_row(function.id, schedule, now_ms)]
    }


def next_row(function_id: str, schedule: Schedule, after_ms: int) -> Held:
    """The first time of `schedule` after `after_ms`; the row is due when it fires."""
    key = f"{CRON}:{function_id}:{schedule.expression}"
    after = datetime.fromtimestamp(after_ms / 1000, UTC)
    scheduled_ms = round(schedule.cron.next_after(after).timestamp() * 1000)
    late_ms = _jitter_ms(f"{key}:{scheduled_ms}", round(schedule.jitter_s * 1000))
    return Held(key, CRON, function_id, scheduled_ms + late_ms, str(scheduled_ms))


def schedule_of(row: Held, function: FunctionConfig | None) -> Schedule | None:
    """The schedule that `row` is the next time of, if it is still registered."""
    for schedule in function.schedules if function is not None else ():
        if row.key == f"{CRON}:{row.function_id}:{schedule.expression}":
            return schedule
    return None


def timer_event(schedule: Schedule, row: Held, event_id: str) -> Event:
    """The `inngest/scheduled.timer` event of a schedule that fires (the recorded server's)."""
    scheduled = _instant(int(row.value))
    data = {
        "cron": schedule.expression,
        "fireAt": _instant(row.due_ms),
        "scheduledAt": scheduled,
    }
    return events.make(events.TIMER, data, event_id, row.due_ms, external_id=scheduled)


def _jitter_ms(seed: str, most_ms: int) -> int:
    """From 1 s to `most_ms`, always the same for one time of a schedule."""
    if most_ms <= _LEAST_JITTER_MS:
        return most_ms
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8])
    return _LEAST_JITTER_MS + number % (most_ms - _LEAST_JITTER_MS)


def _instant(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return moment.isoformat().replace("+00:00", "Z")
