"""A request that is not heard of any more: the orchestrator finishes its run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from onward.protocol.endpoint import EndpointRun
from tests.endpoints import shop
from tests.endpoints.conftest import Shop
from tests.support.loops import HANGS_AFTER_S, eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lease_s() -> float:
    return 0.5


def test_a_request_that_says_that_it_lives_keeps_its_run(
    the_shop: Shop, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EndpointRun, "heartbeat", 0.1)
    beats: list[int] = []
    change = the_shop.orchestrator.runs.change

    async def noted(run_id: str, transition: object) -> object:
        beats.append(1)
        return await change(run_id, transition)  # type: ignore[arg-type]

    monkeypatch.setattr(the_shop.orchestrator.runs, "change", noted)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(the_shop.ask, "GET", f"/{driver}/go?how=wait")
        eventually(lambda: len(beats) > 12, "no heartbeat came")  # more than two leases
        shop.gate.set()
        answer = asked.result()
    assert (answer.history, answer.json()) == ([], {"value": 2})
    assert shop.done["first"] == shop.done["wait"] == shop.done["second"] == 1


def test_a_request_that_is_silent_loses_its_run_and_sends_its_caller_there(
    the_shop: Shop, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has one owner: what the silent request still does is not taken."""
    monkeypatch.setattr(EndpointRun, "heartbeat", 0.0)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(the_shop.ask, "GET", f"/{driver}/go?how=wait")
        eventually(lambda: shop.done["wait"] == 2, "the run was not taken over")
        shop.gate.set()
        answer = asked.result()
    assert [earlier.status_code for earlier in answer.history] == [302]
    assert (answer.status_code, answer.json()) == (200, {"value": 2})
    assert shop.done["first"] == shop.done["second"] == 1
    assert the_shop.only_run().status == "Completed"


PROGRAM = """
import json, os, signal, sys
import uvicorn
from fastapi import FastAPI
import onward

port, orchestrator, log = int(sys.argv[1]), sys.argv[2], sys.argv[3]
api, app = FastAPI(), onward.App("fragile", orchestrator=orchestrator)

def work(name):
    with open(log, "a") as file:
        print(name, file=file)
    if name == "deadly" and os.environ.get("DIES"):
        os.kill(os.getpid(), signal.SIGKILL)
    return name

@api.get("/async")
@onward.endpoint(app, "in-async")
async def in_async(ctx: onward.Context) -> list[str]:
    return [await ctx.step.run(name, work, name) for name in ("before", "deadly", "after")]

@api.get("/blocking")
@onward.endpoint(app, "in-blocking")
def in_blocking(ctx: onward.BlockingContext) -> list[str]:
    return [ctx.step.run(name, work, name) for name in ("before", "deadly", "after")]

uvicorn.run(api, host="127.0.0.1", port=port, log_level="warning")
"""


def test_a_process_that_is_killed_in_a_step(the_shop: Shop, driver: str, tmp_path: Path) -> None:
    log, script = tmp_path / "log", tmp_path / "program.py"
    script.write_text(PROGRAM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, str(script), str(port), the_shop.api_url, str(log)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "runtime"), "INNGEST_DEV": "1"}
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(arguments, env={**environ, "DIES": "1"}) as first:
        eventually(lambda: _listens(port), "the program did not start")
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url}/{driver}", trust_env=False, timeout=HANGS_AFTER_S)
        assert first.wait(HANGS_AFTER_S) == -signal.SIGKILL
    with subprocess.Popen(arguments, env=environ) as second:
        view = the_shop.only_run()
        second.terminate()
        second.wait(HANGS_AFTER_S)
    assert view.status == "Completed"
    assert json.loads(view.result["body"]) == ["before", "deadly", "after"]
    assert log.read_text().split() == ["before", "deadly", "deadly", "after"]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_caller_that_hangs_up_does_not_end_the_run(the_shop: Shop, driver: str) -> None:
    host, _, port = the_shop.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(f"GET /{driver}/go?how=wait HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        eventually(lambda: shop.done["wait"] == 1, "the body did not begin")
    shop.gate.set()
    view = the_shop.only_run()
    assert (view.status, view.result["body"]) == ("Completed", '{"value":2}')
    assert shop.done["first"] == shop.done["wait"] == shop.done["second"] == 1
