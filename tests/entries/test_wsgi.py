"""What only WSGI has: servers that fork, bodies without a length, paths as Latin-1, drains."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from functools import partial
from typing import Any

import pytest

import onward
import onward.wsgi
from onward import serving
from onward.execution.session import Hung
from tests.entries.app import small_app
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import PATH, HttpEntry, LambdaContext, call_request, shape_of
from tests.support.linear import Ledger, linear_app
from tests.watchdog.bodies import ignore_interrupts

#: A server that was used before it forked, as one may be that loads the app first.
PREFORK = """
import io, json, os, sys
import onward, onward.wsgi

app = onward.App("shop")

@app.function("later", trigger=onward.Event("test/asked"))
async def later(ctx: onward.Context) -> str:
    await ctx.step.run("a", lambda: 1)
    return await ctx.step.run("b", lambda: "async")

@app.function("now", trigger=onward.Event("test/asked"))
def now(ctx: onward.BlockingContext) -> str:
    async def body() -> int:
        return 1
    ctx.step.run("a", body)
    return ctx.step.run("b", lambda: "blocking")

served = onward.wsgi.serve(app)
body = sys.stdin.buffer.read()

def call(function):
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/api/inngest", "SERVER_NAME": "a",
        "QUERY_STRING": f"fnId=shop-{function}&stepId=step", "SERVER_PORT": "80",
        "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body),
    }
    text = b"".join(served(environ, lambda *_: None))
    return json.loads(text)[-1]["data"]

