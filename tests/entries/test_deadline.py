"""Where an invocation's deadline comes from, on each platform."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf
from types import ModuleType
from typing import Any

import pytest
from mangum import Mangum

import onward
from onward.asgi import serve
from onward.aws_lambda import handler
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import (
    PATH,
    AsgiEntry,
    Entry,
    LambdaContext,
    LambdaEntry,
    call_request,
    shape_of,
    step_id,
)

pytestmark = pytest.mark.usefixtures("api")


class Told:
    """How much time a function saw."""

    def __init__(self) -> None:
        self.remaining = -1.0

    def app(self, driver: str = "async", **options: Any) -> onward.App:
        app = onward.App("clock", **options)
        register = app.function("look", trigger=onward.Event("test/asked"))

        async def look(ctx: onward.Context) -> None:
            self.remaining = ctx.deadline.remaining()

        def look_blocking(ctx: onward.BlockingContext) -> None:
            self.remaining = ctx.deadline.remaining()

        register(look if driver == "async" else look_blocking)
        return app


# A slow machine makes the time that is left shorter, by seconds at worst: so are these bounds.


def about(seconds: float) -> Any:
    """No more than `seconds`, and not much less."""
    return pytest.approx(seconds - 5, abs=5.001)


def test_what_the_platform_says_less_the_margin(entry: Entry, driver: str) -> None:
    told = Told()
    entry.call(told.app(driver), call_request(), remaining=100.0)
    assert told.remaining == about(100 - 0.25)


def test_no_platform_and_no_configuration(asgi: AsgiEntry, driver: str) -> None:
    told = Told()
    asgi.call(told.app(driver), call_request(), remaining=None)
    assert told.remaining == inf


def test_the_configured_runtime(entry: Entry, driver: str) -> None:
    told = Told()
    checkpointing = onward.Checkpointing(max_runtime="60s")
    entry.call(told.app(driver, checkpointing=checkpointing), call_request())
    assert told.remaining == about(60 - 0.25)


@pytest.mark.parametrize(("runtime", "expected"), [("20s", 20), ("10m", 90), ("0", 90)])
def test_the_least_of_them_counts(entry: Entry, runtime: str, expected: float) -> None:
    told = Told()
    checkpointing = onward.Checkpointing(max_runtime=runtime)
    entry.call(told.app(checkpointing=checkpointing), call_request(), remaining=90.0)
    assert told.remaining == about(expected - 0.25)


@pytest.mark.parametrize("margin", ["2s", 2, "2000ms", timedelta(seconds=2)])
def test_the_margin_of_the_app(entry: Entry, margin: Any) -> None:
    told = Told()
    entry.call(told.app(deadline_margin=margin), call_request(), remaining=20.0)
    assert told.remaining == about(18.0)


def test_the_margin_of_the_environment(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONWARD_DEADLINE_MARGIN", "8s")
    told = Told()
    entry.call(told.app(), call_request(), remaining=30.0)
    assert told.remaining == about(22.0)
    entry.call(told.app(deadline_margin="1s"), call_request(), remaining=60.0)
    assert told.remaining == about(59.0)


def test_a_margin_takes_no_more_than_half(entry: Entry) -> None:
    told = Told()
    entry.call(told.app(deadline_margin="100s"), call_request(), remaining=60.0)
    assert told.remaining == about(30.0)


@pytest.mark.parametrize("margin", ["soon", "5 parsecs", "-1s"])
def test_a_margin_that_makes_no_sense(
    entry: Entry, margin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(onward.OnwardError, match="deadline_margin"):
        onward.App("clock", deadline_margin=margin)
    monkeypatch.setenv("ONWARD_DEADLINE_MARGIN", margin)
    told = Told()
    answer = entry.call(told.app(), call_request(), remaining=60.0)
    assert (answer.status, answer.body["name"]) == (400, "DurationError")
    assert repr(margin) in answer.body["message"]
    assert "margin" in answer.body["message"]
    assert told.remaining == -1.0


# ---------------------------------------------------------------------- Lambda


class FixedContext:
    function_name = "demo"

    def __init__(self, milliseconds: int) -> None:
        self.get_remaining_time_in_millis = lambda: milliseconds


IMPOSSIBLE = [-5000, -1, 0, 900_001, 3_600_000]


@pytest.mark.parametrize("milliseconds", IMPOSSIBLE)
def test_an_impossible_remaining_time_is_ignored_with_a_warning(
    driver: str, milliseconds: int, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    event = {"onward": "call", "function_id": "clock-look", "request": call_request()}
    with caplog.at_level(logging.WARNING, "onward"):
        answer = handler(told.app(driver))(event, FixedContext(milliseconds))
    assert answer["status"] == 206
    assert told.remaining == inf
    assert f"{milliseconds / 1000:g} s of this invocation remain" in caplog.text
    assert "at most 900 s" in caplog.text
    assert caplog.text.count("It is ignored") == 1


def test_the_longest_remaining_time_is_possible(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    LambdaEntry().call(told.app(), call_request(), remaining=900.0)
    assert told.remaining == about(900 - 0.25)
    assert caplog.text == ""


def test_a_context_that_does_not_tell() -> None:
    told = Told()
    event = {"onward": "call", "function_id": "clock-look", "request": call_request()}
    assert handler(told.app())(event, None)["status"] == 206
    assert told.remaining == inf


# ---------------------------------------------------------------------- Lambda behind mangum


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The thread's loop, which mangum runs ASGI apps on."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


def function_url_event(request: object, target: str = "step") -> dict[str, Any]:
    """What a function URL, or an HTTP API, sends."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": PATH,
        "rawQueryString": f"fnId=clock-look&stepId={target}",
        "headers": {"content-type": "application/json", "host": "x.lambda-url.test"},
        "requestContext": {
            "http": {"method": "POST", "path": PATH, "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4"},
            "stage": "$default",
        },
        "body": base64.b64encode(json.dumps(request).encode()).decode(),
        "isBase64Encoded": True,
    }


