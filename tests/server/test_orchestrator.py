"""Runs from their event to their end, with a function in the same process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from onward.errors import ConfigurationError
from onward_server import (
    Answer,
    InvokeError,
    Orchestrator,
    OrchestratorStoppedError,
    Settings,
    TraceEvent,
    UnknownRunError,
)
from tests.server.conftest import QUICK, Start
from tests.server.fakes import (
    RACE,
    Call,
    Function,
    complete,
    error_op,
    failure,
    never,
    plan_op,
    registration,
    report,
    run_op,
    script,
    sleep_op,
    step_id,
)


def client_of(orchestrator: Orchestrator) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=orchestrator.asgi)
    return httpx.AsyncClient(transport=transport, base_url="http://orchestrator")


async def checkpoint(client: httpx.AsyncClient, call: Call, *ops: dict[str, Any]) -> httpx.Response:
    ctx = call.ctx
    body = {
        "run_id": ctx["run_id"],
        "fn_id": ctx["fn_id"],
        "qi_id": ctx["qi_id"],
        "request_id": ctx["request_id"],
        "generation_id": ctx["generation_id"],
        "steps": list(ops),
        "ts": 1,
    }
    return await client.post(f"/v1/checkpoint/{ctx['run_id']}/async", json=body)


def happens(orchestrator: Orchestrator, kind: str, times: int = 1) -> asyncio.Future[None]:
    """Is done when `kind` has happened so often."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = [times]

    def seen(event: TraceEvent) -> None:
        left[0] -= event.kind == kind
        if left[0] <= 0 and not future.done():
            future.set_result(None)

    orchestrator.subscribe(seen)
    return future


async def begin(orchestrator: Orchestrator, function: Function, **options: Any) -> str:
    await orchestrator.register(registration("f", **options), function)
    [event_id] = await orchestrator.send([{"name": "app/f", "data": {"n": 1}}])
    [run_id] = await orchestrator.runs_of(event_id)
    return run_id


async def test_an_event_starts_a_run_whose_result_can_be_awaited(start: Start) -> None:
    orchestrator = await start()
    function = script(complete({"done": True}))
    run_id = await begin(orchestrator, function)
    view = await orchestrator.result(run_id)
    assert (view.status, view.result, view.error) == ("Completed", {"done": True}, None)
    assert view.event_names == ("app/f",)
    [call] = function.calls
    assert call.request["event"]["data"] == {"n": 1}
    assert call.request["version"] == -1
    assert await orchestrator.view(run_id) == view
    assert await orchestrator.result(run_id) == view, "also after it ended"


async def test_a_run_starts_by_its_function(start: Start) -> None:
    orchestrator = await start()
    function = script(complete(1))
    await orchestrator.register(registration("f"), function)
    run_id = await orchestrator.start_run("app-f", {"x": 2})
    assert (await orchestrator.result(run_id)).result == 1
    event = function.calls[0].request["event"]
    assert (event["name"], event["data"]) == ("inngest/function.invoked", {"x": 2})
    with pytest.raises(ConfigurationError, match="registered are: app-f"):
        await orchestrator.start_run("app-g", {})


async def test_triggers_with_expressions_choose(start: Start) -> None:
    orchestrator = await start()
    function = Function(never)
    await orchestrator.register(
        registration(
            {"id": "big", "triggers": [{"event": "paid", "expression": "event.data.total > 100"}]},
            {"id": "all", "triggers": [{"event": "paid"}, {"event": "refunded"}]},
            {"id": "star", "triggers": [{"event": "pa*"}]},
        ),
        function,
    )
    small, big = await orchestrator.send(
        [{"name": "paid", "data": {"total": 5}}, {"name": "paid", "data": {"total": 500}}]
    )
    started = []
    for event_id in (small, big):
        views = [await orchestrator.view(run) for run in await orchestrator.runs_of(event_id)]
        started.append(sorted(view.function_id for view in views))
    assert started == [["app-all", "app-star"], ["app-all", "app-big", "app-star"]]


async def test_attempts_run_out(start: Start) -> None:
    orchestrator = await start()
    function = script(failure("one"), failure("two"), failure("three"))
    view = await orchestrator.result(await begin(orchestrator, function, retries=2))
    assert view.status == "Failed"
    assert view.error is not None
    assert view.error["message"] == "three"
    assert [call.ctx["attempt"] for call in function.calls] == [0, 1, 2]
    assert [call.ctx["generation_id"] for call in function.calls] == [1, 2, 3]
    assert len({call.ctx["request_id"] for call in function.calls}) == 3
    assert len({call.ctx["job_id"] for call in function.calls}) == 1