before = [call("later"), call("now")]
child = os.fork()
if child == 0:
    os._exit(0 if [call("later"), call("now")] == before == ["async", "blocking"] else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_server_that_forks(api: CheckpointApi) -> None:
    """A forked child has none of the threads that its parent had started."""
    done = subprocess.run(
        [sys.executable, "-c", PREFORK],
        input=json.dumps(call_request()).encode(),
        env={**os.environ, "INNGEST_DEV": api.url},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    api.conflicts.clear()  # each call was of the same run


def environ(**fields: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": PATH,
        "SERVER_NAME": "shop.test",
        "SERVER_PORT": "8000",
        "wsgi.input": io.BytesIO(),
        **fields,
    }


def ask(app: onward.App, path: str = PATH, /, **fields: Any) -> tuple[str, Any]:
    """Status line and body of one request."""
    seen: list[str] = []
    answer = onward.wsgi.serve(app, path)(environ(**fields), lambda line, _: seen.append(line))
    return seen[0], json.loads(b"".join(answer))


def test_the_least_that_wsgi_requires(api: CheckpointApi) -> None:
    status, told = ask(small_app([]))
    assert (status, told["mode"]) == ("200 OK", "dev")
    api.pages["/fn/register"] = (200, b"{}")
    assert ask(small_app([]), REQUEST_METHOD="PUT")[0] == "200 OK"
    assert api.others[-1].json()["url"] == f"http://shop.test:8000{PATH}"


def test_a_path_that_is_not_ascii(api: CheckpointApi) -> None:
    path = "/żółw"
    status, _ = ask(small_app([]), path, PATH_INFO=path.encode().decode("latin-1"))
    assert status == "200 OK"


@pytest.mark.parametrize(
    "length", ["x", "-1", "1.5", " ", "٣", "9" * 5000, "0" * 12 + "9" * 8, "0" * 5000 + "9" * 8]
)
def test_a_length_that_is_none(length: str, api: CheckpointApi) -> None:
    status, told = ask(small_app([]), REQUEST_METHOD="POST", CONTENT_LENGTH=length)
    assert status == "400 Bad Request"
    said = "over 64,000,000 bytes" if length.endswith("9") else "is no number"
    assert said in told["message"]
    assert "Nothing was run" in told["message"]


def test_a_length_with_zeros_before_it(api: CheckpointApi) -> None:
    body = json.dumps(call_request()).encode()
    status, ops = ask(
        small_app([]),
        REQUEST_METHOD="POST",
        QUERY_STRING="fnId=shop-sell&stepId=step",
        CONTENT_LENGTH=f"{'0' * 5000}{len(body)}",
        **{"wsgi.input": io.BytesIO(body)},
    )
    assert (status, ops[-1]["op"]) == ("206 Partial Content", "RunComplete")


@pytest.mark.parametrize("size", [0, 10, 10_000])
def test_a_server_that_says_where_the_body_ends(size: int, api: CheckpointApi) -> None:
    """Such as gunicorn's chunks."""
    body = json.dumps(call_request({"x": {"data": "x" * size}})).encode()
    status, ops = ask(
        small_app([]),
        REQUEST_METHOD="POST",
        QUERY_STRING="fnId=shop-sell&stepId=step",
        **{"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True},
    )
    assert (status, ops[-1]["op"]) == ("206 Partial Content", "RunComplete")


def test_such_a_body_over_the_limit(api: CheckpointApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "BODY_LIMIT", 1000)
    status, told = ask(
        small_app([]),
        REQUEST_METHOD="POST",
        **{"wsgi.input": io.BytesIO(b"x" * 1001), "wsgi.input_terminated": True},
    )
    assert status == "400 Bad Request"
    assert "over 1,000 bytes" in told["message"]


def test_draining(wsgi: HttpEntry, driver: str, api: CheckpointApi) -> None:
    """The server's hook says that the process ends: what is finished is safe, the rest goes on."""
    begun, go = threading.Event(), threading.Event()
    ledger = Ledger()

    def slow() -> str:
        begun.set()
        assert go.wait(30)
        return "slow"

    plan = [*ledger.bodies("s1"), ("s2", slow), *ledger.bodies("s3")]
    app = linear_app(driver, ledger, plan, checkpointing=onward.Checkpointing(buffered_steps=100))

    def hook() -> None:
        assert begun.wait(30)
        onward.wsgi.drain()
        go.set()

    thread = threading.Thread(target=hook)
    thread.start()
    answer = wsgi.call(app, call_request())
    thread.join()
    assert shape_of(answer) == "continue"
    assert api.stored() == ["s1", "s2"]
    assert ledger.ended == ["s1"]


def test_a_function_that_is_frozen_between_calls(api: CheckpointApi) -> None:
    """Adapters for Lambda pass its context on."""
    seen: list[float] = []
    app = onward.App("shop")

    @app.function("sell", trigger=onward.Event("test/asked"))
    def sell(ctx: onward.BlockingContext) -> None:
        seen.append(ctx.deadline.remaining())

    body = json.dumps(call_request()).encode()
    for name in ("apig_wsgi.context", "serverless.context"):
        ask(
            app,
            REQUEST_METHOD="POST",
            QUERY_STRING="fnId=shop-sell&stepId=step",
            CONTENT_LENGTH=str(len(body)),
            **{"wsgi.input": io.BytesIO(body), name: LambdaContext(60.0)},
        )
    assert len(seen) == 2
    assert all(50 < left < 60 for left in seen)


def test_there_code_that_cannot_be_stopped_is_not_answered_for(
    api: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would thaw inside the next call. The platform's kill is what ends it.

    A blocking function's code holds the thread that would answer: nothing needs to wait there.
    """
    waits: list[str] = []
    ended = threading.Event()
    monkeypatch.setattr("onward.wsgi._wait_for_the_kill", lambda: waits.append("for the kill"))
    ledger = Ledger()
    plan = [*ledger.bodies("s1"), ("hard", partial(ignore_interrupts, ended.is_set))]
    options = onward.Checkpointing(buffered_steps=100)
    app = linear_app("async", ledger, plan, checkpointing=options, deadline_margin="0.4s")
    body = json.dumps(call_request()).encode()
    try:
        with pytest.raises(Hung):
            ask(
                app,
                REQUEST_METHOD="POST",
                QUERY_STRING="fnId=lab-linear&stepId=step",
                CONTENT_LENGTH=str(len(body)),
                **{"wsgi.input": io.BytesIO(body), "apig_wsgi.context": LambdaContext(0.8)},
            )
    finally:
        ended.set()
    assert waits == ["for the kill"]
    assert api.stored() == ["s1"]
