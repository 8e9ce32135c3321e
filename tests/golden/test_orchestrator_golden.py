"""The embedded orchestrator makes the calls that the recorded server made, or refuses loudly."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from onward_server import RunView
from tests.golden.orchestrator_replay import ManualClock, Replay, orchestrator_on
from tests.golden.recordings import RecordedCall, load, names

#: Scenarios that are not played call by call, each with the reason.
ELSEWHERE = {
    "sync-and-introspection": "has no calls; test_registration_as_recorded",
    "checkpoint-refusals": "has no calls; test_checkpoints_are_refused_as_recorded",
    "events-and-rest-api": "its event intake and reads; test_event_intake_as_recorded",
    "signed-sync": "has no calls, and dev mode signs nothing",
    "endpoint-all-sync": "durable endpoints, whose checkpoints are another API",
    "endpoint-goes-async-on-sleep": "durable endpoints, whose checkpoints are another API",
    "batch-events": "batching events is not something that the embedded orchestrator does",
    "child": "starts by an invoke; test_ops_that_are_not_resolved_fail_the_run",
    "invoke-child": "test_ops_that_are_not_resolved_fail_the_run",
    "wait-for-signal": "test_ops_that_are_not_resolved_fail_the_run",
    "on-failure-failure": "played with on-failure",
}

#: Traps that are refused: after how many calls, and what the error says.
REFUSED = {
    "edge-continue-repeated-id-hangs": (2, "a second time"),
    "edge-none-op-with-id": (1, "nothing is left to wait for"),
    "edge-sleep-beside-wait-race-once": (2, "its branch would starve"),
    "edge-sleep-beside-wait-starves": (1, "all but the last to resolve would starve"),
    "edge-steprun-then-stepfailed-hangs": (1, "a step has one outcome"),
    "edge-stepruns-beside-steperror": (1, "would run again beside its own retry"),
    "edge-two-steperrors": (1, "would run again beside its own retry"),
    "edge-wait-beside-discovery-hangs": (1, "would never be called back"),
}

PLAYED = [name for name in names() if name not in ELSEWHERE and name not in REFUSED]

#: Runs that do not end well in the recording either.
FAILED = {
    "function-error-final": "fatal",
    "edge-checkpoint-does-not-reset-attempt": "boom",
    "non-retriable-step-error": "stop",
    "on-failure": "needs clean-up",
}

#: Fields of a call request that are not compared as they are, each with the reason.
ADAPTED = {
    "disable_immediate_execution": "the recorded server keeps the flag on the run and loses it"
    " between concurrent calls; ours is true whenever anything else is open. So a recorded true"
    " must be true, except in race-two, whose last call has nothing open beside it",
    "stack, where one response held several results": "the recorded server stores them at once, in"
    " any order; ours in the response's order",
    "stack.current of the planned call in checkpoint-api-down-fallback": "two concurrent calls plan"
    " the step; which one is first was a race",
}
UNORDERED = {
    "edge-three-stepruns-in-one-response",
    "edge-stepruns-beside-discovery",
    "checkpoint-api-down-fallback",
}


def adapter(name: str) -> Any:
    def adapt(call: RecordedCall, ours: dict[str, Any]) -> dict[str, Any]:
        recorded: dict[str, Any] = copy.deepcopy(call.exchange.body)
        theirs, mine = recorded["ctx"], ours["ctx"]
        if not theirs["disable_immediate_execution"] or (
            name == "race-two" and call.query["stepId"] == "step"
        ):
            theirs["disable_immediate_execution"] = mine["disable_immediate_execution"]
        if name in UNORDERED:
            assert sorted(theirs["stack"]["stack"]) == sorted(mine["stack"]["stack"])
            theirs["stack"]["stack"] = mine["stack"]["stack"]
            if name != "edge-three-stepruns-in-one-response":
                theirs["stack"]["current"] = mine["stack"]["current"]
        return recorded

    return adapt


def registration(*recordings: Any) -> dict[str, Any]:
    url = "http://127.0.0.1:3000" + recordings[0].calls[0].exchange.request["path"].split("?")[0]
    functions = []
    for recording in recordings:
        function: dict[str, Any] = {
            "id": recording.function_id,
            "name": recording.name,
            "triggers": [{"event": recording.event["name"]}],
            "steps": {
                "step": {
                    "id": "step",
                    "name": "step",
                    "runtime": {
                        "type": "http",
                        "url": f"{url}?fnId={recording.function_id}&stepId=step",
                    },
                    "retries": {"attempts": recording.calls[0].ctx["max_attempts"] - 1},
                }
            },
        }
        if recording.name == "cancel-on-event":
            function["cancel"] = [
                {"event": "golden/cancel", "if": "async.data.id == event.data.id"}
            ]
        functions.append(function)
    return {"appName": "golden", "url": url, "functions": functions}


async def send_the_event(replay: Replay) -> str:
    event = replay.recordings[0].event
    [event_id] = await replay.orchestrator.send([{"name": event["name"], "data": event["data"]}])
    [run_id] = await replay.orchestrator.runs_of(event_id)
    return run_id


async def approve(replay: Replay) -> None:
    orchestrator = replay.orchestrator
    await orchestrator.send([{"name": "golden/approval", "data": {"id": "another"}}])
    assert orchestrator._runs.all()[0].pending, "an event that does not match must not end the wait"
    await orchestrator.send([{"name": "golden/approval", "data": {"id": "k1"}}])


async def cancel(replay: Replay) -> None:
    orchestrator = replay.orchestrator
    await orchestrator.send([{"name": "golden/cancel", "data": {"id": "another"}}])
    assert orchestrator._runs.all(), "an event that does not match must not cancel"
    data = replay.recordings[0].event["data"]
    await orchestrator.send([{"name": "golden/cancel", "data": {"id": data["id"]}}])


STIMULI: dict[str, list[Any]] = {"wait-for-event-match": [approve], "cancel-on-event": [cancel]}


async def play(*chosen: str) -> tuple[Replay, RunView]:
    recordings = [load(name) for name in chosen]
    clock = ManualClock()
    orchestrator = await orchestrator_on(clock)
    replay = Replay(
        recordings, orchestrator, clock, adapter(chosen[0]), list(STIMULI.get(chosen[0], []))
    )
    try:
        view = await replay.run(registration(*recordings), send_the_event)
    finally:
        await orchestrator.stop()
    return replay, view


@pytest.mark.parametrize("name", PLAYED)
async def test_the_calls_are_those_that_were_recorded(name: str) -> None:
    companions = ["on-failure-failure"] if name == "on-failure" else []
    replay, view = await play(name, *companions)
    assert replay.problems == []
    assert replay.unexpected == []
    left = [
        call.exchange.request["path"]
        for r in replay.recordings
        for call in r.calls
        if not call.taken
    ]
    assert left == [], "recorded calls that were not made"
    if name == "cancel-on-event":
        assert view.status == "Cancelled"
    elif name in FAILED:
        assert view.status == "Failed"
        assert view.error is not None
        assert view.error["message"] == FAILED[name]
    else:
        assert view.status == "Completed", view.error
        final = replay.recordings[0].calls[-1].exchange.response
        expected = final["body"] if final["status"] == 200 else final["body"][-1]["data"]
        assert view.result == expected


@pytest.mark.parametrize("name", REFUSED)
async def test_a_trap_ends_the_run_with_an_error_that_names_it(name: str) -> None:
    calls, fragment = REFUSED[name]
    replay, view = await play(name)
    assert replay.problems == []
    assert replay.unexpected == []
    assert len(replay.made) == calls
    assert view.status == "Failed"
    assert view.error is not None
    assert fragment in view.error["message"]
    shape = replay.recordings[0].calls[calls - 1].exchange.response["body"]
    assert all(op["op"] in view.error["message"] for op in shape), "the ops are named"


@pytest.mark.parametrize("name", ["invoke-child", "wait-for-signal"])
async def test_ops_that_are_not_resolved_fail_the_run(name: str) -> None:
    replay, view = await play(name)
    assert replay.problems == []
    assert len(replay.made) == 1
    assert view.status == "Failed"
    assert view.error is not None
    assert "does not resolve" in view.error["message"]


def test_every_recording_is_accounted_for() -> None:
    assert set(ELSEWHERE) | set(REFUSED) | set(PLAYED) == set(names())
    assert {name for name in names() if name.startswith("edge-")} <= set(REFUSED) | set(PLAYED)
    assert all(ADAPTED.values())
