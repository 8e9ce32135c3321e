"""Questions to the store. Each takes the open connection and answers from committed state."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from onward_server.model import Held, Job, Pending, Status
from onward_server.store import AppRow, EventRow, RunRow, StepRow, StoredRun

_JOB = "job_id, target, attempt, generation, request_id, due_ms, position, planned, solo"
_PENDING = "step_id, code, race, due_ms, event, condition"


def load_apps(connection: sqlite3.Connection) -> list[AppRow]:
    """The last registration of every app."""
    return [AppRow(*row) for row in connection.execute("SELECT * FROM apps ORDER BY name")]


def unfinished(connection: sqlite3.Connection) -> list[str]:
    """The ids of all unfinished runs, oldest first."""
    rows = connection.execute(
        "SELECT run_id FROM runs WHERE status = ? ORDER BY run_id", (Status.RUNNING.value,)
    )
    return [str(row[0]) for row in rows]


def load_row(connection: sqlite3.Connection, run_id: str) -> RunRow | None:
    """The run `run_id`, if there is one."""
    row = connection.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return None if row is None else RunRow(*row)


def load_steps(connection: sqlite3.Connection, run_id: str) -> list[StepRow]:
    """The run's journal, in order."""
    rows = connection.execute(
        "SELECT step_id, name, entry FROM steps WHERE run_id = ? ORDER BY position", (run_id,)
    )
    return [StepRow(*row) for row in rows]


def load_run(connection: sqlite3.Connection, run_id: str) -> StoredRun | None:
    """The unfinished run `run_id` with all its state; None if it is unknown or over."""
    stored = load_row(connection, run_id)
    if stored is None or stored.status != Status.RUNNING:
        return None
    jobs = []
    for row in connection.execute(f"SELECT {_JOB} FROM jobs WHERE run_id = ?", (run_id,)):  # noqa: S608 - ours
        job = Job(*row)
        job.planned, job.solo = bool(job.planned), bool(job.solo)
        jobs.append(job)
    pending = [
        Pending(step_id, code, bool(race), due_ms, event, condition)
        for step_id, code, race, due_ms, event, condition in connection.execute(
            f"SELECT {_PENDING} FROM pending WHERE run_id = ?",  # noqa: S608 - ours
            (run_id,),
        )
    ]
    continuations = [
        str(op_id)
        for (op_id,) in connection.execute(
            "SELECT op_id FROM continuations WHERE run_id = ?", (run_id,)
        )
    ]
    return StoredRun(stored, load_steps(connection, run_id), jobs, pending, continuations)


def list_runs(
    connection: sqlite3.Connection, limit: int, status: str | None, function_id: str | None
) -> list[RunRow]:
    """The latest `limit` runs, newest first, of one status and one function if given."""
    rows = connection.execute(
        "SELECT * FROM runs WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR function_id = ?2)"
        " ORDER BY run_id DESC LIMIT ?3",
        (status, function_id, limit),
    )
    return [RunRow(*row) for row in rows]


def runs_of_event(connection: sqlite3.Connection, event_id: str) -> list[RunRow]:
    """The runs that the event started, alone or in a batch, oldest first."""
    rows = connection.execute(
        "SELECT * FROM runs WHERE event_id = ?1 OR run_id IN"
        " (SELECT run_id FROM run_events WHERE event_id = ?1) ORDER BY run_id",
        (event_id,),
    )
    return [RunRow(*row) for row in rows]


def load_event(connection: sqlite3.Connection, event_id: str) -> EventRow | None:
    """The event with the internal id `event_id`."""
    row = connection.execute("SELECT * FROM events WHERE event_id = ?", (event_id,)).fetchone()
    return None if row is None else EventRow(*row)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are asked for: by name, by when they came (ms), and those before an id."""

    name: str | None = None
    after_ms: int | None = None
    before_ms: int | None = None
    cursor: str | None = None


def list_events(
    connection: sqlite3.Connection,
    limit: int,
    wanted: EventFilter = EventFilter(),
) -> list[EventRow]:
    """The latest `limit` events that are asked for, newest first."""
    rows = connection.execute(
        "SELECT * FROM events WHERE (?1 IS NULL OR name = ?1)"
        " AND (?2 IS NULL OR received_ms >= ?2) AND (?3 IS NULL OR received_ms <= ?3)"
        " AND (?4 IS NULL OR event_id < ?4) ORDER BY event_id DESC LIMIT ?5",
        (wanted.name, wanted.after_ms, wanted.before_ms, wanted.cursor, limit),
    )
    return [EventRow(*row) for row in rows]


def event_seen(connection: sqlite3.Connection, external_id: str, since_ms: int) -> bool:
    """Whether an event with the id `external_id` came since `since_ms`."""
    row = connection.execute(
        "SELECT 1 FROM events WHERE external_id = ? AND received_ms >= ? LIMIT 1",
        (external_id, since_ms),
    ).fetchone()
    return row is not None


def outgoing(connection: sqlite3.Connection) -> list[EventRow]:
    """Events of our own that are still to be taken in, oldest first."""
    rows = connection.execute(
        "SELECT events.* FROM events JOIN outgoing USING (event_id) ORDER BY event_id"
    )
    return [EventRow(*row) for row in rows]


def load_held(connection: sqlite3.Connection) -> list[Held]:
    """Everything that is remembered beside runs."""
    return [Held(*row) for row in connection.execute("SELECT * FROM held ORDER BY key")]
