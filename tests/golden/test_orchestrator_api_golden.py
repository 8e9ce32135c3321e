"""Registration, event intake, run reads and checkpoint refusals answer as recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from onward_server import Answer, Orchestrator, Settings
from tests.golden.recordings import Exchange, Mapping, differences, load

#: The key that the signed recordings were made with.
KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
BASE = "http://orchestrator"

#: What is not compared in an answer, each with the reason.
IGNORED = {
    "metadata": "when it was fetched",
    "run_started_at": "a time",
    "ended_at": "a time",
    "received_at": "a time",
    "sync_id": "derived from what is registered, in another way",
    "app_id": "derived from the app's name, in another way",
    "modified": "whether the server knew the app before the recording began",
    "function": "ours alone: the function's id for people, beside its UUID",
    "function_id": "a UUID, derived from the function's id in another way",
    "environment_id": "the recorded server gives two different ones",
    "output": "the recorded server leaves it empty",
}


class Function:
    """Answers each call with what the test puts into `answers`, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.called = asyncio.Event()
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()

    async def invoke(
        self,
        function_id: str,
        target: str,
        request: dict[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - the protocol
    ) -> Answer:
        self.requests.append(request)
        self.called.set()
        return await self.answers.get()


def registration(*functions: str) -> dict[str, Any]:
    url = "http://127.0.0.1:9/api/x"
    return {
        "appName": "extra",
        "url": url,
        "functions": [
            {
                "id": f"extra-{name}",
                "triggers": [{"event": f"extra/{name}"}],
                "steps": {"step": {"runtime": {"type": "http", "url": url}}},
            }
            for name in functions
        ],
    }


@pytest.fixture
async def orchestrator() -> AsyncIterator[Orchestrator]:
    orchestrator = Orchestrator(":memory:")
    await orchestrator.start()
    yield orchestrator
    await orchestrator.stop()


@pytest.fixture
async def client(orchestrator: Orchestrator) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=orchestrator.asgi)
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


def compare(exchange: Exchange, response: httpx.Response, mapping: Mapping) -> list[str]:
    text = json.dumps({key: exchange.response[key] for key in ("status", "headers", "body")})
    for (kind, recorded_id), ours_id in mapping.ours.items():
        if kind == "ulid":
            text = text.replace(recorded_id, ours_id)
    recorded = json.loads(text)
    ours = {
        "status": response.status_code,
        "headers": {key: response.headers.get(key) for key in recorded["headers"]},
        "body": response.json(),
    }
    return differences(without_ignored(recorded), without_ignored(ours), identity(mapping))


def identity(mapping: Mapping) -> Mapping:
    """A mapping in which ids that were translated stand for themselves."""
    translated = Mapping()
    for (kind, recorded), ours in mapping.ours.items():
        source = ours if kind == "ulid" else recorded
        translated.ours[kind, str(source)] = ours
        translated.theirs[kind, str(ours)] = source
    return translated


def without_ignored(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_ignored(v) for k, v in value.items() if k not in IGNORED}
    if isinstance(value, list):
        return [without_ignored(item) for item in value]
    return value


async def again(client: httpx.AsyncClient, exchange: Exchange, mapping: Mapping) -> httpx.Response:
    """Sends what was recorded, ids translated."""
    request = exchange.request
    path = request["path"]
    for (_, recorded), ours in mapping.ours.items():
        path = path.replace(recorded, str(ours))
    body = mapping.translate(request["body"])
    content = body if isinstance(body, str) else json.dumps(body)
    return await client.request(
        request["method"],
        path,
        content=None if body is None else content,
        headers={"content-type": request["headers"].get("content-type", "application/json")},
    )


async def test_registration_as_recorded(client: httpx.AsyncClient) -> None:
    [exchange] = [
        e for e in load("sync-and-introspection").exchanges if e.request["path"] == "/fn/register"
    ]
    response = await again(client, exchange, Mapping())
    assert compare(exchange, response, Mapping()) == []
    assert response.json()["modified"] is True
    again_response = await again(client, exchange, Mapping())
    assert again_response.json()["modified"] is False


async def test_a_signed_registration_as_recorded() -> None:
    [exchange] = [e for e in load("signed-sync").exchanges if e.request["path"] == "/fn/register"]
    orchestrator = Orchestrator(":memory:", Settings(signing_key=KEY))
    await orchestrator.start()
    transport = httpx.ASGITransport(app=orchestrator.asgi)
    try:
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            body = json.dumps(exchange.body)
            fields = {"authorization": exchange.request["headers"]["authorization"]}
            response = await client.post("/fn/register", content=body, headers=fields)
            assert compare(exchange, response, Mapping()) == []
            refused = await client.post("/fn/register", content=body)
            assert refused.status_code == 401
    finally:
        await orchestrator.stop()


