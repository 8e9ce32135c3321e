"""Functions that invoke functions, end to end: results, errors, other apps, restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onward_server import Answer, Orchestrator, events, queries
from onward_server.model import DropOutgoing
from onward_server.runs import outgoing_rows
from onward_server.starts import Starts
from onward_server.store import Store
from tests.server.conftest import Start
from tests.server.driving import begin, happens
from tests.server.fakes import (
    Call,
    Function,
    complete,
    failure,
    invoke_op,
    never,
    registration,
    report,
    step_id,
)


def caller(function_id: str, **opts: Any) -> Function:
    """Invokes `function_id` and returns what its step's journal entry is."""

    async def handler(call: Call) -> Answer:
        if call.has("child"):
            return complete(call.steps[step_id("child")])
        return report(invoke_op("child", function_id, {"x": 21}, **opts))

    return Function(handler)


async def entry_of(orchestrator: Orchestrator, function: Function) -> Any:
    view = await orchestrator.result(await begin(orchestrator, function))
    assert view.status == "Completed", view.error
    return view.result


async def test_the_result_of_another_app_comes_back(start: Start) -> None:
    orchestrator = await start()

    async def handler(call: Call) -> Answer:
        return complete(call.request["event"]["data"]["x"] * 2)

    child = Function(handler)
    await orchestrator.register(registration("g", app="other"), child)
    assert await entry_of(orchestrator, caller("other-g")) == {"data": 42}
    event = child.calls[0].request["event"]
    assert event["name"] == "inngest/function.invoked"
    assert event["data"]["_inngest"]["fn_id"] == "other-g"
    assert event["data"]["_inngest"]["name"] == "child"


async def test_a_result_of_nothing_is_null(start: Start) -> None:
    orchestrator = await start()

    async def handler(_call: Call) -> Answer:
        return complete(None)

    await orchestrator.register(registration("g", app="other"), Function(handler))
    assert await entry_of(orchestrator, caller("other-g")) == {"data": None}


async def test_the_error_of_a_failed_function_comes_back(start: Start) -> None:
    orchestrator = await start()

    async def handler(_call: Call) -> Answer:
        return failure("the child broke", x_inngest_no_retry="true")

    await orchestrator.register(registration("g", app="other"), Function(handler))
    entry = await entry_of(orchestrator, caller("other-g"))
    assert set(entry) == {"error"}
    assert (entry["error"]["name"], entry["error"]["message"]) == ("ValueError", "the child broke")


async def test_an_unknown_function_is_the_steps_error(start: Start) -> None:
    orchestrator = await start()
    entry = await entry_of(orchestrator, caller("nobody-g"))
    message = entry["error"]["message"]
    assert "could not find function with ID: nobody-g" in message
    assert "Registered are: app-f" in message


async def test_a_cancelled_function_is_the_steps_error(start: Start) -> None:
    orchestrator = await start()
    running: asyncio.Future[Call] = asyncio.get_running_loop().create_future()

    async def handler(call: Call) -> Answer:
        running.set_result(call)
        return await never(call)

    await orchestrator.register(registration("g", app="other"), Function(handler))
    run_id = await begin(orchestrator, caller("other-g"))
    await orchestrator.cancel((await running).ctx["run_id"])
    view = await orchestrator.result(run_id)
    assert view.result["error"]["name"] == "RunCancelledError"


async def test_a_function_that_takes_too_long_goes_on_without_its_caller(start: Start) -> None:
    orchestrator = await start()
    release = asyncio.Event()
    children: list[str] = []

    async def handler(call: Call) -> Answer:
        children.append(call.ctx["run_id"])
        await release.wait()
        return complete("late")

    await orchestrator.register(registration("g", app="other"), Function(handler))
    entry = await entry_of(orchestrator, caller("other-g", timeout="50ms"))
    assert entry["error"]["name"] == "InngestInvokeTimeoutError"
    release.set()
    assert (await orchestrator.result(children[0])).result == "late"