def rest_api_event(request: object, target: str = "step") -> dict[str, Any]:
    """What a REST API of API Gateway sends."""
    return {
        "resource": "/{proxy+}",
        "path": PATH,
        "httpMethod": "POST",
        "headers": {"content-type": "application/json", "Host": "x.execute-api.test"},
        "multiValueHeaders": {},
        "queryStringParameters": {"fnId": "clock-look", "stepId": target},
        "multiValueQueryStringParameters": {"fnId": ["clock-look"], "stepId": [target]},
        "requestContext": {"resourcePath": "/{proxy+}", "identity": {"sourceIp": "1.2.3.4"}},
        "body": json.dumps(request),
        "isBase64Encoded": False,
    }


EVENTS = {"function URL": function_url_event, "REST API": rest_api_event}


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.usefixtures("loop")
def test_under_mangum(kind: str, driver: str) -> None:
    told = Told()
    adapted = Mangum(serve(told.app(driver)), lifespan="off")
    answer: Any = adapted(EVENTS[kind](call_request()), LambdaContext(100.0))  # type: ignore[arg-type]
    assert answer["statusCode"] == 206
    assert [op["op"] for op in json.loads(answer["body"])] == ["RunComplete"]
    assert told.remaining == about(100 - 0.25)


@pytest.mark.parametrize("milliseconds", IMPOSSIBLE)
@pytest.mark.usefixtures("loop")
def test_an_impossible_remaining_time_under_mangum(
    milliseconds: int, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    adapted = Mangum(serve(told.app()), lifespan="off")
    context: Any = FixedContext(milliseconds)
    answer = adapted(function_url_event(call_request()), context)
    assert answer["statusCode"] == 206
    assert told.remaining == inf
    assert "at most 900 s" in caplog.text


@pytest.mark.usefixtures("loop")
def test_a_context_that_does_not_tell_under_mangum() -> None:
    told = Told()
    context: Any = {}
    adapted = Mangum(serve(told.app()), lifespan="off")
    assert adapted(function_url_event(call_request()), context)["statusCode"] == 206
    assert told.remaining == inf


@pytest.mark.usefixtures("loop")
def test_a_body_is_cut_under_mangum(driver: str, api: CheckpointApi) -> None:
    """The ASGI app runs on the main thread's loop there; a blocking function on a worker."""
    app = onward.App("clock", deadline_margin="0.4s")
    register = app.function("look", trigger=onward.Event("test/asked"))
    cut: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cut.append("yes")

    async def look(ctx: onward.Context) -> None:
        await ctx.step.run("s1", int)
        await ctx.step.run("long", wait)

    def look_blocking(ctx: onward.BlockingContext) -> None:
        ctx.step.run("s1", int)
        ctx.step.run("long", wait)

    register(look if driver == "async" else look_blocking)
    adapted = Mangum(serve(app), lifespan="off")
    context: Any = LambdaContext(0.8)
    answer = adapted(function_url_event(call_request()), context)
    assert [op["op"] for op in json.loads(answer["body"])] == ["DiscoveryRequest"]
    assert api.stored() == ["s1"]
    assert cut == ["yes"]


# ---------------------------------------------------------------------- Vercel


def test_vercel_tells_the_instant(asgi: AsgiEntry, driver: str) -> None:
    told = Told()
    asgi.call(told.app(driver), call_request(), remaining=300.0)
    assert told.remaining == about(300 - 0.25)


def test_vercel_s_module_is_asked_on_vercel_alone(
    asgi: AsgiEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VERCEL")
    told = Told()
    asgi.call(told.app(), call_request(), remaining=300.0)
    assert told.remaining == inf


def test_vercel_without_its_module(asgi: AsgiEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older runtime, or `vercel dev`."""
    told = Told()
    app = told.app()
    monkeypatch.setitem(sys.modules, "vercel_runtime", None)
    asgi.http(
        app, "POST", f"{PATH}?fnId=clock-look&stepId=step", json.dumps(call_request()).encode()
    )
    assert told.remaining == inf


def test_vercel_with_an_older_module(asgi: AsgiEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has no deadline to tell."""
    told = Told()
    monkeypatch.setitem(sys.modules, "vercel_runtime", ModuleType("vercel_runtime"))
    asgi.http(
        told.app(),
        "POST",
        f"{PATH}?fnId=clock-look&stepId=step",
        json.dumps(call_request()).encode(),
    )
    assert told.remaining == inf


def test_an_instant_that_has_passed(asgi: AsgiEntry, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    sys.modules["vercel_runtime"].deadline = datetime.now(UTC) - timedelta(seconds=3)  # type: ignore[attr-defined]
    asgi.http(
        told.app(),
        "POST",
        f"{PATH}?fnId=clock-look&stepId=step",
        json.dumps(call_request()).encode(),
    )
    assert told.remaining == inf
    assert "It is ignored" in caplog.text


# ---------------------------------------------------------------------- each invocation anew


def test_each_invocation_has_its_own(entry: Entry, driver: str) -> None:
    told = Told()
    app = told.app(driver)
    for remaining in (100.0, 50.0, 200.0):
        answer = entry.call(app, call_request(), remaining=remaining)
        assert shape_of(answer) == "complete"
        assert told.remaining == about(remaining - 0.25)
    answer = entry.call(app, call_request(), target=step_id("unknown"), remaining=20.0)
    assert told.remaining == about(20 - 0.25)
