"""Durable endpoints: HTTP routes whose handlers use steps and answer their caller."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx

from tests.sdks.catalogue import scenario
from tests.sdks.suite import App
from tests.support.loops import HANGS_AFTER_S


class Caller:
    """Somebody who calls endpoints of an app. `key` is what their traces are found by."""

    def __init__(self, app: App, key: str) -> None:
        self._app = app
        self._key = f"{app.id}-{key}"

    async def _request(self, method: str, url: str, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=HANGS_AFTER_S) as client:
            return await client.request(method, url, **options)

    async def call(self, endpoint: str, method: str = "GET", **options: Any) -> httpx.Response:
        """The endpoint's own answer."""
        url = f"{self._app.suite.urls[self._app.id]}/{endpoint}"
        params = {"key": self._key, **options.pop("params", {})}
        return await self._request(method, url, params=params, **options)

    async def output(self, answer: httpx.Response) -> Any:
        """What the run of an endpoint that has gone async leads to, as its caller gets it."""
        if self._app.options.get("asyncResponse") == "token":
            assert answer.status_code == 200, answer.text
            claim = answer.json()
            url = f"{self._app.suite.url}/v1/http/runs/{claim['run_id']}/output"
            answer = await self._request("GET", url, params={"token": claim["token"]})
        else:
            assert answer.status_code == 302, answer.text
            answer = await self._request("GET", answer.headers["location"])
        assert answer.status_code == 200, answer.text
        own = self._app.suite.urls[self._app.id]
        assert str(answer.url).startswith(own) == bool(self._app.options.get("proxied"))
        # The orchestrator gives the body as a JSON string, the SDK's proxy as it was.
        return answer.json() if str(answer.url).startswith(own) else json.loads(answer.json())

    @property
    def traces(self) -> Counter[str]:
        """How often each body ran for this caller."""
        return self._app.suite.traces.of(self._key)


@scenario("endpoints")
async def endpoint_steps(app: App) -> None:
    caller = Caller(app, "steps")
    answer = await caller.call("steps", params={"n": "1"})
    assert answer.status_code == 200
    assert answer.json() == {"one": 2, "two": 20}
    assert caller.traces == {"one": 1, "two": 1}


@scenario("endpoints")
async def endpoint_no_steps(app: App) -> None:
    caller = Caller(app, "no-steps")
    answer = await caller.call("no-steps")
    assert (answer.status_code, answer.text) == (200, f"hello {app.id}-no-steps")
    assert caller.traces == {}


@scenario("endpoints")
async def endpoint_posted(app: App) -> None:
    caller = Caller(app, "posted")
    answer = await caller.call("posted", "POST", headers={"x-seen": "yes"}, content=b"{}")
    assert answer.json() == {"method": "POST", "seen": "yes"}
    assert caller.traces == {"seen": 1}


@scenario("endpoints")
async def endpoint_response(app: App) -> None:
    caller = Caller(app, "response")
    answer = await caller.call("response")
    assert (answer.status_code, answer.text) == (201, "grüße 🌍")
    assert answer.headers["x-made-by"] == "endpoint"
    assert caller.traces == {"text": 1}


@scenario("endpoints")
async def endpoint_many_steps(app: App) -> None:
    caller = Caller(app, "many-steps")
    answer = await caller.call("many-steps")
    assert answer.json() == sum(range(50))
    assert caller.traces == {"step": 50}


@scenario("endpoints")
async def endpoint_sleeps(app: App) -> None:
    caller = Caller(app, "sleeps")
    output = await caller.output(await caller.call("sleeps"))
    assert output == ["before", "after"]
    assert caller.traces == {"before": 1, "after": 1}


@scenario("endpoints")
async def endpoint_sleeps_first(app: App) -> None:
    caller = Caller(app, "sleeps-first")
    output = await caller.output(await caller.call("sleeps-first"))
    assert output == "after"
    assert caller.traces == {"after": 1}


@scenario("endpoints")
async def endpoint_waits(app: App) -> None:
    caller = Caller(app, "waits")
    answer = await caller.call("waits")
    await app.send(f"wake.{app.id}-waits", {"value": "woken"})
    output = await caller.output(answer)
    assert output == ["woken", "after"]
    assert caller.traces == {"after": 1}


@scenario("endpoints")
async def endpoint_parallel(app: App) -> None:
    caller = Caller(app, "parallel")
    output = await caller.output(await caller.call("parallel"))
    assert output == ["a", "b", "c", "joined"]
    assert caller.traces == {"a": 1, "b": 1, "c": 1, "joined": 1}


@scenario("endpoints")
async def endpoint_retried(app: App) -> None:
    caller = Caller(app, "retried")
    output = await caller.output(await caller.call("retried"))
    assert output == ["before", "shaky"]
    assert caller.traces == {"before": 1, "shaky": 2}


@scenario("endpoints")
async def endpoint_invokes(app: App) -> None:
    caller = Caller(app, "invokes")
    output = await caller.output(await caller.call("invokes"))
    assert output == [42, "after"]
    assert caller.traces == {"after": 1}


@scenario("endpoints")
async def endpoint_caught(app: App) -> None:
    caller = Caller(app, "caught")
    output = await caller.output(await caller.call("caught"))
    assert output == ["no use", "after"]
    assert caller.traces == {"bad": 1, "after": 1}
