"""The database: what it refuses, and that nothing is acknowledged that it does not hold."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from onward_server import Answer, Settings, StoreError, StoreFullError, StoreVersionError
from onward_server.model import PutApp, PutEvent
from onward_server.store import SCHEMA_VERSION, Store, connect
from tests.server.conftest import Start
from tests.server.driving import checkpoint, client_of
from tests.server.fakes import Call, Function, complete, registration, report, run_op

NOBODY = 65534


async def test_a_newer_database_is_not_touched(tmp_path: Path, start: Start) -> None:
    db = tmp_path / "runs.db"
    await (await start(db)).stop()
    with sqlite3.connect(db) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = db.read_bytes()
    with pytest.raises(StoreVersionError, match=f"schema version {SCHEMA_VERSION + 1}.*upgrade"):
        await start(db)
    assert db.read_bytes() == before


async def test_the_database_of_another_program_is_not_touched(tmp_path: Path, start: Start) -> None:
    db = tmp_path / "other.db"
    with sqlite3.connect(db) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StoreVersionError, match="another program"):
        await start(db)
    text = tmp_path / "text.db"
    text.write_text("not a database at all, but long enough to look like one" * 20)
    with pytest.raises(StoreVersionError, match="not a usable database"):
        await start(text)


async def test_a_missing_directory_is_named(tmp_path: Path, start: Start) -> None:
    with pytest.raises(StoreError, match="directory exists"):
        await start(tmp_path / "no" / "runs.db")


async def test_two_orchestrators_do_not_share_a_database(tmp_path: Path, start: Start) -> None:
    await start(tmp_path / "runs.db")
    with pytest.raises(StoreError, match="another orchestrator"):
        await start(tmp_path / "runs.db")


@pytest.fixture
def bound_by_permissions() -> Iterator[Path]:
    """A folder for a user whom permissions bind; root, whom none binds, becomes nobody."""
    folder = Path(tempfile.mkdtemp(prefix="onward-store-"))
    folder.chmod(0o755)
    user = os.geteuid()
    connect(str(folder / "runs.db"), synchronous="FULL").close()
    (folder / "runs.db").chmod(0o444)
    if user == 0:
        os.seteuid(NOBODY)
    else:
        folder.chmod(0o555)
    try:
        yield folder
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)


async def test_a_read_only_database_is_told_at_the_start(
    bound_by_permissions: Path, start: Start
) -> None:
    with pytest.raises(StoreError, match=r"runs\.db cannot be written.*[Mm]ake the file"):
        await start(bound_by_permissions / "runs.db")
    with pytest.raises(StoreError, match=r"new\.db cannot be written.*directory"):
        await start(bound_by_permissions / "new.db")


async def test_a_full_database_acknowledges_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, start: Start
) -> None:
    orchestrator = await start(tmp_path / "runs.db")
    asked: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
    go_on = asyncio.Event()

    async def handler(call: Call) -> Answer:
        async with client_of(orchestrator) as client:
            response = await checkpoint(client, call, run_op("a", "x" * 50_000))
            asked.put_nowait((response.status_code, response.text))
            await go_on.wait()
            response = await checkpoint(client, call, run_op("a", "y"))
            asked.put_nowait((response.status_code, response.text))
        return complete(len(call.steps))

    await orchestrator.register(registration("f"), Function(handler))
    pages = await orchestrator.store.read(
        lambda c: int(c.execute("PRAGMA page_count").fetchone()[0])
    )
    await orchestrator.store.read(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 3}"))
    run_id = await orchestrator.start_run("app-f", {})
    status, text = await asked.get()
    assert status == 507
    assert "full" in text
    state = orchestrator.live_run(run_id)
    assert state is not None
    assert state.steps == {}, "memory knows no more than the database"
    async with client_of(orchestrator) as client:
        event = {"name": "app/f", "data": {"x": "x" * 50_000}}
        response = await client.post("/e/key", json=event)
        assert response.status_code == 507
        assert (await client.get("/v1/events")).json()["data"][0]["name"] != "app/f"
    await orchestrator.store.read(lambda c: c.execute("PRAGMA max_page_count = 1000000"))
    go_on.set()
    assert (await asked.get())[0] == 200
    assert (await orchestrator.result(run_id)).status == "Completed"
    steps = await orchestrator.store.read(
        lambda c: c.execute("SELECT entry FROM steps WHERE run_id = ?", (run_id,)).fetchall()
    )
    assert steps == [('{"data":"y"}',)]


async def test_an_answer_waits_until_the_database_takes_it(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onward_server.dispatcher._STORE_RETRY_S", 0.01)
    orchestrator = await start(tmp_path / "runs.db")
    real = orchestrator.store.commit
    refusals: list[int] = []

    async def commit(writes: object) -> None:
        if any(type(write).__name__ == "PutStep" for write in writes) and len(refusals) < 3:  # type: ignore[attr-defined]
            refusals.append(1)
            raise StoreFullError("full, says the test")
        await real(writes)  # type: ignore[arg-type]

    monkeypatch.setattr(orchestrator.store, "commit", commit)

    async def handler(call: Call) -> Answer:
        return complete("kept", run_op("a"))

    function = Function(handler)
    await orchestrator.register(registration("f"), function)
    run_id = await orchestrator.start_run("app-f", {})
    assert (await orchestrator.result(run_id)).result == "kept"
    assert len(refusals) == 3
    assert len(function.calls) == 1, "the answer was kept, not asked for again"


async def test_a_transaction_that_only_seems_to_fail_loses_no_call(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onward_server.dispatcher._STORE_RETRY_S", 0.01)
    orchestrator = await start(tmp_path / "runs.db")
    real = orchestrator.store.commit
    lies: list[int] = []

    async def commit(writes: object) -> None:
        await real(writes)  # type: ignore[arg-type]
        if any(type(write).__name__ == "PutStep" for write in writes) and not lies:  # type: ignore[attr-defined]
            lies.append(1)
            raise StoreError("it is written, and the test says that it is not")

    monkeypatch.setattr(orchestrator.store, "commit", commit)

    async def handler(call: Call) -> Answer:
        return complete(list(call.steps.values())) if call.steps else report(run_op("a"))

    await orchestrator.register(registration("f"), Function(handler))
    run_id = await orchestrator.start_run("app-f", {})
    assert (await orchestrator.result(run_id)).result == [{"data": 1}]
    assert lies == [1]


async def test_one_bad_write_does_not_take_others_down(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs.db")
    await store.open()
    good = [store.commit([PutApp(f"app{n}", "u", "{}")]) for n in range(20)]
    twice = [store.commit([PutEvent("same", "", "n", "{}", 0)]) for _ in range(2)]
    results = await asyncio.gather(*good, *twice, return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] * 21 + [StoreError]
    count = await store.read(lambda c: c.execute("SELECT count(*) FROM apps").fetchone()[0])
    assert count == 20
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.commit([PutApp("late", "u", "{}")])


async def test_a_body_over_the_limit_is_refused(start: Start) -> None:
    orchestrator = await start(settings=Settings(max_body_bytes=1000))
    async with client_of(orchestrator) as client:
        big = b'{"steps": "' + b"x" * 2000 + b'"}'
        for path in ("/v1/checkpoint/RUN/async", "/e/key", "/fn/register"):
            response = await client.post(path, content=big)
            assert response.status_code == 413, path
            assert "1,000 bytes" in response.json()["error"]
