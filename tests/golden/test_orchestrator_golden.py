"""The embedded orchestrator makes the calls that the recorded server made, or refuses loudly."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest

from onward_server import RunView, Settings
from tests.golden.orchestrator_replay import ManualClock, Replay, orchestrator_on
from tests.golden.recordings import RecordedCall, load, names

#: Scenarios that are not played call by call, each with the reason.
ELSEWHERE = {
    "sync-and-introspection": "has no calls; test_registration_as_recorded",
    "checkpoint-refusals": "has no calls; test_checkpoints_are_refused_as_recorded",
    "events-and-rest-api": "its event intake and reads; test_event_intake_as_recorded",
    "signed-sync": "has no calls; test_a_signed_registration_as_recorded",
    "endpoint-all-sync": "has no calls; test_endpoints_golden.py",
    "endpoint-goes-async-on-sleep": "its calls are requests again; test_endpoints_golden.py",
    "child": "played with invoke-child",
    "on-failure-failure": "played with on-failure",
}

#: Traps that are refused: after how many calls, and what the error says.
REFUSED = {
    "edge-continue-repeated-id-hangs": (2, "a second time"),
    "edge-none-op-with-id": (1, "nothing is left to wait for"),
    "edge-steprun-then-stepfailed-hangs": (1, "a step has one outcome"),
    "edge-stepruns-beside-steperror": (1, "would run again beside its own retry"),
    "edge-two-steperrors": (1, "would run again beside its own retry"),
    "edge-wait-beside-discovery-hangs": (1, "would never be called back"),
}

#: Calls that the recorded server puts off and ours does not: how many calls, and why.
SOONER = {
    "edge-sleep-beside-wait-race-once": (
        3,
        (
            "the result of a step outside race mode waited for the loser of a race, for its whole"
            " timeout; ours calls as soon as nothing outside race mode is open"
        ),
    ),
}

PLAYED = [name for name in names() if name not in {*ELSEWHERE, *REFUSED, *SOONER}]

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
#: The key that the signed recordings were made with.
KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
SETTINGS = {"signed-run": Settings(signing_key=KEY, event_keys=("abcdef12",))}

#: Runs that the first one starts, played with it.
COMPANIONS = {"on-failure": ["on-failure-failure"], "invoke-child": ["child"]}
#: What the recorded server says about an invoked run that ours does not, each with the reason.
OF_ITS_OWN = {
    "isr": "where its own trace of the invocation goes on",
    "tc": "where its own trace of the invocation goes on",
}
#: What both say and each in its own way: ids derived otherwise, and an instant.
OWN_VALUES = {"gid", "source_app_id", "source_fn_id", "expire"}
UNORDERED = {
    "edge-three-stepruns-in-one-response",
    "edge-stepruns-beside-discovery",
    "checkpoint-api-down-fallback",
}


def adapt_invocation(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    for key in OF_ITS_OWN:
        del theirs[key]
    for key in OWN_VALUES:
        assert type(theirs[key]) is type(ours[key])
        theirs[key] = ours[key]
    run_id, _, step_id = theirs["correlation_id"].partition(".")
    our_run_id, _, our_step_id = ours["correlation_id"].partition(".")
    assert (len(run_id), step_id) == (len(our_run_id), our_step_id)
    theirs["correlation_id"] = ours["correlation_id"]


def adapter(name: str) -> Any:
    def adapt(call: RecordedCall, ours: dict[str, Any]) -> dict[str, Any]:
        recorded: dict[str, Any] = copy.deepcopy(call.exchange.body)
        theirs, mine = recorded["ctx"], ours["ctx"]
        for event, own in zip(
            [recorded["event"], *recorded["events"]], [ours["event"], *ours["events"]], strict=True
        ):
            if "correlation_id" in event["data"].get("_inngest", {}):
                adapt_invocation(event["data"]["_inngest"], own["data"]["_inngest"])
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
            "triggers": triggers_of(recording),
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
        if recording.name == "batch-events":
            function["batchEvents"] = {"maxSize": 3, "timeout": "5s"}
        functions.append(function)
    return {"appName": "golden", "url": url, "functions": functions}


def triggers_of(recording: Any) -> list[dict[str, Any]]:
    name = recording.event["name"]
    return [] if name == "inngest/function.invoked" else [{"event": name}]


async def send_the_event(replay: Replay) -> str:
    events = replay.recordings[0].calls[0].exchange.body["events"]
    ids = await replay.orchestrator.send([{k: e[k] for k in ("name", "data")} for e in events])
    started = {tuple(await replay.orchestrator.runs_of(event_id)) for event_id in ids}
    [[run_id]] = started
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


async def signal(replay: Replay) -> None:
    async with httpx.AsyncClient(base_url=replay.api, trust_env=False) as client:
        unknown = await client.post("/v1/signals", json={"signal": "golden-signal-2", "data": 1})
        assert unknown.status_code == 404
        body = {"signal": "golden-signal-1", "data": {"ok": True}}
        sent = await client.post("/v1/signals", json=body)
    assert sent.status_code == 200
    assert sent.json()["data"]["run_id"] == replay.orchestrator._runs.all()[0].run_id


STIMULI: dict[str, list[Any]] = {
    "wait-for-event-match": [approve],
    "cancel-on-event": [cancel],
    "wait-for-signal": [signal],
}


async def play(*chosen: str) -> tuple[Replay, RunView]:
    recordings = [load(name) for name in chosen]
    clock = ManualClock()
    orchestrator = await orchestrator_on(clock, SETTINGS.get(chosen[0]))
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
    replay, view = await play(name, *COMPANIONS.get(name, []))
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


@pytest.mark.parametrize("name", SOONER)
async def test_a_call_that_nothing_holds_up_is_made_sooner(name: str) -> None:
    calls, _ = SOONER[name]
    replay, view = await play(name)
    assert len(replay.made) == calls
    assert view.status == "Completed"
    recorded = replay.recordings[0].calls[calls - 1].exchange.body["ctx"]["stack"]["stack"]
    assert [*replay.made[-1]["ctx"]["stack"]["stack"], recorded[-1]] == recorded


def test_every_recording_is_accounted_for() -> None:
    assert {*ELSEWHERE, *REFUSED, *SOONER, *PLAYED} == set(names())
    assert {name for name in names() if name.startswith("edge-")} <= {*REFUSED, *SOONER, *PLAYED}
    assert all(ADAPTED.values())