async def test_event_intake_as_recorded(
    orchestrator: Orchestrator, client: httpx.AsyncClient
) -> None:
    function = Function()
    await orchestrator.register(registration("slow"), function)
    recording = load("events-and-rest-api")
    mapping = Mapping()
    intake = [e for e in recording.exchanges if e.request["path"].startswith("/e/")]
    assert len(intake) == 6
    for exchange in intake:
        response = await again(client, exchange, mapping)
        assert compare(exchange, response, mapping) == [], exchange.request["body"]
    await function.called.wait()
    recorded = recording.calls[0].exchange.body
    assert recorded["event"]["name"] == "extra/slow"
    assert function.requests[0]["event"]["data"] == recorded["event"]["data"]
    assert len(function.requests) == 1, "nobody and a refused event start nothing"


async def test_runs_and_events_are_read_as_recorded(
    orchestrator: Orchestrator, client: httpx.AsyncClient
) -> None:
    function = Function()
    await orchestrator.register(registration("errs", "slow"), function)
    recording = load("events-and-rest-api")
    mapping = Mapping()
    first = await client.post(
        "/e/test", json={"name": "extra/errs", "data": {"x": 1}, "id": "my-idempotent-id"}
    )
    [internal_id] = first.json()["ids"]
    mapping.ours["ulid", "01M837655ZJEDCYZWV8RQ96DYC"] = internal_id
    [ended] = await orchestrator.runs_of(internal_id)
    mapping.ours["ulid", "01M837658RRCV6SWBF0FTT0DQW"] = ended
    function.answers.put_nowait(Answer(206, {}, b'[{"op":"RunComplete","id":"x","data":""}]'))
    await orchestrator.result(ended)
    [slow_event] = (await client.post("/e/test", json={"name": "extra/slow", "data": {}})).json()[
        "ids"
    ]
    mapping.ours["ulid", "01M83766BR2K6YV1ZJFHVXNAW3"] = slow_event
    [slow] = await orchestrator.runs_of(slow_event)
    mapping.ours["ulid", "01M83766FV9NZ4RCQ5G1K80477"] = slow
    event = (await client.get(f"/v1/events/{internal_id}")).json()["data"]
    mapping.ours["ts", "1795404534975"] = event["ts"]
    for (kind, recorded), ours in list(mapping.ours.items()):
        mapping.theirs[kind, str(ours)] = recorded
    # After a cancellation the recorded server answers reads from its cache for three seconds.
    reads = [
        e
        for e in recording.exchanges
        if e.request["path"].startswith(("/v1/events/", "/v1/runs/", "/v0/runs/")) and e.at < 2000
    ]
    assert [e.request["method"] for e in reads] == ["GET"] * 7 + ["DELETE"]
    unknown = [e for e in recording.exchanges if "Unable" in json.dumps(e.response)]
    for exchange in [*reads, *unknown]:
        response = await again(client, exchange, mapping)
        assert compare(exchange, response, mapping) == [], exchange.request["path"]
    assert (await client.get(f"/v1/runs/{slow}")).json()["data"]["status"] == "Cancelled"
    second = await client.delete(f"/v1/runs/{slow}")
    assert (second.status_code, second.json()) == (200, None)
    listed = (await client.get("/v1/events")).json()["data"]
    assert [item["name"] for item in listed] == ["extra/slow", "extra/errs"]


async def test_an_event_id_starts_runs_once(
    orchestrator: Orchestrator, client: httpx.AsyncClient
) -> None:
    await orchestrator.register(registration("errs"), Function())
    event = {"name": "extra/errs", "data": {}, "id": "once"}
    first = (await client.post("/e/test", json=event)).json()["ids"][0]
    second = (await client.post("/e/test", json=[event, event])).json()["ids"]
    assert len({first, *second}) == 3
    assert len(await orchestrator.runs_of(first)) == 1
    assert [await orchestrator.runs_of(id_) for id_ in second] == [[], []]


async def test_checkpoints_are_refused_as_recorded(
    orchestrator: Orchestrator, client: httpx.AsyncClient
) -> None:
    function = Function()
    await orchestrator.register(registration("errs"), function)
    [event_id] = await orchestrator.send([{"name": "extra/errs"}])
    [run_id] = await orchestrator.runs_of(event_id)
    await function.called.wait()
    ctx = function.requests[0]["ctx"]
    recording = load("checkpoint-refusals")
    mapping = Mapping()
    body = recording.exchanges[0].body
    for recorded, ours in (
        (("ulid", body["run_id"]), run_id),
        (("ulid", body["request_id"]), ctx["request_id"]),
        (("qi_id", body["qi_id"]), ctx["qi_id"]),
    ):
        mapping.ours[recorded] = ours
        mapping.theirs[recorded[0], ours] = recorded[1]
    assert len(recording.exchanges) == 9
    statuses = []
    for exchange in recording.exchanges:
        response = await again(client, exchange, mapping)
        assert compare(exchange, response, mapping) == [], exchange.request["body"]
        statuses.append(response.status_code)
    assert statuses == [200, 200, 400, 400, 400, 200, 400, 200, 400]
