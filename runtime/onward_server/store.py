"""Durable state in one SQLite file.

One thread owns the connection. Whatever waits for it when a transaction begins is committed
together: many requests, one fsync. A transaction that fails has changed nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from onward.errors import Fault, OnwardError
from onward_server import model
from onward_server.model import Job, Pending, Write

SCHEMA_VERSION = 2
_APPLICATION_ID = 0x4F4E5752  # "ONWR": tells our files from other SQLite files
_MAX_GROUP = 256
#: Raised for a parameter of a type that there is no column for, or that is too long.
_OF_VALUES = (sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError)

_SCHEMA = """
CREATE TABLE apps (name TEXT PRIMARY KEY, url TEXT NOT NULL, registration TEXT NOT NULL) STRICT;
CREATE TABLE events (
    event_id TEXT PRIMARY KEY, external_id TEXT NOT NULL, name TEXT NOT NULL, event TEXT NOT NULL,
    received_ms INTEGER NOT NULL) STRICT;
CREATE INDEX events_by_external_id ON events (external_id) WHERE external_id != '';
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, function_id TEXT NOT NULL, event_id TEXT NOT NULL,
    event_names TEXT NOT NULL, events TEXT NOT NULL, version INTEGER NOT NULL DEFAULT -1,
    status TEXT NOT NULL DEFAULT 'Running', started_ms INTEGER NOT NULL,
    ended_ms INTEGER NOT NULL DEFAULT 0, output TEXT NOT NULL DEFAULT 'null') STRICT;
CREATE INDEX runs_by_event ON runs (event_id);
CREATE INDEX runs_unfinished ON runs (run_id) WHERE status = 'Running';
CREATE TABLE steps (
    run_id TEXT NOT NULL, position INTEGER NOT NULL, step_id TEXT NOT NULL, name TEXT NOT NULL,
    entry TEXT NOT NULL, PRIMARY KEY (run_id, position)) STRICT, WITHOUT ROWID;
CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, target TEXT NOT NULL, attempt INTEGER NOT NULL,
    generation INTEGER NOT NULL, request_id TEXT NOT NULL, due_ms INTEGER NOT NULL,
    position INTEGER NOT NULL, planned INTEGER NOT NULL, solo INTEGER NOT NULL)
    STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_run ON jobs (run_id);
CREATE TABLE pending (
    run_id TEXT NOT NULL, step_id TEXT NOT NULL, code TEXT NOT NULL, race INTEGER NOT NULL,
    due_ms INTEGER NOT NULL, event TEXT NOT NULL, condition TEXT NOT NULL,
    PRIMARY KEY (run_id, step_id)) STRICT, WITHOUT ROWID;
CREATE TABLE continuations (
    run_id TEXT NOT NULL, op_id TEXT NOT NULL, PRIMARY KEY (run_id, op_id)) STRICT, WITHOUT ROWID;
"""

#: What each version added to the schema of the one before.
_ADDED = {
    2: """
