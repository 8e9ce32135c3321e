"""Runs that requests create: refused, created twice, orphaned, restarted; and their outputs."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from onward_server import Settings, endpoint_api, endpoints
from onward_server.serving import serve_asgi
from tests.server.conftest import Start
from tests.server.driving import client_of
from tests.server.fakes import run_op, sleep_op

RUN = "01M835XSJTXBEM9XBN4SE8NXXC"
STEPS = f"/v1/checkpoint/{RUN}/steps"
SDK = {"x-inngest-sdk": "onward:v0", "x-inngest-req-version": "2"}
QUICK = Settings(retry_base_s=0.0, refused_delay_s=0.001, endpoint_lease_s=60.0)


def new_run(url: str = "http://127.0.0.1:9", *ops: dict[str, Any], **more: Any) -> dict[str, Any]:
    data = {"domain": url, "path": "/go", "method": "POST", "query_params": "n=1", "fn": "shop-go"}
    data |= {"content_type": "text/plain", "body": base64.b64encode(b"hello").decode(), "ip": ""}
    event = {"name": "inngest/http.request", "data": data}
    return {"run_id": RUN, "event": event, "steps": list(ops), "retries": 1, "lease": True, **more}


def completes(body: str = "done", status: int = 200) -> dict[str, Any]:
    data = {"status": status, "headers": {"content-type": "text/plain"}, "body": body}
    return {"op": "RunComplete", "id": "0737c22d3bfae812339732d14d8c7dbd6dc4e09c", "data": data}


class Endpoint:
    """An endpoint that answers its calls with `answers`, in order."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.calls: list[dict[str, Any]] = []
        self.called = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive()).get("body", b"")
        fields = {key.decode(): value.decode() for key, value in scope["headers"]}
        self.calls.append(
            {**fields, "body": body, "method": scope["method"], "path": scope["path"]}
        )
        self.called.set()
        content = json.dumps(self.answers.pop(0)).encode()
        headers = [(key.encode(), value.encode()) for key, value in SDK.items()]
        await send({"type": "http.response.start", "status": 206, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _changed(path: str, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(new_run())
    owner: Any = body
    *keys, last = path.split(".")
    for key in keys:
        owner = owner[key]
    owner[last] = value
    return body


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "it must be a JSON object"),
        (_changed("run_id", "short"), "run_id must be a ULID"),
        (_changed("event", None), "event must be an object with data"),
        (_changed("event.data", 3), "event must be an object with data"),
        (_changed("event.data.domain", "ftp://x"), "event.data.domain must be"),
        (_changed("event.data.path", "go"), "event.data.path must begin with a slash"),
        (_changed("retries", -1), "retries must be a whole number"),
        (_changed("steps", [{"op": "Dance", "id": "x"}]), "does not belong to Opcode values"),
        (_changed("steps", {}), ""),
    ],
)
async def test_what_creates_no_run(start: Start, body: Any, said: str) -> None:
    orchestrator = await start()
    async with client_of(orchestrator) as client:
        answer = await client.post("/v1/checkpoint", json=body)
        assert answer.status_code == (400 if said else 200)
        assert said in answer.text
        broken = await client.post("/v1/checkpoint", content=b"{")
        assert broken.status_code == 400
    assert (orchestrator.live_run(RUN) is None) == bool(said)


async def test_a_run_is_created_once(start: Start) -> None:
    orchestrator = await start(settings=QUICK)
    async with client_of(orchestrator) as client:
        first = await client.post("/v1/checkpoint", json=new_run("http://x", run_op("a", 1)))
        again = await client.post("/v1/checkpoint", json=new_run("http://x", run_op("a", 2)))
        assert first.status_code == again.status_code == 200
        for key in ("run_id", "fn_id", "app_id", "lease"):
            assert first.json()["data"][key] == again.json()["data"][key]
        done = await client.post(STEPS, json={"steps": [completes()]})
        assert (done.status_code, done.json()) == (200, None)
        late = await client.post("/v1/checkpoint", json=new_run("http://x", run_op("a", 3)))
        assert late.status_code == 200
        steps = (await client.get(f"/v1/runs/{RUN}/steps")).json()["data"]
        assert [step["entry"] for step in steps] == [{"data": 1}]
        over = await client.post(STEPS, json={"steps": [run_op("b", 1)]})
        assert over.status_code == 410
        listed = (await client.get("/v1/runs")).json()["data"]
        assert [(run["run_id"], run["status"]) for run in listed] == [(RUN, "Completed")]


async def test_endpoints_of_one_origin_that_begin_at_once_are_all_known(start: Start) -> None:
    orchestrator = await start()
    bodies = [
        _changed("event.data.fn", f"shop-{n}") | {"run_id": f"{RUN[:-1]}{n}"} for n in range(5)
    ]
    async with client_of(orchestrator) as client:
        posts = [client.post("/v1/checkpoint", json=body) for body in bodies]
        answers = await asyncio.gather(*posts)
    assert [answer.status_code for answer in answers] == [200] * 5
    assert sorted(orchestrator.functions) == [f"shop-{n}" for n in range(5)]


