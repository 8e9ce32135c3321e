"""Keys: events are sent with the event key, runs are asked for with the signing key."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from onward import App, EventRejectedError, OnwardError
from onward.transport.http import clients
from onward_server import Orchestrator, Settings
from tests.support.checkpoint_api import CheckpointApi
from tests.support.harness import QUICK, clean_environment
from tests.support.loops import LoopThread
from tests.transport.test_http import KEY, OTHER

EVENT_KEY = "event-key-1"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    settings = replace(Settings(**QUICK), signing_key=KEY, event_keys=(EVENT_KEY,))
    with pytest.MonkeyPatch.context() as patch, LoopThread("keys") as loops:
        clean_environment(patch)
        orchestrator = Orchestrator(settings=settings)
        loops.run(orchestrator.start())
        yield loops.serve(orchestrator.asgi)
        loops.run(orchestrator.stop())
        clients.close()


def app_with(address: str, signing_key: str, event_key: str, fallback: str | None = None) -> App:
    return App(
        "shop",
        orchestrator=address,
        dev=False,
        signing_key=signing_key,
        signing_key_fallback=fallback,
        event_key=event_key,
    )


def test_the_right_keys(address: str) -> None:
    app = app_with(address, KEY, EVENT_KEY)
    (event_id,) = app.send({"name": "shop/nobody"})
    assert app.runs_of(event_id) == []


def test_a_wrong_event_key(address: str) -> None:
    app = app_with(address, KEY, "another")
    with pytest.raises(EventRejectedError, match="Set INNGEST_EVENT_KEY") as info:
        app.send({"name": "shop/nobody"})
    assert info.value.status == 401
    assert "another" not in info.value.message


def test_no_log_and_no_message_tells_the_event_key(caplog: pytest.LogCaptureFixture) -> None:
    """Neither httpx's log of requests nor an answer that repeats the address."""
    with CheckpointApi() as api, caplog.at_level(logging.DEBUG):
        api.pages[f"/e/{EVENT_KEY}"] = (404, f"Cannot POST /e/{EVENT_KEY}".encode())
        with pytest.raises(EventRejectedError, match="Cannot POST /e/…") as info:
            app_with(api.url, KEY, EVENT_KEY).send({"name": "shop/nobody"})
    assert f'POST {api.url}/e/… "HTTP/1.1 404' in caplog.text
    assert EVENT_KEY not in caplog.text
    assert EVENT_KEY not in info.value.message


def test_a_wrong_signing_key(address: str) -> None:
    app = app_with(address, OTHER, EVENT_KEY)
    (event_id,) = app.send({"name": "shop/nobody"})
    with pytest.raises(OnwardError, match="answered 401"):
        app.runs_of(event_id)


def test_the_fallback_key_takes_over_for_good(address: str) -> None:
    app = app_with(address, OTHER, EVENT_KEY, fallback=KEY)
    (event_id,) = app.send({"name": "shop/nobody"})
    assert app.runs_of(event_id) == []
    assert app.keys().authorization() == app_with(address, KEY, EVENT_KEY).keys().authorization()
