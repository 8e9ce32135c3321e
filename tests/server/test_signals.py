"""Signals, end to end: over HTTP, in conflict, over restarts, and where a commit fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onward_server import Answer, Orchestrator, StoreError
from onward_server.model import PutPending
from onward_server.store import Store
from tests.server.conftest import Start
from tests.server.driving import client_of, happens
from tests.server.fakes import Call, Function, complete, registration, report, signal_op, step_id


async def waits(call: Call) -> Answer:
    if call.has("signal"):
        return complete(call.steps[step_id("signal")])
    return report(signal_op("signal", "s", **call.request["event"]["data"]))


async def another(orchestrator: Orchestrator, **opts: Any) -> str:
    """A run that waits for the signal `s`, once it does."""
    answered = happens(orchestrator, "call.ended")
    run_id = await orchestrator.start_run("app-f", opts)
    await answered
    return run_id


async def test_a_signal_over_http_reaches_the_run_that_waits(start: Start) -> None:
    orchestrator = await start()
    await orchestrator.register(registration("f"), Function(waits))
    run_id = await another(orchestrator)
    async with client_of(orchestrator) as client:
        sent = await client.post("/v1/signals", json={"signal": "s", "data": [1]})
        assert (sent.status_code, sent.json()["data"]) == (200, {"run_id": run_id})
        again = await client.post("/v1/signals", json={"signal": "s"})
        assert (again.status_code, again.json()["error"]) == (404, "No signal found")
        for bad in (b"{", b"[]", b"{}", b'{"signal":""}', b'{"signal":3}'):
            assert (await client.post("/v1/signals", content=bad)).status_code == 400
    view = await orchestrator.result(run_id)
    assert view.result == {"data": {"data": [1], "signal": "s"}}


async def test_a_signal_has_one_waiter(start: Start) -> None:
    orchestrator = await start()
    await orchestrator.register(registration("f"), Function(waits))
    first = await another(orchestrator)
    second = await orchestrator.result(await another(orchestrator))
    assert second.status == "Failed"
    assert second.error is not None
    assert f"run {first} waits for it already" in second.error["message"]
    assert await orchestrator.signal("s", 1) == first
    third = await another(orchestrator)
    assert await orchestrator.signal("s", 2) == third, "the signal is free again"


async def test_a_cancelled_run_frees_its_signal(start: Start) -> None:
    orchestrator = await start()
    await orchestrator.register(registration("f"), Function(waits))
    await orchestrator.cancel(await another(orchestrator))
    assert await orchestrator.signal("s", 1) is None
    second = await another(orchestrator)
    assert await orchestrator.signal("s", 1) == second


async def test_who_is_replaced_times_out_also_over_a_restart(start: Start, tmp_path: Path) -> None:
    db = tmp_path / "runs.db"
    first = await start(db)
    await first.register(registration("f"), Function(waits))
    loser = await another(first, timeout="400ms")
    winner = await another(first, conflict="replace")
    await first.stop()
    second = await start(db)
    await second.register(registration("f"), Function(waits))
    assert await second.signal("s", "mine") == winner
    assert await second.signal("s", "nobody's") is None
    assert (await second.result(loser)).result is None
    assert (await second.result(winner)).result == {"data": {"data": "mine", "signal": "s"}}


async def test_a_takeover_that_is_not_written_takes_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchestrator = await start()
    await orchestrator.register(registration("f"), Function(waits))
    first = await another(orchestrator)
    commit = Store.commit
    refused = asyncio.Event()
    early: list[asyncio.Task[str | None]] = []

    async def full(self: Store, writes: Any) -> None:
        if not refused.is_set() and any(isinstance(write, PutPending) for write in writes):
            refused.set()
            early.append(asyncio.create_task(orchestrator.signal("s", "still mine")))
            await asyncio.sleep(0)
            raise StoreError("the disk is full")
        await commit(self, writes)

    monkeypatch.setattr(Store, "commit", full)
    monkeypatch.setattr("onward_server.dispatcher._STORE_RETRY_S", 0.2)
    run_id = await orchestrator.start_run("app-f", {"conflict": "replace"})
    await refused.wait()
    assert await early[0] == first, "it finds who has the signal after all"
    assert (await orchestrator.result(first)).result["data"]["data"] == "still mine"
    await orchestrator.cancel(run_id)