async def test_a_function_is_invoked_once_over_a_restart(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends between the commit of the invocation and its intake."""
    db = tmp_path / "runs.db"
    first = await start(db)
    reached = asyncio.Event()
    commit = Store.commit

    async def stuck(self: Store, writes: Any) -> None:
        if any(isinstance(write, DropOutgoing) for write in writes):
            reached.set()
            await asyncio.get_running_loop().create_future()
        await commit(self, writes)

    monkeypatch.setattr(Store, "commit", stuck)
    started: list[str] = []

    async def handler(call: Call) -> Answer:
        started.append(call.ctx["run_id"])
        return complete(42)

    await first.register(registration("g", app="other"), Function(handler))
    run_id = await begin(first, caller("other-g"))
    await reached.wait()
    await first.stop()
    assert started == []
    monkeypatch.setattr(Store, "commit", commit)
    second = await start(db)
    await second.register(registration("g", app="other"), Function(handler))
    await second.register(registration("f"), caller("other-g"))
    assert (await second.result(run_id)).result == {"data": 42}
    assert len(started) == 1


async def test_who_listens_hears_that_a_run_has_finished(start: Start) -> None:
    orchestrator = await start()
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def handler(call: Call) -> Answer:
        if call.function_id == "app-f":
            return complete("done")
        heard.put_nowait(call.request["event"])
        return complete(None)

    listener = {
        "id": "listener",
        "triggers": [
            {
                "event": "inngest/function.finished",
                "expression": "event.data.function_id == 'app-f'",
            }
        ],
    }
    await orchestrator.register(registration("f", listener), Function(handler))
    run_id = await orchestrator.start_run("app-f", {"x": 1})
    event = await heard.get()
    assert event["data"]["run_id"] == run_id
    assert event["data"]["result"] == "done"
    assert event["data"]["_inngest"] == {"status": "Completed"}
    assert event["data"]["event"]["data"] == {"x": 1}


async def test_who_listens_hears_that_a_run_was_cancelled(start: Start) -> None:
    orchestrator = await start()
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def handler(call: Call) -> Answer:
        if call.function_id == "app-f":
            return await never(call)
        heard.put_nowait(call.request["event"])
        return complete(None)

    listener = {"id": "listener", "triggers": [{"event": "inngest/function.cancelled"}]}
    function = Function(handler)
    await orchestrator.register(registration("f", listener), function)
    running = happens(orchestrator, "call.started")
    run_id = await orchestrator.start_run("app-f", {})
    await running
    assert await orchestrator.cancel(run_id)
    event = await heard.get()
    assert (event["id"], event["data"]["run_id"]) == (run_id, run_id)
    assert event["data"]["_inngest"] == {"status": "Cancelled"}


async def test_an_event_from_outside_answers_no_invocation(start: Start) -> None:
    orchestrator = await start()

    async def handler(call: Call) -> Answer:
        if call.function_id == "app-other":
            return complete("forged")
        if call.function_id == "app-slow":
            return await never(call)
        return report(invoke_op("child", "app-slow"))

    slow = {"id": "slow", "triggers": []}
    await orchestrator.register(registration("f", "other", slow), Function(handler))
    waiting = happens(orchestrator, "call.started", times=2)
    run_id = await orchestrator.start_run("app-f", {})
    await waiting
    forged = {"_inngest": {"correlation_id": f"{run_id}.{step_id('child')}"}}
    ended = happens(orchestrator, "run.ended")
    await orchestrator.send([{"name": "app/other", "data": forged}])
    await ended
    await asyncio.gather(*orchestrator._follow_ups)
    assert (await orchestrator.view(run_id)).status == "Running"
    [live] = [state for state in orchestrator._runs.all() if state.run_id == run_id]
    assert step_id("child") in live.pending


async def test_an_event_that_cannot_be_taken_in_holds_up_no_other(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two events are left of an earlier process, and the first of them breaks whatever it meets."""
    db = tmp_path / "runs.db"
    first = await start(db)

    async def handler(_call: Call) -> Answer:
        return complete("heard")

    await first.register(registration("f"), Function(handler))
    for number in (1, 2):
        event = events.make("app/f", {"n": number}, f"01{number}", 1_700_000_000_000 + number)
        await first.store.commit(outgoing_rows([event], 0))
    await first.stop()
    real = Starts.start

    async def breaking(self: Starts, wanted: Any, writes: Any, told: Any = ()) -> None:
        wanted = list(wanted)
        if any(event.value["data"]["n"] == 1 for _, event in wanted):
            raise TypeError("says the test")
        await real(self, wanted, writes, told)

    monkeypatch.setattr(Starts, "start", breaking)
    second = await start(db)
    await second.register(registration("f"), Function(handler))
    await asyncio.gather(*second._follow_ups)
    [run_id] = await second.runs_of("012")
    assert (await second.result(run_id)).result == "heard"
    left = await second.store.read(queries.outgoing)
    assert [row.event_id for row in left] == ["011"]
    assert "cannot be taken in" in caplog.text
