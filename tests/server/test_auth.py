"""Keys: what is signed, what is asked for, and what each wrong key is told."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

import onward_server
from onward.protocol.signature import bearer_token, sign, verify
from onward_server import Orchestrator, Settings, SyncError
from onward_server.serving import serve_asgi
from tests.server.conftest import QUICK, Start
from tests.server.driving import client_of
from tests.server.fakes import registration

KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
OTHER = "signkey-test-00"
KEYED = Settings(signing_key=KEY, event_keys=("one", "two"), retry_base_s=0.0)
TOKEN = {"authorization": f"Bearer {bearer_token(KEY)}"}

Answering = Callable[[Request, bytes], Awaitable[Response]]


def app_of(answer: Answering) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await answer(request, await request.body())
        await response(scope, receive, send)

    return app


PATHS = [
    ("POST", "/fn/register"),
    ("POST", "/v1/checkpoint/01M835ZA4C0NCB4PBYYJZXRR1B/async"),
    ("POST", "/v1/checkpoint"),
    ("GET", "/v1/runs/x"),
    ("DELETE", "/v1/runs/x"),
    ("GET", "/v0/runs/x/actions"),
    ("POST", "/v1/signals"),
    ("GET", "/v1/events"),
    ("GET", "/dev"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", f"Bearer {KEY}", f"Bearer {bearer_token(OTHER)}", f"Basic {bearer_token(KEY)}"],
)
async def test_without_the_token_nothing_is_answered(
    start: Start, method: str, path: str, authorization: str
) -> None:
    orchestrator = await start(settings=KEYED)
    async with client_of(orchestrator) as client:
        fields = {"authorization": authorization} if authorization else {}
        response = await client.request(method, path, headers=fields, content=b"{}")
    assert response.status_code == 401
    assert response.json() == {"error": "Unauthorized", "data": None, "status": 401}
    assert response.headers["x-inngest-server-kind"] == "cloud"
    assert KEY not in response.text


async def test_with_the_token_it_is_a_cloud_server(start: Start) -> None:
    orchestrator = await start(settings=KEYED)
    async with client_of(orchestrator) as client:
        response = await client.get("/v1/events", headers=TOKEN)
        assert response.status_code == 200
        assert response.headers["x-inngest-server-kind"] == "cloud"
        assert (await client.get("/health")).status_code == 200


async def test_a_token_may_come_without_its_prefix(start: Start) -> None:
    orchestrator = await start(settings=KEYED)
    bare = TOKEN["authorization"].replace("signkey-test-", "")
    async with client_of(orchestrator) as client:
        assert (await client.get("/v1/events", headers={"authorization": bare})).status_code == 200


async def test_event_keys_are_asked_for(start: Start) -> None:
    orchestrator = await start(settings=KEYED)
    async with client_of(orchestrator) as client:
        for key in ("one", "two"):
            assert (await client.post(f"/e/{key}", json={"name": "x"})).status_code == 200
        for key in ("three", "on", "onee"):
            response = await client.post(f"/e/{key}", json={"name": "x"})
            assert response.status_code == 401
            assert response.json()["error"] == "Event key not found"


async def test_without_keys_everything_is_open(start: Start) -> None:
    orchestrator = await start()
    async with client_of(orchestrator) as client:
        assert (await client.post("/e/any", json={"name": "x"})).status_code == 200
        response = await client.get("/dev")
        assert response.headers["x-inngest-server-kind"] == "dev"
        assert response.json()["functions"] == []


async def run_with(orchestrator: Orchestrator, answer: Answering) -> Any:
    async with serve_asgi(app_of(answer)) as served:
        await orchestrator.register(registration("f", url=f"{served.url}/api/x"))
        return await orchestrator.result(await orchestrator.start_run("app-f", {}))


def op(data: Any) -> bytes:
    return json.dumps([{"op": "RunComplete", "id": "x", "data": data}]).encode()


async def test_calls_are_signed_and_signed_answers_are_taken(start: Start) -> None:
    orchestrator = await start(settings=KEYED)

    async def answer(request: Request, body: bytes) -> Response:
        good = verify(body, request.headers["x-inngest-signature"], KEY, now=time.time())
        content = op(good)
        fields = {"x-inngest-signature": sign(content, KEY, int(time.time()))}
        return Response(content, 206, fields)

    view = await run_with(orchestrator, answer)
    assert view.result is True


@pytest.mark.parametrize("how", ["another key", "another body", "an old time", "nonsense"])
async def test_a_wrong_signature_is_a_failed_attempt(start: Start, how: str) -> None:
    orchestrator = await start(settings=KEYED)

    async def answer(_request: Request, _body: bytes) -> Response:
        content, now = op("stolen"), int(time.time())
        signature = {
            "another key": sign(content, OTHER, now),
            "another body": sign(op("true"), KEY, now),
            "an old time": sign(content, KEY, now - 301),
            "nonsense": "t=now&s=mine",
        }[how]
        return Response(content, 206, {"x-inngest-signature": signature})

    view = await run_with(orchestrator, answer)
    assert view.status == "Failed"
    assert "signed with another key" in view.error["message"]


async def test_without_a_key_nothing_is_signed(start: Start) -> None:
    orchestrator = await start(settings=QUICK)

    async def answer(request: Request, _body: bytes) -> Response:
        return Response(op("x-inngest-signature" in request.headers), 206)

    assert (await run_with(orchestrator, answer)).result is False


async def test_an_app_is_asked_for_its_functions_in_band(start: Start) -> None:
    orchestrator = await start(settings=KEYED)
    asked: list[dict[str, Any]] = []

    async def answer(request: Request, body: bytes) -> Response:
        if request.method == "POST":
            return Response(op("called"), 206)
        assert request.method == "PUT"
        assert request.headers["x-inngest-sync-kind"] == "in_band"
        assert request.headers["x-inngest-server-kind"] == "cloud"
        assert verify(body, request.headers["x-inngest-signature"], KEY, now=time.time())
        asked.append(json.loads(body))
        functions = registration("f", url=asked[0]["url"])["functions"]
        content = json.dumps(
            {"app_id": "app", "functions": functions, "url": asked[0]["url"]}
        ).encode()
        fields = {
            "x-inngest-sync-kind": "in_band",
            "x-inngest-signature": sign(content, KEY, int(time.time())),
        }
        return Response(content, 200, fields)

    async with serve_asgi(app_of(answer)) as served:
        url = f"{served.url}/api/x"
        registered = await orchestrator.sync(url)
        assert registered is not None
        assert registered.modified
        assert asked == [{"url": url}]
        run_id = await orchestrator.start_run("app-f", {})
        assert (await orchestrator.result(run_id)).result == "called"


async def test_an_app_that_registers_itself_is_left_to_it(start: Start) -> None:
    orchestrator = await start()

    async def answer(_request: Request, _body: bytes) -> Response:
        async with client_of(orchestrator) as client:
            await client.post("/fn/register", json=registration("f"))
        return Response(b'{"message":"ok"}', 200, {"x-inngest-sync-kind": "out_of_band"})

    async with serve_asgi(app_of(answer)) as served:
        assert await orchestrator.sync(f"{served.url}/api/x") is None
    assert list(orchestrator.functions) == ["app-f"]


REFUSED: dict[str, tuple[int, dict[str, str], bytes, str]] = {
    "an error": (403, {}, b"no", "answered HTTP 403"),
    "no list": (200, {"x-inngest-sync-kind": "in_band"}, b"{}", "without a list of functions"),
    "no JSON": (200, {"x-inngest-sync-kind": "in_band"}, b"<p>", "without a list of functions"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_no_app_is_told(start: Start, what: str) -> None:
    status, fields, content, fragment = REFUSED[what]
    orchestrator = await start()

    async def answer(_request: Request, _body: bytes) -> Response:
        return Response(content, status, fields)

    async with serve_asgi(app_of(answer)) as served:
        with pytest.raises(SyncError, match=fragment):
            await orchestrator.sync(f"{served.url}/api/x")


async def test_functions_that_are_not_signed_are_not_registered(start: Start) -> None:
    orchestrator = await start(settings=KEYED)

    async def answer(_request: Request, _body: bytes) -> Response:
        body = {"app_id": "app", "functions": registration("f")["functions"]}
        return Response(json.dumps(body), 200, {"x-inngest-sync-kind": "in_band"})

    async with serve_asgi(app_of(answer)) as served:
        with pytest.raises(SyncError, match="did not sign its functions"):
            await orchestrator.sync(f"{served.url}/api/x")
    assert not orchestrator.functions


async def test_nobody_there_is_told(start: Start) -> None:
    orchestrator = await start()
    with pytest.raises(SyncError, match="could not be asked for its functions"):
        await orchestrator.sync("http://127.0.0.1:1/api/x")


def test_keys_are_not_shown() -> None:
    assert KEY not in repr(KEYED)
    assert "one" not in repr(KEYED)


async def command(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "onward_server", "--port", "0", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(onward_server.__file__).parents[1])},
    )


async def test_the_command_has_keys_and_asks_apps() -> None:
    asked = asyncio.Event()

    async def answer(request: Request, body: bytes) -> Response:
        assert verify(body, request.headers["x-inngest-signature"], KEY, now=time.time())
        url = json.loads(body)["url"]
        functions = registration("f", url=url)["functions"]
        content = json.dumps({"app_id": "app", "functions": functions, "url": url}).encode()
        fields = {
            "x-inngest-sync-kind": "in_band",
            "x-inngest-signature": sign(content, KEY, int(time.time())),
        }
        asked.set()
        return Response(content, 200, fields)

    async with serve_asgi(app_of(answer)) as served:
        process = await command("--signing-key", KEY, "--event-key", "one", "--app-url", served.url)
        try:
            assert process.stdout is not None
            url = json.loads(await process.stdout.readline())["url"]
            await asked.wait()
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                assert (await client.post("/e/two", json={"name": "app/f"})).status_code == 401
                assert (await client.get("/dev")).status_code == 401
                while not (await client.get("/dev", headers=TOKEN)).json()["functions"]:
                    pass  # the answer to its question is on its way
        finally:
            process.terminate()
            await process.communicate()
    assert process.returncode == 0


async def test_the_command_says_which_app_is_not_there() -> None:
    process = await command("--app-url", "http://127.0.0.1:1/api/x")
    _, told = await process.communicate()
    assert process.returncode == 1
    assert "The app at http://127.0.0.1:1/api/x could not be asked" in told.decode()
