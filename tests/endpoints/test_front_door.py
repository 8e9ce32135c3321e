"""What ends the requests of endpoints: gateways that give up, servers that stop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from mangum import Mangum

import onward
from tests.endpoints.conftest import Shop
from tests.support.entries import LambdaContext
from tests.support.loops import HANGS_AFTER_S

ROOT = Path(__file__).parents[2]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The thread's loop, which mangum runs ASGI apps on."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


def gateway_event(waited: float) -> dict[str, Any]:
    """What an HTTP API sends that has `waited` seconds already."""
    http = {"method": "GET", "path": "/slow", "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4"}
    return {
        "version": "2.0",
        "rawPath": "/slow",
        "rawQueryString": "",
        "headers": {"host": "x.execute-api.test"},
        "requestContext": {
            "http": http,
            "stage": "$default",
            "timeEpoch": round((time.time() - waited) * 1000),
        },
        "isBase64Encoded": False,
    }


@pytest.mark.parametrize(("limit", "least", "most"), [("", 8, 10), ("60s", 38, 40), ("0", 99, 100)])
@pytest.mark.usefixtures("loop")
def test_a_gateway_that_gives_up_earlier_than_lambda(
    the_shop: Shop, limit: str, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller is redirected in time."""
    monkeypatch.setenv("ONWARD_FRONT_DOOR_LIMIT", limit)
    api, left = FastAPI(), list[float]()

    @api.get("/slow")
    @onward.endpoint(onward.App("front", orchestrator=the_shop.api_url), "slow")
    async def slow(ctx: onward.Context) -> str:
        left.append(ctx.deadline.remaining())
        return "good"

    answer: Any = Mangum(api, lifespan="off")(gateway_event(20), LambdaContext(100.0))  # type: ignore[arg-type]
    assert answer["statusCode"] == 200
    assert least < left[0] < most


PROGRAM = """
import socket, sys, threading
import onward, uvicorn
from fastapi import FastAPI

api, app, ended = FastAPI(), onward.App("ending"), threading.Event()

@api.get("/first")
@onward.endpoint(app, "first")
def first(ctx: onward.BlockingContext) -> str:
    return "first"

@api.get("/sell")
@onward.endpoint(app, "sell")
def sell(ctx: onward.BlockingContext) -> str:
    ctx.step.run("s1", lambda: 1)
    ctx.step.run("s2", lambda: (print("begun", flush=True), ended.wait(30)))
    return ctx.step.run("s3", lambda: "sold")

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)

class Server(uvicorn.Server):
    def handle_exit(self, *args):
        super().handle_exit(*args)
        ended.set()

Server(uvicorn.Config(api, log_level="error", lifespan="off")).run(sockets=[listener])
"""


def test_a_server_that_is_told_to_end(the_shop: Shop) -> None:
    """No step begins there any more; the caller is sent to where the response will be."""
    server = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime"), "INNGEST_DEV": the_shop.api_url},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        with httpx.Client(trust_env=False, verify=False, timeout=HANGS_AFTER_S) as client:
            assert client.get(f"{url}/first").json() == "first"
            request = client.build_request("GET", f"{url}/sell")
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(client.send, request)
                assert server.stdout.readline() == "begun\n"
                server.terminate()
                answer = asked.result()
        server.wait(HANGS_AFTER_S)
    finally:
        server.kill()
        server.communicate()
    assert answer.status_code == 302
    assert the_shop.steps(answer.headers["x-run-id"])[:2] == ["s1", "s2"]
