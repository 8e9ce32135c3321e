"""INNGEST_STREAMING: the connection is busy while the function runs, and the answer is the same."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

import onward
from onward import serving
from onward.protocol.response import decode_stream, encode_stream
from onward.protocol.signature import verify
from tests.entries.app import small_app
from tests.entries.test_introspection import KEY, signature
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import PATH, HttpEntry, LambdaEntry, call_request

CALL = f"{PATH}?fnId=shop-sell&stepId=step"


@pytest.fixture(autouse=True)
def streaming(api: CheckpointApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNGEST_STREAMING", "1")


def waiting_app(driver: str, go: threading.Event, result: Any) -> onward.App:
    """A function with a body that waits for `go`."""
    app = onward.App("shop")

    def body() -> Any:
        assert go.wait(30)
        return result

    async def in_async(ctx: onward.Context) -> Any:
        return await ctx.step.run("wait", body)

    def in_blocking(ctx: onward.BlockingContext) -> Any:
        return ctx.step.run("wait", body)

    app.function("sell", trigger=onward.Event("test/asked"))(
        in_async if driver == "async" else in_blocking
    )
    return app


def test_blanks_until_the_answer_is_there(
    http: HttpEntry, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "KEEP_ALIVE_S", 0.02)
    go = threading.Event()
    threading.Timer(0.3, go.set).start()
    body = json.dumps(call_request()).encode()
    answer = http.http(waiting_app(driver, go, "text"), "POST", CALL, body)
    assert answer.status == 201
    assert answer.headers["x-inngest-sdk"] == f"onward:v{onward.__version__}"
    assert answer.text.startswith(b"  ")
    told = decode_stream(answer.text)
    assert told.status == 206
    assert json.loads(told.body)[-1]["data"] == "text"
    assert told.headers["x-inngest-req-version"] == "2"


def test_an_answer_that_comes_at_once_has_no_blanks(http: HttpEntry) -> None:
    answer = http.http(small_app([]), "POST", CALL, json.dumps(call_request()).encode())
    assert (answer.status, answer.text[:1]) == (201, b"{")


def test_headers_that_come_late_are_in_the_stream(http: HttpEntry) -> None:
    app = onward.App("shop", checkpointing=False)

    @app.function("sell", trigger=onward.Event("test/asked"))
    def sell(ctx: onward.BlockingContext) -> None:
        raise onward.RetryAfterError("later", "90s")

    answer = http.http(app, "POST", CALL, json.dumps(call_request()).encode())
    told = decode_stream(answer.text)
    assert (answer.status, told.status) == (201, 500)
    assert told.headers["retry-after"] == "90"
    assert told.headers["x-inngest-no-retry"] == "false"


def test_the_signature_is_that_of_the_answer_itself(http: HttpEntry) -> None:
    body = json.dumps(call_request()).encode()
    answer = http.http(small_app([], signing_key=KEY), "POST", CALL, body, signature(KEY, body))
    told = decode_stream(answer.text)
    assert verify(told.body, told.headers["x-inngest-signature"], KEY, now=time.time())


@pytest.mark.parametrize(
    ("method", "path"), [("GET", PATH), ("POST", PATH), ("POST", f"{PATH}?probe=trust")]
)
def test_only_calls_are_streamed(http: HttpEntry, method: str, path: str) -> None:
    assert http.http(small_app([]), method, path, b"{}").status in {200, 400}


def test_a_direct_invocation_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LambdaEntry().call(small_app([]), call_request()).ops[-1]["op"] == "RunComplete"


@pytest.mark.parametrize("body", [b'"text"', b"null", b"[1]", "żółw".encode(), b""])
def test_what_is_streamed_comes_out_as_it_was(body: bytes) -> None:
    from onward.protocol.response import WireResponse

    whole = WireResponse(206, {"x-a": "1"}, body)
    assert decode_stream(b"   " + encode_stream(whole)) == whole
    # A server unpacks a string once more than it should: then too it is the same.
    assert json.loads(encode_stream(whole))["body"].encode() == body


@pytest.mark.parametrize("text", [b"", b"   ", b'{"status": 200, "bo', b"[]", b'{"status": "x"}'])
def test_half_a_stream_is_none(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_stream(text)
