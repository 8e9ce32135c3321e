"""What goes with every request to the orchestrator: the environment, the SDK, the key."""

from __future__ import annotations

from typing import Any

import pytest

import onward
from onward.protocol.signature import bearer_token
from tests.entries.test_introspection import KEY, OTHER
from tests.support.checkpoint_api import CheckpointApi, Seen
from tests.support.entries import Entry, call_request


def app_that_sends(driver: str, api: CheckpointApi) -> onward.App:
    """An app in a branch environment; its function sends an event."""
    app = onward.App(
        "shop",
        dev=api.url,
        env="feature-1",
        signing_key=OTHER,
        signing_key_fallback=KEY,
        event_key="a-key",
    )

    async def in_async(ctx: onward.Context) -> None:
        await ctx.step.run("charge", int)
        await ctx.step.send_event("tell", {"name": "order/paid"})

    def in_blocking(ctx: onward.BlockingContext) -> None:
        ctx.step.run("charge", int)
        ctx.step.send_event("tell", {"name": "order/paid"})

    handler = in_async if driver == "async" else in_blocking
    app.function("sell", trigger=onward.Event("test/asked"))(handler)
    return app


@pytest.fixture
def keyed(api: CheckpointApi, monkeypatch: pytest.MonkeyPatch) -> CheckpointApi:
    """The environment says something else: the app's own arguments go before it."""
    monkeypatch.setenv("INNGEST_ENV", "other")
    monkeypatch.setenv("INNGEST_EVENT_KEY", "other")
    run: Any = call_request()["ctx"]["run_id"]
    api.pages[f"/v0/runs/{run}/actions"] = (200, b"{}")
    api.pages[f"/v0/runs/{run}/batch"] = (200, b'[{"name": "test/asked", "data": {}}]')
    api.pages["/e/a-key"] = (200, b'{"ids": ["1"], "status": 200}')
    return api


def test_every_request_has_them(entry: Entry, driver: str, keyed: CheckpointApi) -> None:
    app = app_that_sends(driver, keyed)
    answer = entry.call(app, call_request(use_api=True))
    assert answer.ops[-1]["op"] == "RunComplete"
    requests = [*keyed.others, *keyed.checkpoints]
    kinds = {seen.path.split("/")[-1] for seen in requests}
    assert kinds == {"actions", "batch", "a-key", "async"}
    for seen in requests:
        assert seen.headers["x-inngest-env"] == "feature-1", seen.path
        assert seen.headers["x-inngest-sdk"] == f"onward:v{onward.__version__}", seen.path
        assert seen.headers["x-inngest-req-version"] == "2", seen.path


def test_a_key_that_is_refused_once_is_refused_for_all(
    entry: Entry, driver: str, keyed: CheckpointApi
) -> None:
    """Whichever request finds out, checkpoints, reads and registrations use the fallback then."""
    keyed.accepts = frozenset({bearer_token(KEY)})
    app = app_that_sends(driver, keyed)
    assert entry.call(app, call_request()).ops[-1]["op"] == "RunComplete"
    tried = [_token(seen) for seen in keyed.checkpoints]
    assert tried[0] == bearer_token(OTHER)
    assert set(tried[1:]) == {bearer_token(KEY)}
    keyed.others.clear()
    entry.call(app, call_request(use_api=True))
    reads = [seen for seen in keyed.others if seen.path.startswith("/v0/")]
    assert {_token(seen) for seen in reads} == {bearer_token(KEY)}


def _token(seen: Seen) -> str:
    return seen.headers["authorization"].removeprefix("Bearer ")
