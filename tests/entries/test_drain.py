"""SIGTERM: a server flushes what runs, answers, and another process goes on."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from typing import Any
from weakref import WeakSet

import pytest

from onward.execution import session
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import PATH, call_request

APP = """
import signal, threading
import onward, onward.asgi, onward.wsgi

app = onward.App("shop", checkpointing=onward.Checkpointing(buffered_steps=100))
ended = threading.Event()

@app.function("sell", trigger=onward.Event("test/asked"))
def sell(ctx: onward.BlockingContext) -> None:
    ctx.step.run("s1", lambda: 1)
    ctx.step.run("s2", lambda: (print("begun", flush=True), ended.wait(30)))
    ctx.step.run("s3", lambda: 3)

"""

#: Servers that handle SIGTERM themselves: they serve what they have, and end.
WSGI = """
from werkzeug.serving import make_server

server = make_server("127.0.0.1", 0, onward.wsgi.serve(app), threaded=True)
server.daemon_threads = False
signal.signal(signal.SIGTERM, lambda *_: ended.set())
onward.wsgi.drain_on_sigterm()
print(server.port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
while not ended.wait(0.05):
    pass
server.shutdown()
server.server_close()
"""
ASGI = """
import fastapi, socket, uvicorn

api = fastapi.FastAPI()
api.mount("/", onward.asgi.serve(app))
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)

class Server(uvicorn.Server):
    def handle_exit(self, *args):
        super().handle_exit(*args)
        ended.set()

Server(uvicorn.Config(api, log_level="error", lifespan="off")).run(sockets=[listener])
"""


@pytest.mark.parametrize(("server_code", "status"), [(WSGI, 0), (ASGI, -15)], ids=["wsgi", "asgi"])
def test_a_server_that_is_told_to_end(server_code: str, status: int, api: CheckpointApi) -> None:
    """What runs is flushed and continued elsewhere, and the server's own handler does its part."""
    server = subprocess.Popen(
        [sys.executable, "-c", APP + server_code],
        env={**os.environ, "INNGEST_DEV": api.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        answers: list[Any] = []

        def call() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            query = f"{PATH}?fnId=shop-sell&stepId=step"
            connection.request("POST", query, json.dumps(call_request()).encode())
            answers.extend(json.loads(connection.getresponse().read()))
            connection.close()

        caller = threading.Thread(target=call)
        caller.start()
        assert server.stdout.readline() == "begun\n"
        server.terminate()
        caller.join(60)
        assert server.wait(60) == status
    finally:
        server.kill()
        server.communicate()
    assert [op["op"] for op in answers] == ["DiscoveryRequest"]
    assert api.stored() == ["s1", "s2"]


class _Drained:
    """What a drain reaches, as an invocation."""

    times = 0

    def drain(self) -> None:
        self.times += 1


def test_invocations_that_begin_and_end_while_it_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come and go on other threads; each that stays is drained every time."""
    staying = [_Drained() for _ in range(1000)]
    live: WeakSet[_Drained] = WeakSet(staying)
    monkeypatch.setattr(session, "_live", live)
    interval, ended = sys.getswitchinterval(), threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            passing = [_Drained() for _ in range(50)]
            for each in passing:
                live.add(each)
            for each in passing:
                live.discard(each)

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for _ in range(50):
            session.drain_all()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert {each.times for each in staying} == {50}
