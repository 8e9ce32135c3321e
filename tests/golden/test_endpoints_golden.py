"""Durable endpoints as recorded: what the runtime sends, and what the orchestrator does with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from onward.protocol import headers as names
from onward_server.serving import serve, serve_asgi
from tests.golden import endpoint_replay
from tests.golden.orchestrator_replay import HANGS_AFTER_S, ManualClock, orchestrator_on
from tests.golden.recordings import Exchange, Mapping, Recording, differences, load
from tests.support.loops import LoopThread

DRIVERS = ("async", "blocking")

#: What ours answers beside what was recorded, or in another way, each with the reason.
OF_OURS = {
    "lease": "how long nothing may be heard of a request before its run is taken over",
}


@pytest.fixture(scope="module")
def loops() -> Iterator[LoopThread]:
    with LoopThread("endpoints") as loops:
        yield loops


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", endpoint_replay.NAMES)
def test_the_runtime_sends_what_was_recorded(loops: LoopThread, name: str, driver: str) -> None:
    problems = endpoint_replay.compare(loops, name, driver).problems
    assert not problems, "\n".join(problems)


class RecordedEndpoint:
    """Does what the recorded endpoint does when it is called: it fetches, and it answers.

    Its answers were not recorded. They are known by the journal at the next call, and by the
    output; their form by the SDK's source.
    """

    def __init__(self, recording: Recording) -> None:
        self.api = ""
        self.problems: list[str] = []
        self.mapping = Mapping()
        self.calls: list[dict[str, Any]] = []
        reads = [e for e in recording.exchanges if "/v0/runs/" in e.request["path"]]
        self.reads = [reads[n : n + 2] for n in range(0, len(reads), 2)]
        output = next((e for e in recording.exchanges if "/output?" in e.request["path"]), None)
        self.output = output.response["body"] if output else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        self.calls.append({"method": request.method, "url": str(request.url), **request.headers})
        batch, actions = self.reads[len(self.calls) - 1]
        async with httpx.AsyncClient(trust_env=False, base_url=self.api) as client:
            for read in (batch, actions):
                self._compare(read, await client.get(read.request["path"]))
        if len(self.calls) < len(self.reads):
            after = self.reads[len(self.calls)][1].response["body"]
            [id_] = set(after) - set(actions.response["body"])
            step = {"id": id_, "op": "StepRun", "displayName": "b", "data": after[id_]["data"]}
            answer: Any = [step]
        else:
            fields = {"content-type": "application/json"}
            data = {"status": 200, "headers": fields, "body": json.dumps(self.output)}
            answer = {"id": "0737c22d3bfae812339732d14d8c7dbd6dc4e09c", "op": "RunComplete"}
            answer["data"] = data
        sdk = {"x-inngest-sdk": "inngest-js:v4.24.0", "x-inngest-req-version": "2"}
        await Response(json.dumps(answer), 206, sdk)(scope, receive, send)

    def _compare(self, read: Exchange, answer: httpx.Response) -> None:
        recorded, ours = read.response["body"], answer.json()
        self.problems += differences(recorded, ours, self.mapping, read.request["path"])


@pytest.mark.parametrize("name", endpoint_replay.NAMES)
async def test_the_orchestrator_does_what_was_recorded(name: str) -> None:
    recording, clock = load(name), ManualClock()
    endpoint, orchestrator = RecordedEndpoint(recording), await orchestrator_on(clock)
    try:
        async with (
            serve_asgi(endpoint) as function,
            serve(orchestrator) as api,
            httpx.AsyncClient(trust_env=False, base_url=api.url, timeout=HANGS_AFTER_S) as client,
            asyncio.timeout(HANGS_AFTER_S),
        ):
            endpoint.api = api.url
            domain = recording.exchanges[1].body["event"]["data"]["domain"]
            endpoint.mapping.ours["ulid", domain] = function.url
            mapping, token = endpoint.mapping, ""
            for exchange in recording.exchanges[1:]:
                if not exchange.request["path"].startswith("/v1/checkpoint"):
                    continue
                answer = await _again(client, exchange, domain, function.url)
                problems = _compare_answer(exchange, answer, mapping)
                assert not problems, "\n".join(problems)
                token = token or answer.json()["data"]["token"]
            run_id = recording.exchanges[1].body["run_id"]
            while orchestrator.live_run(run_id) is not None and clock.advance():
                await asyncio.wait_for(orchestrator.result(run_id), HANGS_AFTER_S)
            await _check_output(client, recording, run_id, token)
    finally:
        await orchestrator.stop()
    problems = [p for p in endpoint.problems if ".domain: " not in p]
    assert not problems, "\n".join(problems)
    _check_calls(endpoint, recording, function.url)


async def _again(
    client: httpx.AsyncClient, exchange: Exchange, domain: str, ours: str
) -> httpx.Response:
    body = json.loads(json.dumps(exchange.body).replace(domain, ours))
    fields = exchange.request["headers"]
    return await client.post(
        exchange.request["path"], json=body, headers={names.SDK: fields[names.SDK]}
    )


def _compare_answer(exchange: Exchange, answer: httpx.Response, mapping: Mapping) -> list[str]:
    recorded, ours = exchange.response["body"], answer.json()
    problems = []
    if answer.status_code != exchange.response["status"]:
        problems.append(f"status {answer.status_code}: {answer.text}")
    for key, value in exchange.response["headers"].items():
        if answer.headers.get(key) != value:
            problems.append(f"{key}: recorded {value!r}, ours {answer.headers.get(key)!r}")
    if recorded is None:
        return [*problems, *([] if ours is None else [f"not null: {ours}"])]
    same = {"run_id": recorded["data"]["run_id"]}
    assert ours["data"].items() >= same.items()
    assert set(recorded["data"]) | set(OF_OURS) >= set(ours["data"]) >= set(recorded["data"])
    assert set(recorded["metadata"]) == set(ours["metadata"])
    assert all(isinstance(ours["data"][key], str) for key in recorded["data"])
    assert ours["data"]["token"].count(".") == recorded["data"]["token"].count(".")
    for key in ("fn_id", "app_id"):
        assert len(ours["data"][key]) == len(recorded["data"][key])
        mapping.ours[key, recorded["data"][key]] = ours["data"][key]
    return problems


async def _check_output(
    client: httpx.AsyncClient, recording: Recording, run_id: str, token: str
) -> None:
    """The output is where it was recorded, for those who have the token of this run."""
    recorded = next((e for e in recording.exchanges if "/output?" in e.request["path"]), None)
    for path in (f"/v1/http/runs/{run_id}/output", f"/v1/checkpoint/{run_id}/output"):
        answer = await client.get(path, params={"token": token})
        if recorded is not None:
            assert answer.status_code == recorded.response["status"]
            assert answer.json() == recorded.response["body"]
            assert answer.headers["content-type"] == recorded.response["headers"]["content-type"]
        for wrong in ("", "x.y.z", token[:-2], token.replace(".", ".e30", 1)):
            refused = await client.get(path, params={"token": wrong})
            assert refused.status_code == 401, wrong


def _check_calls(endpoint: RecordedEndpoint, recording: Recording, url: str) -> None:
    """The endpoint was called with the request that began the run."""
    assert len(endpoint.calls) == len(endpoint.reads)
    first = recording.exchanges[0].request
    for call in endpoint.calls:
        assert (call["method"], call["url"]) == (first["method"], url + first["path"])
        assert call[names.RUN_ID] == recording.exchanges[1].body["run_id"]
        assert call[names.SIGNATURE] == ""
        assert call["content-type"] == recording.exchanges[1].body["event"]["data"]["content_type"]
