"""A database that an earlier version wrote: its runs go on, and nothing in it is forgotten."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from onward_server import Answer
from onward_server.store import SCHEMA_VERSION
from tests.golden.orchestrator_replay import ManualClock
from tests.server.conftest import Start
from tests.server.fakes import Call, Function, complete, registration

#: What version 1 wrote: of `app-f`, a run that has ended, and runs that are asleep, wait for
#: `app/go`, are to be tried again, and were being called when the process was killed.
WRITTEN = Path(__file__).parent / "data" / "version_1.sql"
APPLICATION = 0x4F4E5752


def database(path: Path) -> Path:
    with sqlite3.connect(path) as connection:
        connection.executescript(WRITTEN.read_text())
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    return path


async def test_runs_of_version_1_go_on(start: Start, tmp_path: Path) -> None:
    clock = ManualClock()
    orchestrator = await start(database(tmp_path / "runs.db"), clock=clock)

    async def handler(call: Call) -> Answer:
        return complete([call.request["event"]["data"]["n"], call.ctx["attempt"], call.steps])

    function = Function(handler)
    await orchestrator.register(registration("f"), function)
    running = [state.run_id for state in orchestrator.runs.all()]
    assert await orchestrator.send([{"name": "app/go"}])
    ended = asyncio.gather(*map(orchestrator.result, running))
    while not ended.done():
        clock.advance()
        await asyncio.wait([ended], timeout=0.01)
    assert len(await ended) == 4
    rows = await orchestrator.store.read(
        lambda c: c.execute("SELECT status, output FROM runs ORDER BY run_id").fetchall()
    )
    assert [status for status, _ in rows] == ["Completed"] * 5
    told = {call.request["event"]["data"]["n"]: call for call in function.calls}
    assert sorted(told) == ["called", "retrying", "sleeping", "waiting"]
    assert len(function.calls) == 4
    assert told["retrying"].ctx["attempt"] == 1
    for call in function.calls:
        assert {"data": "kept"} in call.steps.values()
    [again] = await orchestrator.send([{"name": "app/f", "id": "order-ended", "data": {"n": "x"}}])
    assert await orchestrator.runs_of(again) == [], "the ids of events are known still"


async def test_an_upgraded_database_is_of_this_version(start: Start, tmp_path: Path) -> None:
    upgraded, fresh = database(tmp_path / "old.db"), tmp_path / "new.db"
    schemas = []
    for db in (upgraded, fresh):
        for _ in range(2):  # once upgraded, it opens as any other
            await (await start(db)).stop()
        with sqlite3.connect(db) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
            schemas.append(
                connection.execute(
                    "SELECT type, name, sql FROM sqlite_master ORDER BY 2"
                ).fetchall()
            )
        connection.close()
    assert schemas[0] == schemas[1]