async def test_a_broken_call_counts_and_a_throttled_one_does_not(start: Start) -> None:
    orchestrator = await start()
    function = script(
        Answer(429, {}, b""),
        InvokeError("too many", throttled=True),
        InvokeError("nobody", refused=True),
        InvokeError("killed"),
        complete("ok"),
    )
    view = await orchestrator.result(await begin(orchestrator, function, retries=1))
    assert view.result == "ok"
    assert [call.ctx["attempt"] for call in function.calls] == [0, 0, 0, 0, 1]


async def test_an_invoker_that_raises_anything_is_a_failed_attempt(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_call: Call) -> Answer:
        raise RuntimeError("a bug in the invoker")

    orchestrator = await start()
    view = await orchestrator.result(await begin(orchestrator, Function(handler)))
    assert view.error is not None
    assert "a bug in the invoker" in view.error["message"]
    assert "The invoker of app-f failed" in caplog.text


async def test_confirmed_steps_come_back_in_order_after_a_failure(start: Start) -> None:
    orchestrator = await start()

    async def handler(call: Call) -> Answer:
        if call.has("b"):
            return complete([call.steps[step_id(name)]["data"] for name in "ab"])
        async with client_of(orchestrator) as client:
            for name, value in (("a", 1), ("b", 2)):
                response = await checkpoint(client, call, run_op(name, value))
                assert (response.status_code, response.json()) == (200, None)
        return failure()

    function = Function(handler)
    view = await orchestrator.result(await begin(orchestrator, function, retries=1))
    assert view.result == [1, 2]
    assert function.calls[1].ctx["stack"]["stack"] == [step_id("a"), step_id("b")]


async def test_a_superseded_invocation_is_told_so(start: Start) -> None:
    orchestrator = await start()
    first = asyncio.get_running_loop().create_future()
    release = asyncio.Event()

    async def handler(call: Call) -> Answer:
        if call.ctx["generation_id"] == 1:
            first.set_result(call)
            raise InvokeError("the connection broke, the invocation lives on")
        await release.wait()
        return complete(len(call.steps))

    again = happens(orchestrator, "call.started", times=2)
    run_id = await begin(orchestrator, Function(handler), retries=1)
    call = await first
    await again
    async with client_of(orchestrator) as client:
        response = await checkpoint(client, call, run_op("late"))
    assert response.status_code == 409
    assert "superseded" in response.json()["error"]
    release.set()
    assert (await orchestrator.result(run_id)).result == 0


async def test_a_cancelled_run_takes_no_checkpoint_and_no_answer(start: Start) -> None:
    orchestrator = await start()
    started: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    release = asyncio.Event()

    async def handler(call: Call) -> Answer:
        started.set_result(call)
        await release.wait()
        return report(run_op("late"))

    function = Function(handler)
    run_id = await begin(orchestrator, function)
    call = await started
    ended = happens(orchestrator, "call.ended")
    async with client_of(orchestrator) as client:
        assert (await client.delete(f"/v1/runs/{run_id}")).status_code == 200
        response = await checkpoint(client, call, run_op("a"))
        assert response.status_code == 400
        assert response.json()["error"] == "run not found in state store"
        assert (await client.get(f"/v0/runs/{run_id}/actions")).status_code == 410
    view = await orchestrator.result(run_id)
    assert view.status == "Cancelled"
    release.set()
    await ended
    assert len(function.calls) == 1
    assert await orchestrator.cancel(run_id) is False
    with pytest.raises(UnknownRunError, match="no-such-run"):
        await orchestrator.cancel("no-such-run")


async def test_events_cancel_the_runs_that_they_match(start: Start) -> None:
    orchestrator = await start()
    await orchestrator.register(
        registration(
            {"id": "f", "cancel": [{"event": "stop", "if": "async.data.n == event.data.n"}]},
            {"id": "g"},
        ),
        Function(never),
    )
    ids = await orchestrator.send(
        [{"name": f"app/{name}", "data": {"n": n}} for name in "fg" for n in (1, 2)]
    )
    await orchestrator.send([{"name": "stop", "data": {"n": 2}}])
    statuses = []
    for event_id in ids:
        [run_id] = await orchestrator.runs_of(event_id)
        statuses.append((await orchestrator.view(run_id)).status)
    assert statuses == ["Running", "Cancelled", "Running", "Running"]