async def test_a_result_that_is_too_large_is_refused_and_changes_nothing(start: Start) -> None:
    orchestrator = await start(settings=Settings(max_step_bytes=100, max_body_bytes=5000))
    async with client_of(orchestrator) as client:
        await client.post("/v1/checkpoint", json=new_run("http://x"))
        large = {"steps": [run_op("a", 1), run_op("b", "x" * 200)]}
        answer = await client.post(STEPS, json=large)
        assert answer.status_code == 413
        assert "'b'" in answer.text
        huge = await client.post(STEPS, json={"steps": [run_op("a", "x" * 9000)]})
        assert huge.status_code == 413
        state = orchestrator.live_run(RUN)
        assert state is not None
        assert state.steps == {}


async def test_what_a_driving_request_sends_after_it_went_async_is_refused(start: Start) -> None:
    orchestrator = await start(settings=QUICK)
    async with client_of(orchestrator) as client:
        await client.post("/v1/checkpoint", json=new_run("http://x", run_op("a", 1)))
        assert (
            await client.post(STEPS, json={"steps": [sleep_op("nap", "1h")]})
        ).status_code == 200
        late = await client.post(STEPS, json={"steps": [run_op("b", 1)]})
        assert late.status_code == 409
        assert "not driven by this request any more" in late.text


async def test_a_run_that_is_left_alone_is_finished_over_a_restart(
    start: Start, tmp_path: Path
) -> None:
    """The lease, the address, the retries and the tokens are all in the database."""
    settings = Settings(retry_base_s=0.0, refused_delay_s=0.001, endpoint_lease_s=0.5)
    endpoint = Endpoint([completes("by the orchestrator")])
    async with serve_asgi(endpoint) as web:
        first = await start(tmp_path / "db", settings)
        async with client_of(first) as client:
            body = new_run(web.url, run_op("a", 1))
            token = (await client.post("/v1/checkpoint", json=body)).json()["data"]["token"]
        await first.stop()
        assert endpoint.calls == [], "the request may be alive"
        second = await start(tmp_path / "db", settings)
        view = await second.result(RUN)
        assert view.status == "Completed"
        [call] = endpoint.calls
        assert (call["method"], call["path"], call["body"]) == ("POST", "/go", b"hello")
        assert call["content-type"] == "text/plain"
        assert call["x-run-id"] == RUN
        assert call["x-onward-attempt"] == "0"
        async with client_of(second) as client:
            output = await client.get(f"/v1/checkpoint/{RUN}/output", params={"token": token})
        assert (output.status_code, output.text) == (200, "by the orchestrator")
        assert output.headers["content-type"] == "text/plain"
        assert output.headers["access-control-allow-origin"] == "*"


async def test_a_dependency_that_refuses_a_call_is_told_as_such(start: Start) -> None:
    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"who are you?"})

    orchestrator = await start(settings=Settings(retry_base_s=0.0, endpoint_lease_s=0.01))
    async with serve_asgi(refuses) as web, client_of(orchestrator) as client:
        await client.post("/v1/checkpoint", json=new_run(web.url))
        view = await orchestrator.result(RUN)
    assert view.status == "Failed"
    assert view.error is not None
    assert "answered 401, but not as a durable endpoint" in view.error["message"]
    assert "headers=" in view.error["message"]


async def test_the_typescript_sdk_sends_a_body_as_it_is(start: Start) -> None:
    endpoint = Endpoint([completes()])
    orchestrator = await start(settings=Settings(retry_base_s=0.0, endpoint_lease_s=0.01))
    async with serve_asgi(endpoint) as web, client_of(orchestrator) as client:
        body = new_run(web.url)
        body["event"]["data"]["body"] = "abcd"  # would be base 64 too
        await client.post("/v1/checkpoint", json=body, headers={"x-inngest-sdk": "inngest-js:v4"})
        await orchestrator.result(RUN)
    assert endpoint.calls[0]["body"] == b"abcd"


async def test_the_output_says_when_a_run_does_not_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_api, "OUTPUT_WAIT_S", 0.01)
    orchestrator = await start(settings=QUICK)
    async with client_of(orchestrator) as client:
        created = await client.post("/v1/checkpoint", json=new_run("http://x"))
        path = f"/v1/checkpoint/{RUN}/output?token={created.json()['data']['token']}"
        assert (await client.get(path)).json()["status"] == "running"
        await client.delete(f"/v1/runs/{RUN}")
        cancelled = await client.get(path)
        assert (cancelled.status_code, cancelled.json()["status"]) == (500, "Cancelled")


async def test_a_token_ends(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "TOKEN_LIFE_S", -1)
    orchestrator = await start(settings=QUICK)
    async with client_of(orchestrator) as client:
        created = await client.post("/v1/checkpoint", json=new_run("http://x", completes()))
        path = f"/v1/checkpoint/{RUN}/output?token={created.json()['data']['token']}"
        assert (await client.get(path)).status_code == 401


async def test_endpoints_are_listed_among_the_functions(start: Start) -> None:
    orchestrator = await start(settings=QUICK)
    async with client_of(orchestrator) as client:
        await client.post("/v1/checkpoint", json=new_run("http://x"))
        other = new_run("http://x", run_id="01M835XSJTXBEM9XBN4SE8NXXD")
        other["event"]["data"]["fn"] = ""
        await client.post("/v1/checkpoint", json=other)
    assert set(orchestrator.functions) == {"shop-go", "POST /go"}
    assert orchestrator.functions["shop-go"].max_attempts == 2
