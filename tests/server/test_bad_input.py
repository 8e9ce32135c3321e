"""Bad input: the API refuses it, a run fails with an error that says why, and nothing hangs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from onward_server import Answer, BadEventError
from tests.server.conftest import Start
from tests.server.driving import client_of
from tests.server.fakes import Call, Function, complete, invoke_op, registration, report, step_id

DIGITS = "9" * 5000
HALF = "\ud800"


def op(code: str, **opts: Any) -> bytes:
    return json.dumps([{"op": code, "id": "a", "name": "n", "opts": opts}]).encode()


def invoked(**payload: Any) -> bytes:
    return op("InvokeFunction", function_id="app-g", payload={"data": {}, **payload})


ANSWERS = {
    "a number of thousands of digits": (200, DIGITS.encode(), "ProtocolError"),
    "a result with such a number": (
        206,
        b'[{"op":"StepRun","id":"a","data":' + DIGITS.encode() + b"}]",
        "ProtocolError",
    ),
    "a timeout beyond all numbers": (
        206,
        op("WaitForEvent", event="e", timeout=1e308),
        "InngestErrTimeoutTooLong",
    ),
    "an event of half a character": (
        206,
        op("WaitForEvent", event=HALF, timeout="1h"),
        "ResponseRefusedError",
    ),
    "a condition with half a character": (
        206,
        op("WaitForEvent", event="e", timeout="1h", **{"if": f"event.name == '{HALF}'"}),
        "ProtocolError",
    ),
    "a signal of half a character": (206, op("WaitForSignal", signal=HALF), "ResponseRefusedError"),
    "a ts that is no time": (206, invoked(ts="soon"), "ResponseRefusedError"),
    "a ts beyond all time": (206, invoked(ts=10**30), "ResponseRefusedError"),
    "an id that is no text": (206, invoked(id={"x": 1}), "ResponseRefusedError"),
    "an id of half a character": (206, invoked(id=HALF), "ResponseRefusedError"),
    "a user that is no object": (206, invoked(user="me"), "ResponseRefusedError"),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_cannot_be_taken_fails_its_run(start: Start, case: str) -> None:
    status, body, name = ANSWERS[case]
    orchestrator = await start()

    async def handler(_call: Call) -> Answer:
        return Answer(status, {"x-inngest-req-version": "2"}, body)

    await orchestrator.register(registration("f", "g"), Function(handler))
    view = await orchestrator.result(await orchestrator.start_run("app-f", {}))
    assert view.status == "Failed"
    assert view.error is not None
    assert view.error["name"] == name


async def test_a_run_whose_answer_cannot_be_written_is_tried_again(start: Start) -> None:
    orchestrator = await start()

    async def handler(call: Call) -> Answer:
        version = "9" * 30 if call.ctx["attempt"] == 0 else "2"
        return (
            report({"op": "StepRun", "id": "a", "data": 1}, x_inngest_req_version=version)
            if (not call.steps)
            else complete("done")
        )

    function = Function(handler)
    await orchestrator.register(registration("f", retries=1), function)
    view = await orchestrator.result(await orchestrator.start_run("app-f", {}))
    assert (view.status, view.result) == ("Completed", "done")
    assert [call.ctx["attempt"] for call in function.calls] == [0, 1, 0]


async def test_who_invokes_with_a_time_gets_a_result(start: Start) -> None:
    orchestrator = await start()

    async def handler(call: Call) -> Answer:
        if call.function_id == "app-g":
            return complete("child")
        if call.has("child"):
            return complete(call.steps[step_id("child")]["data"])
        asked = invoke_op("child", "app-g")
        asked["opts"]["payload"]["ts"] = 1_700_000_000_000
        return report(asked)

    await orchestrator.register(registration("f", "g"), Function(handler))
    view = await orchestrator.result(await orchestrator.start_run("app-f", {}))
    assert view.result == "child"


@pytest.mark.parametrize("ts", [1_700_000_000, 1_700_000_000_000_000, 10**30])
async def test_an_event_of_no_time_that_was_meant_is_refused(start: Start, ts: int) -> None:
    orchestrator = await start()
    with pytest.raises(BadEventError, match=r"timestamp is (before Jan 1, 1980|after Jan 1, 2100)"):
        await orchestrator.send([{"name": "app/f", "ts": ts}])


POSTS = (
    "/e/key",
    "/fn/register",
    "/v1/signals",
    "/v1/cancellations",
    "/v1/checkpoint",
    "/v1/checkpoint/x/steps",
    "/v1/checkpoint/x/async",
)


@pytest.mark.parametrize("path", POSTS)
async def test_bodies_that_are_none_are_refused(start: Start, path: str) -> None:
    orchestrator = await start()
    async with client_of(orchestrator) as client:
        for body in ("", "{", "null", "1", '"x"', "[null]", "[" * 100_000, DIGITS, "\ufeff{}"):
            response = await client.post(path, content=body)
            assert 400 <= response.status_code < 500, (path, body[:20], response.text)


@pytest.mark.parametrize("limit", ["²", DIGITS, "-1", "x", ""])
async def test_a_limit_that_is_none(start: Start, limit: str) -> None:
    orchestrator = await start()
    async with client_of(orchestrator) as client:
        for path in ("/v1/runs", "/v1/events"):
            assert (await client.get(path, params={"limit": limit})).json()["data"] == []


@pytest.mark.parametrize("seed", [f"{DIGITS},AAAAAAAAAAAAAA==", "0,AAAAAAAAAAAAAA==", ","])
async def test_a_seed_that_is_none_has_no_effect(start: Start, seed: str) -> None:
    orchestrator = await start()
    async with client_of(orchestrator) as client:
        fields = {"x-inngest-event-id-seed": seed}
        sent = [await client.post("/e/key", json={"name": "a"}, headers=fields) for _ in range(2)]
    assert [response.status_code for response in sent] == [200, 200]
    assert sent[0].json()["ids"] != sent[1].json()["ids"]


STEP = {"runtime": {"url": "http://127.0.0.1:9/x"}, "retries": {"attempts": 1}}
FIELDS: dict[str, dict[str, Any]] = {
    "an id of half a character": {"id": HALF},
    "a runtime that is no object": {"steps": {"step": {**STEP, "runtime": "x"}}},
    "retries that are no object": {"steps": {"step": {**STEP, "retries": 3}}},
    "a mode that is a list": {"singleton": {"mode": []}},
    "a limit beyond all numbers": {"throttle": {"limit": 10**400, "period": "1s"}},
}


@pytest.mark.parametrize("case", FIELDS)
async def test_a_registration_with_it_is_refused(start: Start, case: str) -> None:
    orchestrator = await start()
    body = registration({"id": "f", **FIELDS[case]})
    async with client_of(orchestrator) as client:
        response = await client.post("/fn/register", content=json.dumps(body))
    assert response.status_code == 400, response.text
    assert "app-" in response.json()["error"]
    assert not orchestrator.functions


async def test_a_key_that_is_no_json_limits_too(start: Start) -> None:
    orchestrator = await start()
    limited = {"id": "f", "rateLimit": {"limit": 1, "period": "1h", "key": "b'same'"}}

    async def handler(_call: Call) -> Answer:
        return complete()

    await orchestrator.register(registration(limited), Function(handler))
    ids = await orchestrator.send([{"name": "app/f"}, {"name": "app/f"}])
    assert [len(await orchestrator.runs_of(id_)) for id_ in ids] == [1, 0]