async def test_planned_steps_run_at_once_and_fan_in(start: Start) -> None:
    orchestrator = await start()
    together = asyncio.Barrier(3)

    async def handler(call: Call) -> Answer:
        names = {step_id(name): name for name in ("a", "b", "c")}
        if call.target in names:
            await together.wait()
            assert call.ctx["disable_immediate_execution"]
            return report(run_op(names[call.target], names[call.target]))
        if call.has("a"):
            return complete(sorted(entry["data"] for entry in call.steps.values()))
        return report(*(plan_op(name) for name in "abc"))

    function = Function(handler)
    view = await orchestrator.result(await begin(orchestrator, function))
    assert view.result == ["a", "b", "c"]
    assert len(function.calls) == 5


async def test_in_race_mode_no_two_calls_without_a_target_overlap(start: Start) -> None:
    orchestrator = await start()
    names = [f"s{n}" for n in range(8)]
    by_id = {step_id(name): name for name in names}
    undirected = 0

    async def handler(call: Call) -> Answer:
        nonlocal undirected
        if call.target in by_id:
            return report(run_op(by_id[call.target], **RACE))
        undirected += 1
        assert undirected == 1
        await asyncio.sleep(0)
        undirected -= 1
        left = [name for name in names if not call.has(name)]
        return report(*(plan_op(name, **RACE) for name in left)) if left else complete("all")

    function = Function(handler)
    view = await orchestrator.result(await begin(orchestrator, function))
    assert view.result == "all"
    targets = [call.target for call in function.calls if call.target != "step"]
    assert sorted(targets) == sorted(by_id), "each step is called once"


async def test_a_failed_function_starts_its_failure_handler(start: Start) -> None:
    orchestrator = await start()

    async def handler(call: Call) -> Answer:
        if call.function_id == "app-f":
            return failure("broken", x_inngest_no_retry="true")
        return failure("the handler fails too", 400)

    function = Function(handler)
    failed = {
        "id": "on-failure",
        "triggers": [
            {"event": "inngest/function.failed", "expression": "event.data.function_id == 'app-f'"}
        ],
    }
    await orchestrator.register(registration("f", failed), function)
    handled = happens(orchestrator, "call.started", times=2)
    run_id = await orchestrator.start_run("app-f", {"x": 1})
    assert (await orchestrator.result(run_id)).status == "Failed"
    await handled
    await asyncio.sleep(0)
    event = function.calls[1].request["event"]
    assert event["id"] == run_id
    assert event["data"]["run_id"] == run_id
    assert event["data"]["error"]["message"] == "broken"
    await orchestrator.result(function.calls[1].ctx["run_id"])
    assert len(function.calls) == 2, "the handler's own failure starts nothing"


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


async def test_a_step_error_is_seen_by_the_function_after_its_attempts(start: Start) -> None:
    orchestrator = await start()

    async def handler(call: Call) -> Answer:
        if call.has("bad"):
            return complete(call.steps[step_id("bad")]["error"]["name"])
        return report(error_op("bad"))

    function = Function(handler)
    view = await orchestrator.result(await begin(orchestrator, function, retries=1))
    assert view.result == "ValueError"
    assert [call.ctx["attempt"] for call in function.calls] == [0, 1, 0]


async def test_a_registration_that_cannot_be_served_changes_nothing(start: Start) -> None:
    orchestrator = await start()
    await orchestrator.register(registration("f"), Function(never))
    for bad, fragment in (
        (registration("f", url="ftp://example"), "no address"),
        (registration("f", "f"), "two functions"),
        (registration({"id": "f", "cancel": [{"event": "x", "if": "size(event) > 1"}]}), "size"),
        ({"url": "http://x"}, "appName"),
    ):
        with pytest.raises(ConfigurationError, match=fragment):
            await orchestrator.register(bad)
    assert list(orchestrator.functions) == ["app-f"]
    await orchestrator.register(registration("g"), Function(never))
    assert list(orchestrator.functions) == ["app-g"], "what is registered no more starts no runs"


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
