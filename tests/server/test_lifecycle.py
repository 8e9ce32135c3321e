"""Restarts, limits and the trace: what holds around runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from onward_server import (
    Answer,
    OrchestratorStoppedError,
    Settings,
    TraceEvent,
    UnknownRunError,
)
from tests.server.conftest import QUICK, Start
from tests.server.driving import begin, checkpoint, client_of
from tests.server.fakes import (
    Call,
    Function,
    complete,
    never,
    plan_op,
    registration,
    report,
    run_op,
    sleep_op,
    step_id,
)


async def test_a_large_journal_is_left_out_and_can_be_fetched(start: Start) -> None:
    orchestrator = await start(
        settings=Settings(trim_bytes=1000, retry_base_s=0.0, max_step_bytes=10_000)
    )

    async def handler(call: Call) -> Answer:
        if not call.has("a"):
            return report(run_op("a", "x" * 2000))
        assert call.request["use_api"] is True
        assert call.ctx["use_api"] is True
        assert call.request["steps"] == {}
        assert call.request["events"] == []
        assert call.request["event"]["name"] == "app/f"
        assert call.ctx["stack"]["stack"] == [step_id("a")]
        run = f"/v0/runs/{call.ctx['run_id']}"
        async with client_of(orchestrator) as client:
            steps = (await client.get(f"{run}/actions")).json()
            events = (await client.get(f"{run}/batch")).json()
        return complete([len(steps[step_id("a")]["data"]), events[0]["name"]])

    view = await orchestrator.result(await begin(orchestrator, Function(handler)))
    assert view.result == [2000, "app/f"]


async def test_calls_of_one_invoker_are_limited(start: Start) -> None:
    orchestrator = await start()

    async def handler(_call: Call) -> Answer:
        await asyncio.sleep(0)
        return complete()

    function = Function(handler, concurrency=2)
    await orchestrator.register(registration("f"), function)
    ids = await orchestrator.send([{"name": "app/f"}] * 10)
    for event_id in ids:
        [run_id] = await orchestrator.runs_of(event_id)
        await orchestrator.result(run_id)
    assert function.most_running == 2


async def test_the_trace_tells_what_happened_and_survives_its_readers(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    orchestrator = await start()
    seen: list[TraceEvent] = []

    def bad(_event: TraceEvent) -> None:
        raise RuntimeError("a reader's bug")

    orchestrator.subscribe(bad)
    unsubscribe = orchestrator.subscribe(seen.append)

    async def handler(call: Call) -> Answer:
        async with client_of(orchestrator) as client:
            await checkpoint(client, call, run_op("a"), run_op("b"))
            await checkpoint(client, call, run_op("b"))
        return complete("x", run_op("c"))

    run_id = await begin(orchestrator, Function(handler))
    await orchestrator.result(run_id)
    kinds = ["run.started", "call.started", "checkpoint", "checkpoint", "call.ended", "run.ended"]
    assert [event.kind for event in seen] == kinds
    started, call, first, second, ended, over = (event.data for event in seen)
    assert started == {"function_id": "app-f", "events": ["app/f"], "resumed": False}
    assert (call["target"], call["attempt"], call["generation"], call["journal"]) == (
        "step",
        0,
        1,
        0,
    )
    assert (first["steps"], first["new"]) == (["a", "b"], 2)
    assert (second["steps"], second["new"]) == (["b"], 0)
    assert first["request_id"] == call["request_id"] == ended["request_id"]
    assert [op["op"] for op in ended["ops"]] == ["StepRun", "RunComplete"]
    assert (ended["status"], ended["error"], ended["stale"]) == (206, None, False)
    assert over == {"status": "Completed", "error": None}
    assert "A trace callback failed" in caplog.text
    unsubscribe()
    await orchestrator.start_run("app-f", {})
    assert len(seen) == len(kinds)


async def test_a_stopped_orchestrator_goes_on_where_it_was(start: Start, tmp_path: Path) -> None:
    db = tmp_path / "runs.db"
    reached = asyncio.Event()
    first = await start(db)

    async def interrupted(call: Call) -> Answer:
        async with client_of(first) as client:
            await checkpoint(client, call, run_op("a", "once"))
        reached.set()
        return await never(call)

    run_id = await begin(first, Function(interrupted))
    await reached.wait()
    waiting = asyncio.create_task(first.result(run_id))
    await asyncio.sleep(0)
    await first.stop()
    with pytest.raises(OrchestratorStoppedError, match="the run goes on"):
        await waiting

    async def resumed(call: Call) -> Answer:
        return complete([call.ctx["generation_id"], call.ctx["attempt"], *call.steps.values()])

    second = await start(db)
    function = Function(resumed)
    await second.register(registration("f"), function)
    view = await second.result(run_id)
    assert view.result == [2, 0, {"data": "once"}]
    third = await start(tmp_path / "other.db")
    with pytest.raises(UnknownRunError):
        await third.view(run_id)


async def test_sleeps_and_retries_outlive_a_restart(start: Start, tmp_path: Path) -> None:
    db = tmp_path / "runs.db"
    first = await start(db)
    slept: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def sleeps(_call: Call) -> Answer:
        return report(sleep_op("nap", "300ms"), plan_op("x"))

    async def handler(call: Call) -> Answer:
        if call.target == step_id("x"):
            slept.set_result(None)
            return await never(call)
        return await sleeps(call)

    run_id = await begin(first, Function(handler))
    await slept
    await first.stop()

    async def later(call: Call) -> Answer:
        if call.target == step_id("x"):
            return report(run_op("x"))
        return complete(call.ctx["stack"]["stack"])

    second = await start(db)
    await second.register(registration("f"), Function(later))
    assert (await second.result(run_id)).result == [step_id("x"), step_id("nap")]


async def test_many_runs_share_transactions(start: Start, tmp_path: Path) -> None:
    orchestrator = await start(tmp_path / "runs.db", QUICK)

    async def handler(call: Call) -> Answer:
        done = len(call.steps)
        return complete(done) if done == 5 else report(run_op(f"s{done}"))

    await orchestrator.register(registration("f"), Function(handler))
    ids = await orchestrator.send([{"name": "app/f"}] * 40)
    for event_id in ids:
        [run_id] = await orchestrator.runs_of(event_id)
        assert (await orchestrator.result(run_id)).result == 5
