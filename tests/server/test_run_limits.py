"""Timeouts of runs and limits of calls in flight, in the state machine and end to end."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from onward_server import Answer, Orchestrator, TraceEvent
from onward_server.slots import Slots, slots_of
from onward_server.timers import Timers
from tests.golden.orchestrator_replay import ManualClock
from tests.server.conftest import Start
from tests.server.driving import client_of, happens
from tests.server.fakes import Call, Function, complete, never, registration, report, sleep_op


async def sleeps(call: Call) -> Answer:
    return complete("awake") if call.has("nap") else report(sleep_op("nap", "1h"))


def flowing(**fields: Any) -> dict[str, Any]:
    return registration({"id": "f", **fields})


async def asleep(orchestrator: Orchestrator) -> str:
    answered = happens(orchestrator, "call.ended")
    run_id = await orchestrator.start_run("app-f", {})
    await answered
    return run_id


async def test_a_run_that_does_not_finish_is_cancelled(start: Start, tmp_path: Path) -> None:
    clock = ManualClock()
    first = await start(tmp_path / "runs.db", clock=clock)
    await first.register(flowing(timeouts={"finish": "10s"}), Function(sleeps))
    run_id = await asleep(first)
    await first.stop()
    second = await start(tmp_path / "runs.db", clock=clock)
    await second.register(flowing(timeouts={"finish": "10s"}), Function(sleeps))
    clock.advance()
    view = await second.result(run_id)
    assert view.status == "Cancelled"
    assert view.error is not None
    assert "timeouts.finish of 10 s" in view.error["message"]
    assert view.ended_ms - view.started_ms == 10_000


@pytest.mark.parametrize("completes", [True, False])
async def test_a_call_in_flight_may_still_complete_the_run(start: Start, completes: bool) -> None:
    clock = ManualClock()
    orchestrator = await start(clock=clock)
    running, release = asyncio.Event(), asyncio.Event()

    async def handler(_call: Call) -> Answer:
        running.set()
        await release.wait()
        return complete("just so") if completes else report(sleep_op("nap", "1s"))

    await orchestrator.register(flowing(timeouts={"finish": "10s"}), Function(handler))
    run_id = await orchestrator.start_run("app-f", {})
    await running.wait()
    clock.advance()
    await asyncio.gather(*orchestrator._follow_ups)
    assert (await orchestrator.view(run_id)).status == "Running"
    release.set()
    view = await orchestrator.result(run_id)
    assert view.status == ("Completed" if completes else "Cancelled")


async def test_a_run_that_does_not_begin_is_cancelled(start: Start) -> None:
    clock = ManualClock()
    orchestrator = await start(clock=clock)
    function = Function(never)
    fields = {"concurrency": 1, "timeouts": {"start": "5s"}}
    await orchestrator.register(flowing(**fields), function)
    began = happens(orchestrator, "call.started")
    first = await orchestrator.start_run("app-f", {})
    second = await orchestrator.start_run("app-f", {})
    await began
    while clock.advance():
        await asyncio.gather(*orchestrator._follow_ups)
    view = await orchestrator.result(second)
    assert view.status == "Cancelled"
    assert view.error is not None
    assert "timeouts.start of 5 s" in view.error["message"]
    assert (await orchestrator.view(first)).status == "Running", "it had begun"
    ended = happens(orchestrator, "run.ended")
    await orchestrator.cancel(first)
    await ended
    assert len(function.calls) == 1, "the call of the cancelled run is not made"


async def test_concurrency_counts_calls_by_key_and_not_sleeping_runs(start: Start) -> None:
    orchestrator = await start()
    most: dict[str, int] = {}
    running: dict[str, int] = {}

    async def handler(call: Call) -> Answer:
        user = call.request["event"]["data"]["user"]
        running[user] = running.get(user, 0) + 1
        most[user] = max(most.get(user, 0), running[user])
        await asyncio.sleep(0.01)
        running[user] -= 1
        return complete(user) if call.has("nap") else report(sleep_op("nap", "1ms"))

    limits = [{"limit": 2, "key": "event.data.user"}, {"limit": 3}]
    await orchestrator.register(flowing(concurrency=limits), Function(handler))
    events = [{"name": "app/f", "data": {"user": user}} for user in "aaaabbbb"]
    for event_id in await orchestrator.send(events):
        [run_id] = await orchestrator.runs_of(event_id)
        await orchestrator.result(run_id)
    assert set(most) == {"a", "b"}
    assert max(most.values()) == 2
    assert sum(most.values()) <= 4


async def test_functions_share_a_limit_of_the_environment(start: Start) -> None:
    orchestrator = await start()
    shared = [{"limit": 1, "scope": "env", "key": "'database'"}]
    together: list[int] = []

    async def handler(_call: Call) -> Answer:
        together.append(shared_app.running)
        await asyncio.sleep(0.005)
        return complete(None)

    shared_app = Function(handler)
    both = [{"id": name, "concurrency": shared} for name in ("f", "g")]
    await orchestrator.register(registration(*both), shared_app)
    ids = await orchestrator.send([{"name": "app/f"}, {"name": "app/g"}] * 3)
    for event_id in ids:
        [run_id] = await orchestrator.runs_of(event_id)
        await orchestrator.result(run_id)
    assert together == [1] * 6


async def test_slots_come_in_order_and_a_waiter_that_leaves_takes_none() -> None:
    slots = Slots()
    await slots.take((("a", 1),))
    waiting = [asyncio.create_task(slots.take((("a", 1),))) for _ in range(3)]
    other = asyncio.create_task(slots.take((("a", 1), ("b", 1))))
    await asyncio.sleep(0)
    free = asyncio.create_task(slots.take((("b", 1),)))
    await asyncio.sleep(0)
    assert not free.done(), "whoever needs both comes first"
    waiting[0].cancel()
    other.cancel()
    await asyncio.gather(waiting[0], other, return_exceptions=True)
    await free
    slots.free((("a", 1),))
    await waiting[1]
    await asyncio.sleep(0)
    assert not waiting[2].done()
    slots.free((("a", 1),))
    await waiting[2]


async def test_what_has_no_effect_is_said_once(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    orchestrator = await start()
    seen: list[TraceEvent] = []
    orchestrator.subscribe(seen.append)
    body = flowing(priority={"run": "event.data.vip ? 100 : 0"})
    caplog.set_level(logging.WARNING)
    async with client_of(orchestrator) as client:
        answers = [(await client.post("/fn/register", json=body)).json() for _ in range(2)]
    [notice] = answers[0]["notices"]
    assert "'app-f' registers priority" in notice
    assert answers[1]["notices"] == [notice]
    assert [event.data["text"] for event in seen] == [notice]
    assert caplog.text.count("registers priority") == 1


async def test_timers_of_runs_that_are_over_are_forgotten() -> None:
    live = {"live"}
    timers = Timers(ManualClock(), lambda _run, _key: None, live.__contains__)
    for number in range(5000):
        timers.add(10**15, "live" if number % 1000 == 0 else "over", str(number))
    assert len(timers._heap) < 2000
    assert {key for _, run, key in timers._heap if run == "live"} == {
        str(number) for number in range(0, 5000, 1000)
    }


async def test_two_limits_of_one_key_are_the_smaller_one(start: Start) -> None:
    orchestrator = await start()
    limits = {"id": "f", "concurrency": [{"limit": 5}, {"limit": 3}]}
    await orchestrator.register(registration(limits), Function(never))
    function = orchestrator.functions["app-f"]
    assert [limit for _, limit in slots_of(function, {"name": "app/f"})] == [3]


async def test_limits_that_are_free_again_are_forgotten(start: Start) -> None:
    clock = ManualClock()
    orchestrator = await start(clock=clock)
    limited = {"id": "f", "rateLimit": {"limit": 1, "period": "1s", "key": "event.data.n"}}
    await orchestrator.register(registration(limited), Function(never))
    batches = [range(start, start + 500) for start in range(0, 5000, 500)]
    for batch in batches:
        await orchestrator.send([{"name": "app/f", "data": {"n": n}} for n in batch])
        clock._now += 2000
    [count] = await orchestrator.store.read(
        lambda c: c.execute("SELECT count(*) FROM held").fetchone()
    )
    assert count == len(orchestrator._starts._flow.held) < 2000
