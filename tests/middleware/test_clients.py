"""What an app sends and reads outside of functions passes its middleware."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onward import (
    App,
    BlockingContext,
    Context,
    EventsNotSentError,
    NonRetriableError,
    RunFailedError,
)
from onward.middleware import (
    Call,
    DirectoryStore,
    EncryptionMiddleware,
    Middleware,
    OffloadMiddleware,
    Sent,
)
from onward.transport import http
from tests.middleware.wire import Tap
from tests.support.harness import EVENT, Platform, World, clean_environment

SECRET = "4111-1111-1111-1111"
LARGE = "0123456789" * 500


class Noting(Middleware):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def before_send_events(
        self, call: Call, events: tuple[dict[str, Any], ...]
    ) -> tuple[dict[str, Any], ...]:
        call.state["thread"] = threading.get_ident()
        self.seen.append((call.run_id, [event["name"] for event in events]))
        return events

    def after_send_events(self, call: Call, sent: Sent) -> None:
        assert "thread" in call.state
        self.seen.append((sent.ids, type(sent.error).__name__))


async def in_async(ctx: Context) -> Any:
    if ctx.event.data["encrypted"] == "fail":
        raise NonRetriableError(f"no {SECRET}")
    return [ctx.event.data["encrypted"], LARGE]


def in_blocking(ctx: BlockingContext) -> Any:
    if ctx.event.data["encrypted"] == "fail":
        raise NonRetriableError(f"no {SECRET}")
    return [ctx.event.data["encrypted"], LARGE]


@pytest.fixture
def noting() -> Noting:
    return Noting()


@pytest.fixture(params=["async", "blocking"])
def world(
    platform: Platform, tmp_path: Path, noting: Noting, request: pytest.FixtureRequest
) -> Iterator[World]:
    middleware = [
        noting,
        OffloadMiddleware(DirectoryStore(tmp_path), "1KB"),
        EncryptionMiddleware("a key", errors=True),
    ]
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        world = World(platform, request.param, "asgi", app_options={"middleware": middleware})
        yield world
        world.close()


def served(world: World) -> App:
    app = world.define(in_async, in_blocking)
    orchestrator = world.orchestrator
    world.platform.loops.run(orchestrator.register(app.registration(world.url), world))
    return app


def test_blocking(world: World, noting: Noting) -> None:
    app, tap = served(world), Tap(world)
    ids = app.send({"name": EVENT, "data": {"encrypted": SECRET}})
    (run,) = app.runs_of(ids[0])
    assert run.result("30s") == [SECRET, LARGE]
    assert tap.bodies
    assert not any(SECRET.encode() in body or b"01234567890" in body for body in tap.bodies)
    assert noting.seen == [("", [EVENT]), (tuple(ids), "NoneType")]


def test_async(world: World, noting: Noting) -> None:
    app, tap = served(world), Tap(world)

    async def go() -> tuple[list[str], Any]:
        ids = await app.send_async({"name": EVENT, "data": {"encrypted": SECRET}})
        (run,) = await app.runs_of_async(ids[0])
        return ids, await run.result_async("30s")

    ids, result = asyncio.run(go())
    assert result == [SECRET, LARGE]
    assert not any(SECRET.encode() in body for body in tap.bodies)
    assert noting.seen == [("", [EVENT]), (tuple(ids), "NoneType")]


def test_the_error_of_a_run(world: World) -> None:
    app = served(world)
    (run,) = app.runs_of(app.send({"name": EVENT, "data": {"encrypted": "fail"}})[0])
    with pytest.raises(RunFailedError, match=f"NonRetriableError: no {SECRET}") as raised:
        run.result("30s")
    assert raised.value.reason == f"no {SECRET}"


def test_events_that_were_not_sent(
    world: World, noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_FIRST_DELAY", 0.001)
    app = served(world)

    async def away(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    world.api = away  # type: ignore[method-assign]
    with pytest.raises(EventsNotSentError):
        app.send({"name": EVENT, "data": {"encrypted": SECRET}})
    assert noting.seen[1:] == [((), "EventsNotSentError")]
