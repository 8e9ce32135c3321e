"""Runs from their event to their end, with a function in the same process."""

from __future__ import annotations

import asyncio

import pytest

from onward.errors import ConfigurationError
from onward_server import (
    Answer,
    InvokeError,
    UnknownRunError,
)
from tests.golden.orchestrator_replay import ManualClock
from tests.server.conftest import Start
from tests.server.driving import begin, checkpoint, client_of, happens
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


BIG = {"event": "shop/paid", "expression": "event.data.total > 100"}


async def test_triggers_with_expressions_choose(start: Start) -> None:
    orchestrator = await start()
    function = Function(never)
    await orchestrator.register(
        registration(
            {
                "id": "big",
                "triggers": [BIG],
            },
            {"id": "all", "triggers": [{"event": "shop/paid"}, {"event": "shop/refunded"}]},
            {"id": "star", "triggers": [{"event": "shop/*"}]},
        ),
        function,
    )
    small, big = await orchestrator.send(
        [{"name": "shop/paid", "data": {"total": 5}}, {"name": "shop/paid", "data": {"total": 500}}]
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


async def test_an_event_cancels_for_as_long_as_its_timeout_says(start: Start) -> None:
    clock = ManualClock()
    orchestrator = await start(clock=clock)
    cancel = {"event": "stop", "if": "async.data.n == event.data.n", "timeout": "10s"}
    napping = {"id": "f", "cancel": [cancel]}

    async def naps(_call: Call) -> Answer:
        return report(sleep_op("nap", "10001ms"))

    await orchestrator.register(registration(napping), Function(naps))
    answered = happens(orchestrator, "call.ended", times=2)
    ids = await orchestrator.send([{"name": "app/f", "data": {"n": n}} for n in (1, 2)])
    [[first], [second]] = [await orchestrator.runs_of(event_id) for event_id in ids]
    await answered
    await orchestrator.send([{"name": "stop", "data": {"n": 1}}])
    assert (await orchestrator.view(first)).status == "Cancelled"
    clock._now += 10_001
    await orchestrator.send([{"name": "stop", "data": {"n": 2}}])
    assert (await orchestrator.view(second)).status == "Running"


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
        (registration({"id": "f", "cancel": [{"event": "x", "if": "size(event >"}]}), "size"),
        ({"url": "http://x"}, "appName"),
    ):
        with pytest.raises(ConfigurationError, match=fragment):
            await orchestrator.register(bad)
    assert list(orchestrator.functions) == ["app-f"]
    await orchestrator.register(registration("g"), Function(never))
    assert list(orchestrator.functions) == ["app-g"], "what is registered no more starts no runs"


async def test_events_are_found_by_name_time_and_cursor(start: Start) -> None:
    orchestrator = await start()
    ids = await orchestrator.send([{"name": name} for name in ("a", "b", "a", "a")])
    async with client_of(orchestrator) as client:

        async def found(**query: str) -> list[str]:
            response = await client.get("/v1/events", params=query)
            assert response.status_code == 200, response.text
            return [event["internal_id"] for event in response.json()["data"]]

        assert await found() == ids[::-1]
        assert await found(name="a", limit="2") == [ids[3], ids[2]]
        assert await found(name="a", cursor=ids[2]) == [ids[0]]
        assert await found(received_after="2100-01-01") == []
        assert await found(received_before="2100-01-01T00:00:00Z") == ids[::-1]
        refused = await client.get("/v1/events", params={"received_after": "yesterday"})
        assert refused.status_code == 400
        assert refused.json()["error"] == "Invalid received_after query parameter"