CREATE TABLE outgoing (event_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE held (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, function_id TEXT NOT NULL, due_ms INTEGER NOT NULL,
    value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE run_events (
    event_id TEXT NOT NULL, run_id TEXT NOT NULL, PRIMARY KEY (event_id, run_id))
    STRICT, WITHOUT ROWID;
""",
}


class StoreError(OnwardError):
    """The database cannot be used: nothing of what was to be written is."""

    code = "store_failed"
    fault = Fault.PLATFORM
    retriable = True


class StoreFullError(StoreError):
    """The disk, or the database, is full."""

    code = "store_full"


class StoreValueError(StoreError):
    """A value can be written to no database, however often it is tried."""

    code = "store_value"
    fault = Fault.USER
    retriable = False


class StoreVersionError(StoreError):
    """The database was written by another version of Onward, or by another program."""

    code = "store_version"
    retriable = False


class RunRow(NamedTuple):
    """A run as stored. `output` is JSON text; times are milliseconds since the epoch."""

    run_id: str
    function_id: str
    event_id: str
    event_names: str
    events: str
    version: int
    status: str
    started_ms: int
    ended_ms: int
    output: str


class StepRow(NamedTuple):
    """A memoized result: `entry` is the journal's JSON text."""

    step_id: str
    name: str
    entry: str


class StoredRun(NamedTuple):
    """An unfinished run with everything that it needs to go on."""

    row: RunRow
    steps: list[StepRow]
    jobs: list[Job]
    pending: list[Pending]
    continuations: list[str]


class EventRow(NamedTuple):
    """An event as it was taken in: `event` is JSON text."""

    event_id: str
    external_id: str
    name: str
    event: str
    received_ms: int


class AppRow(NamedTuple):
    """An app's last registration, as JSON text."""

    name: str
    url: str
    registration: str


_PUT_JOB = (
    "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job_id) DO UPDATE SET"
    " attempt = excluded.attempt, generation = excluded.generation,"
    " request_id = excluded.request_id, due_ms = excluded.due_ms, planned = excluded.planned"
)


def _put_job(c: sqlite3.Connection, w: model.PutJob) -> None:
    c.execute(
        _PUT_JOB,
        (
            w.job_id,
            w.run_id,
            w.target,
            w.attempt,
            w.generation,
            w.request_id,
            w.due_ms,
            w.position,
            w.planned,
            w.solo,
        ),
    )


def _end_run(c: sqlite3.Connection, w: model.EndRun) -> None:
    c.execute(
        "UPDATE runs SET status = ?, ended_ms = ?, output = ? WHERE run_id = ?",
        (w.status, w.ended_ms, w.output, w.run_id),
    )
    for table in ("jobs", "pending", "continuations"):
        c.execute(f"DELETE FROM {table} WHERE run_id = ?", (w.run_id,))  # noqa: S608 - ours


def _put_pending(c: sqlite3.Connection, w: model.PutPending) -> None:
    p = w.pending
    c.execute(
        "INSERT INTO pending VALUES (?, ?, ?, ?, ?, ?, ?)",
        (w.run_id, p.id, p.code, p.race, p.due_ms, p.event, p.condition),
    )


_APPLY: dict[type, Callable[[sqlite3.Connection, Any], object]] = {
    model.PutStep: lambda c, w: c.execute(
        "INSERT INTO steps VALUES (?, ?, ?, ?, ?)",
        (w.run_id, w.position, w.step_id, w.name, w.entry),
    ),
    model.PutJob: _put_job,
    model.DropJob: lambda c, w: c.execute("DELETE FROM jobs WHERE job_id = ?", (w.job_id,)),
    model.PutPending: _put_pending,
    model.DropPending: lambda c, w: c.execute(
        "DELETE FROM pending WHERE run_id = ? AND step_id = ?", (w.run_id, w.step_id)
    ),
    model.PutContinuation: lambda c, w: c.execute(
        "INSERT INTO continuations VALUES (?, ?)", (w.run_id, w.op_id)
    ),
    model.PutVersion: lambda c, w: c.execute(
        "UPDATE runs SET version = ? WHERE run_id = ?", (w.version, w.run_id)
    ),
    model.PutRun: lambda c, w: c.execute(
        "INSERT INTO runs (run_id, function_id, event_id, event_names, events, started_ms)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (w.run_id, w.function_id, w.event_id, w.event_names, w.events, w.started_ms),
    ),
    model.EndRun: _end_run,
    model.PutEvent: lambda c, w: c.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
        (w.event_id, w.external_id, w.name, w.event, w.received_ms),
    ),
    model.PutRunEvent: lambda c, w: c.execute(
        "INSERT INTO run_events VALUES (?, ?)", (w.event_id, w.run_id)
    ),
    model.PutHeld: lambda c, w: c.execute(
        "INSERT INTO held VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
        " due_ms = excluded.due_ms, value = excluded.value",
        (w.held.key, w.held.kind, w.held.function_id, w.held.due_ms, w.held.value),
    ),
    model.DropHeld: lambda c, w: c.execute("DELETE FROM held WHERE key = ?", (w.key,)),
    model.PutOutgoing: lambda c, w: c.execute("INSERT INTO outgoing VALUES (?)", (w.event_id,)),
    model.DropOutgoing: lambda c, w: c.execute(
        "DELETE FROM outgoing WHERE event_id = ?", (w.event_id,)
    ),
    model.ReplaceSignal: lambda c, w: c.execute(
        "UPDATE pending SET condition = ? WHERE run_id = ? AND step_id = ?",
        (model.REPLACED, w.run_id, w.step_id),
    ),
    model.PutApp: lambda c, w: c.execute(
        "INSERT INTO apps VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
        " url = excluded.url, registration = excluded.registration",
        (w.name, w.url, w.registration),
    ),
}

T = TypeVar("T")
_Task = tuple[Callable[[sqlite3.Connection], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class Store:
    """The database at `path` (`":memory:"` for none). Its methods belong to one event loop."""

    def __init__(self, path: str | Path, *, synchronous: str = "FULL") -> None:
        self.path = str(path)
        self._synchronous = synchronous
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Opens or creates the database.

        Raises StoreVersionError for a file of a newer version or another program, StoreError for
        one that cannot be written or that another orchestrator has open.
        """
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(
            target=self._main, args=(loop, opened), name="onward-store", daemon=True
        )
        self._thread.start()
        await opened

    async def close(self) -> None:
        """Commits what waits and closes the file."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._tasks.put(None)
            await asyncio.to_thread(thread.join)

    async def commit(self, writes: Sequence[Write]) -> None:
        """Makes `writes` durable, all or none. Raises StoreError."""
        if writes:
            await self._submit(lambda connection: apply_writes(connection, writes))

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """What `question` answers, asked of everything committed so far. Raises StoreError."""
        answer: T = await self._submit(question)
        return answer

    async def _submit(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        if self._thread is None:
            raise StoreError(f"The database {self.path} is closed. Start the orchestrator first.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._tasks.put((work, future, loop))
        return await future

    # In the store's own thread

    def _main(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None]) -> None:
        try:
            connection = connect(self.path, synchronous=self._synchronous)
        except StoreError as error:
            _tell(loop, opened, None, error)
            return
        _tell(loop, opened, None, None)
        try:
            while (group := self._take()) is not None:
                self._run_group(connection, group)
        finally:
            connection.close()

    def _take(self) -> list[_Task] | None:
        """The tasks of the next transaction; None when the store is to be closed."""
        first = self._tasks.get()
        if first is None:
            return None
        group = [first]
        while len(group) < _MAX_GROUP and not self._tasks.empty():
            task = self._tasks.get()
            if task is None:
                self._tasks.put(None)
                break
            group.append(task)
        return group

    def _run_group(self, connection: sqlite3.Connection, group: list[_Task]) -> None:
        try:
            results = _transact(connection, [work for work, _, _ in group], self.path)
        except StoreError as error:
            if len(group) == 1:
                _tell(group[0][2], group[0][1], None, error)
                return
            for task in group:  # one may be at fault alone: each for itself
                self._run_group(connection, [task])
            return
        for (_, future, loop), result in zip(group, results, strict=True):
            _tell(loop, future, result, None)


def _transact(
    connection: sqlite3.Connection, work: Iterable[Callable[[sqlite3.Connection], T]], path: str
) -> list[T]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [question(connection) for question in work]
        connection.execute("COMMIT")
    except Exception as error:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error) and not isinstance(error, _OF_VALUES):
            raise explain(error, path) from error
        message = f"The database {path} could not take a value: {error!r}."
        raise StoreValueError(message) from error
    return results


def _tell(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    result: Any,
    error: Exception | None,
) -> None:
    def settle() -> None:
        if future.done():  # whoever waited has been cancelled
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)


def explain(error: sqlite3.Error, path: str) -> StoreError:
    """`error` as what happened to the database at `path`, and the fix."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = str(error)
    if code == sqlite3.SQLITE_FULL:
        return StoreFullError(
            f"The database {path} is full ({text}); nothing was written or acknowledged. Free"
            " space on its disk: what is in flight is then tried again."
        )
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        return StoreError(
            f"The database {path} cannot be written ({text}). Make the file and its directory"
            " writable for this user, or give another file."
        )
    if code == sqlite3.SQLITE_BUSY:
        return StoreError(
            f"The database {path} is in use by another orchestrator ({text}). Stop that one, or"
            " give another file."
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreError(
            f"The database {path} cannot be opened ({text}). Check that its directory exists and"
            " is writable."
        )
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return StoreVersionError(
            f"{path} is not a usable database ({text}). Give another file, or bring this one back"
            " from a backup."
        )
    return StoreError(f"The database {path} failed: {text}.")


def connect(path: str, *, synchronous: str) -> sqlite3.Connection:
    """Opens the database, creating or checking its schema. Raises StoreError."""
    _check_writable(path)
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=2.0)
    except sqlite3.Error as error:
        raise explain(error, path) from error
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _check_version(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("BEGIN EXCLUSIVE")
        _upgrade(connection)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        raise explain(error, path) from error
    except StoreError:
        connection.close()
        raise
    return connection


def _upgrade(connection: sqlite3.Connection) -> None:
    """Brings the schema to this version. Always a write: a file that cannot be is told now."""
    version = _pragma(connection, "user_version")
    if version == 0:
        _execute_all(connection, _SCHEMA)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    for added in range(max(version, 1) + 1, SCHEMA_VERSION + 1):
        _execute_all(connection, _ADDED[added])
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _execute_all(connection: sqlite3.Connection, statements: str) -> None:
    for statement in filter(str.strip, statements.split(";")):
        connection.execute(statement)


def _check_writable(path: str) -> None:
    """SQLite says "disk I/O error" for some of these."""
    file = Path(path)
    if path == ":memory:" or not file.parent.is_dir():
        return
    for needed in (file, file.parent):
        effective = os.access in os.supports_effective_ids
        if needed.exists() and not os.access(needed, os.W_OK, effective_ids=effective):
            raise StoreError(
                f"The database {path} cannot be written: this user may not write {needed}. Make the"
                " file and its directory writable for this user, or give another file."
            )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _check_version(connection: sqlite3.Connection, path: str) -> None:
    version = _pragma(connection, "user_version")
    application = _pragma(connection, "application_id")
    if version > SCHEMA_VERSION and application == _APPLICATION_ID:
        raise StoreVersionError(
            f"The database {path} has schema version {version}, and this Onward knows versions up"
            f" to {SCHEMA_VERSION}. A newer Onward wrote it: upgrade Onward, or give another file."
        )
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != _APPLICATION_ID:
        raise StoreVersionError(
            f"{path} is a database of another program. Give another file; this one was not touched."
        )


def apply_writes(connection: sqlite3.Connection, writes: Iterable[Write]) -> None:
    """Executes `writes` inside the transaction that is open."""
    for write in writes:
        _APPLY[type(write)](connection, write)
