"""Flow control end to end: batches, debouncing, limits and singletons, over restarts too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onward_server import Answer, Orchestrator, StoreError, TraceEvent
from onward_server.model import EndRun, PutRun
from onward_server.store import Store
from tests.golden.orchestrator_replay import ManualClock
from tests.server.conftest import Start
from tests.server.fakes import (
    Call,
    Function,
    complete,
    invoke_op,
    never,
    registration,
    report,
    step_id,
)


async def numbers(call: Call) -> Answer:
    return complete([event["data"]["n"] for event in call.request["events"]])


def flowing(**fields: Any) -> dict[str, Any]:
    return registration({"id": "f", **fields})


async def send(orchestrator: Orchestrator, *values: Any) -> list[str]:
    return await orchestrator.send([{"name": "app/f", "data": {"n": n}} for n in values])


async def move(orchestrator: Orchestrator, clock: ManualClock) -> None:
    assert clock.advance()
    await asyncio.gather(*orchestrator._follow_ups)


async def test_a_batch_outlives_a_restart(start: Start, tmp_path: Path) -> None:
    clock = ManualClock()
    first = await start(tmp_path / "runs.db", clock=clock)
    batch = flowing(batchEvents={"maxSize": 10, "timeout": "5s"})
    await first.register(batch, Function(numbers))
    ids = await send(first, 1, 2)
    assert await first.runs_of(ids[0]) == []
    await first.stop()
    second = await start(tmp_path / "runs.db", clock=clock)
    await second.register(batch, Function(numbers))
    ids += await send(second, 3)
    await move(second, clock)
    runs = {tuple(await second.runs_of(event_id)) for event_id in ids}
    [[run_id]] = runs
    view = await second.result(run_id)
    assert view.result == [1, 2, 3]
    assert view.event_names == ("app/f",)


async def test_a_debounce_outlives_a_restart(start: Start, tmp_path: Path) -> None:
    clock = ManualClock()
    first = await start(tmp_path / "runs.db", clock=clock)
    debounce = flowing(debounce={"period": "10s"})
    await first.register(debounce, Function(numbers))
    ids = await send(first, 1, 2)
    await first.stop()
    second = await start(tmp_path / "runs.db", clock=clock)
    await second.register(debounce, Function(numbers))
    await move(second, clock)
    assert await second.runs_of(ids[0]) == []
    [run_id] = await second.runs_of(ids[1])
    assert (await second.result(run_id)).result == [2]


async def test_a_rate_limit_outlives_a_restart_and_is_told(start: Start, tmp_path: Path) -> None:
    first = await start(tmp_path / "runs.db")
    limited = flowing(rateLimit={"limit": 1, "period": "1h"})
    await first.register(limited, Function(numbers))
    [started] = await send(first, 1)
    [run_id] = await first.runs_of(started)
    await first.result(run_id)
    await first.stop()
    second = await start(tmp_path / "runs.db")
    await second.register(limited, Function(numbers))
    seen: list[TraceEvent] = []
    second.subscribe(seen.append)
    [dropped] = await send(second, 2)
    assert await second.runs_of(dropped) == []
    [told] = seen
    assert (told.kind, told.data["function_id"]) == ("run.skipped", "app-f")
    assert told.data["reason"] == "its rateLimit has been reached"


async def test_a_throttled_run_starts_later(start: Start, tmp_path: Path) -> None:
    clock = ManualClock()
    orchestrator = await start(tmp_path / "runs.db", clock=clock)
    function = Function(numbers)
    await orchestrator.register(flowing(throttle={"limit": 1, "period": "10s"}), function)
    begin = clock.now_ms()
    ids = await send(orchestrator, 1, 2)
    [[first], [second]] = [await orchestrator.runs_of(event_id) for event_id in ids]
    await orchestrator.result(first)
    assert len(function.calls) == 1
    await move(orchestrator, clock)
    assert clock.now_ms() == begin + 10_000
    assert (await orchestrator.result(second)).result == [2]


async def test_a_singleton_skips_while_it_runs(start: Start, tmp_path: Path) -> None:
    single = flowing(singleton={"mode": "skip", "key": "event.data.n"})
    orchestrator = await start(tmp_path / "runs.db")
    await orchestrator.register(single, Function(never))
    ids = await send(orchestrator, 1, 1, 2)
    [[first], none, [_]] = [await orchestrator.runs_of(event_id) for event_id in ids]
    assert none == []
    await orchestrator.stop()
    again = await start(tmp_path / "runs.db")
    await again.register(single, Function(never))
    [event_id] = await send(again, 1)
    assert await again.runs_of(event_id) == [], "also after a restart"
    await again.cancel(first)
    [event_id] = await send(again, 1)
    assert len(await again.runs_of(event_id)) == 1


async def test_a_singleton_cancels_what_runs(start: Start) -> None:
    orchestrator = await start()
    await orchestrator.register(flowing(singleton={"mode": "cancel"}), Function(never))
    ids = await send(orchestrator, 1, 2)
    [[first], [second]] = [await orchestrator.runs_of(event_id) for event_id in ids]
    assert (await orchestrator.result(first)).status == "Cancelled"
    assert (await orchestrator.view(second)).status == "Running"


async def test_who_invokes_what_does_not_start_is_told(start: Start) -> None:
    orchestrator = await start()

    async def handler(call: Call) -> Answer:
        if call.has("child"):
            return complete(call.steps[step_id("child")])
        return report(invoke_op("child", "other-g", {"n": 1}))

    limited = {"id": "g", "rateLimit": {"limit": 1, "period": "1h"}}
    await orchestrator.register(registration(limited, app="other"), Function(numbers))
    await orchestrator.register(registration("f"), Function(handler))
    results = []
    for _ in range(2):
        run_id = await orchestrator.start_run("app-f", {})
        results.append((await orchestrator.result(run_id)).result)
    assert results[0] == {"data": [1]}
    error = results[1]["error"]
    assert error["name"] == "InvocationSkippedError"
    assert (
        error["message"] == "The function other-g was not started: its rateLimit has been reached."
    )


async def test_a_start_that_is_not_written_does_not_count(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchestrator = await start()
    fields = {"rateLimit": {"limit": 1, "period": "1h"}, "singleton": {"mode": "skip"}}
    await orchestrator.register(flowing(**fields), Function(numbers))
    commit = Store.commit

    async def full(self: Store, writes: Any) -> None:
        if any(isinstance(write, PutRun) for write in writes):
            raise StoreError("the disk is full")
        await commit(self, writes)

    monkeypatch.setattr(Store, "commit", full)
    with pytest.raises(StoreError):
        await send(orchestrator, 1)
    monkeypatch.setattr(Store, "commit", commit)
    [event_id] = await send(orchestrator, 2)
    [run_id] = await orchestrator.runs_of(event_id)
    assert (await orchestrator.result(run_id)).result == [2]


async def test_a_batch_starts_when_its_function_is_back(start: Start) -> None:
    clock = ManualClock()
    orchestrator = await start(clock=clock)
    batch = flowing(batchEvents={"maxSize": 10, "timeout": "5s"})
    await orchestrator.register(batch, Function(numbers))
    [event_id] = await send(orchestrator, 1)
    await orchestrator.register(registration("g"), Function(numbers))
    await move(orchestrator, clock)
    assert await orchestrator.runs_of(event_id) == []
    await orchestrator.register(batch, Function(numbers))
    await move(orchestrator, clock)
    [run_id] = await orchestrator.runs_of(event_id)
    assert (await orchestrator.result(run_id)).result == [1]


async def test_an_event_that_is_not_written_takes_no_later_one_with_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second event of a batch comes while the first is about to be refused by the store."""
    orchestrator = await start(tmp_path / "runs.db")
    batch = flowing(batchEvents={"maxSize": 2, "timeout": "60s"})
    await orchestrator.register(batch, Function(numbers))
    commit = Store.commit
    committing, going_on = asyncio.Event(), asyncio.Event()

    async def failing_once(self: Store, writes: Any) -> None:
        if not committing.is_set():
            committing.set()
            await going_on.wait()
            raise StoreError("the disk is full")
        await commit(self, writes)

    monkeypatch.setattr(Store, "commit", failing_once)
    first = asyncio.create_task(send(orchestrator, 1))
    second = asyncio.create_task(send(orchestrator, 2))
    await committing.wait()
    asyncio.get_running_loop().call_soon(going_on.set)
    with pytest.raises(StoreError):
        await first
    [event_id] = await second
    await send(orchestrator, 3)
    [run_id] = await orchestrator.runs_of(event_id)
    assert (await orchestrator.result(run_id)).result == [2, 3]


async def test_what_is_superseded_is_cancelled_late_rather_than_the_start_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchestrator = await start()
    await orchestrator.register(flowing(singleton={"mode": "cancel"}), Function(never))
    [first] = await send(orchestrator, 1)
    commit = Store.commit
    refused: list[object] = []

    async def failing_once(self: Store, writes: Any) -> None:
        if not refused and any(isinstance(write, EndRun) for write in writes):
            refused.append(writes)
            raise StoreError("the disk is full")
        await commit(self, writes)

    monkeypatch.setattr(Store, "commit", failing_once)
    [second] = await send(orchestrator, 2)
    [run_id] = await orchestrator.runs_of(first)
    assert (await orchestrator.result(run_id)).status == "Cancelled"
    [run_id] = await orchestrator.runs_of(second)
    assert (await orchestrator.view(run_id)).status == "Running"
    assert len(refused) == 1


async def test_a_start_is_finished_when_its_sender_is_gone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchestrator = await start()
    await orchestrator.register(registration("f"), Function(numbers))
    commit = Store.commit
    committing = asyncio.Event()

    async def told(self: Store, writes: Any) -> None:
        committing.set()
        await commit(self, writes)

    monkeypatch.setattr(Store, "commit", told)
    sending = asyncio.create_task(send(orchestrator, 1))
    await committing.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    [event] = await orchestrator.store.read(
        lambda c: c.execute("SELECT event_id FROM events").fetchone()
    )
    [run_id] = await orchestrator.runs_of(event)
    assert (await orchestrator.result(run_id)).result == [1]
