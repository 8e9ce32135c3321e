"""A shop with durable endpoints on uvicorn, and the orchestrator that keeps its runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from onward import App
from onward.protocol import endpoint as wire
from onward_server import Orchestrator, RunView, Settings
from tests.endpoints import shop
from tests.support.harness import QUICK, clean_environment
from tests.support.loops import HANGS_AFTER_S, LoopThread, eventually


class Exchanged:
    """A server whose application changes from test to test."""

    def __init__(self, loops: LoopThread) -> None:
        self.loops = loops
        self.asgi: Any = None
        self.url = loops.serve(self._serve)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        await self.asgi(scope, receive, send)


class Shop:
    """The shop, what is asked of it, and what became of its runs."""

    def __init__(
        self, web: Exchanged, server: Exchanged, lease_s: float, signing_key: str | None
    ) -> None:
        self._web, self._server = web, server.loops
        settings = Settings(**QUICK, endpoint_lease_s=lease_s, signing_key=signing_key)
        self.orchestrator = Orchestrator(settings=settings)
        self._server.run(self.orchestrator.start())
        server.asgi = self.orchestrator.asgi
        self.api_url, self.url = server.url, web.url
        self.app = App("shop", orchestrator=self.api_url)
        self.open()

    def open(self, **options: Any) -> None:
        """Serve the application; `options` are those of every endpoint."""
        self.app.channel.close()
        self.app = App("shop", orchestrator=self.api_url)
        self._web.asgi = shop.application(self.app, **options)

    def ask(self, method: str, path: str, *, follow: bool = True, **options: Any) -> httpx.Response:
        """A caller's request; `follow` redirects."""
        with httpx.Client(
            trust_env=False,
            verify=False,  # there is no TLS here; certificates take long to load
            timeout=HANGS_AFTER_S,
            follow_redirects=follow,
            base_url=self.url,
        ) as client:
            return client.request(method, path, **options)

    def only_run(self) -> RunView:
        """The only run that there was, once it has ended."""
        [run_id] = self.run_ids()
        return self._server.run(self.orchestrator.result(run_id))

    def run_ids(self) -> list[str]:
        """Every run."""
        with httpx.Client(trust_env=False, verify=False, base_url=self.api_url) as client:
            return [run["run_id"] for run in client.get("/v1/runs").json()["data"]]

    def steps(self, run_id: str) -> list[str]:
        """The names of the run's memoized steps, in order."""
        with httpx.Client(trust_env=False, verify=False, base_url=self.api_url) as client:
            return [step["name"] for step in client.get(f"/v1/runs/{run_id}/steps").json()["data"]]

    def send(self, name: str, data: dict[str, Any]) -> None:
        """Send an event, once a run waits for it."""

        def waits() -> bool:
            runs = self.orchestrator.runs.all()
            return any(p.event == name for run in runs for p in run.pending.values())

        eventually(waits, f"nothing waits for {name}")
        self._server.run(self.orchestrator.send([{"name": name, "data": data}]))

    def close(self) -> None:
        """End it all."""
        self.app.channel.close()
        self._server.run(self.orchestrator.stop())


@pytest.fixture(params=["async", "blocking"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="package")
def servers() -> Iterator[tuple[Exchanged, Exchanged]]:
    with LoopThread("endpoints") as web, LoopThread("orchestrator") as server:
        yield Exchanged(web), Exchanged(server)


@pytest.fixture
def lease_s() -> float:
    """How long an orchestrator waits for word of a request."""
    return 60.0


@pytest.fixture
def signing_key() -> str | None:
    """The orchestrator's; with one it signs, and lets nobody in without."""
    return None


@pytest.fixture
def the_shop(
    servers: tuple[Exchanged, Exchanged],
    lease_s: float,
    signing_key: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shop]:
    clean_environment(monkeypatch)
    monkeypatch.setenv("INNGEST_DEV", "1")
    monkeypatch.setattr(wire, "PATIENCE", 0.3)
    monkeypatch.setattr(wire, "LITTLE_PATIENCE", 0.05)
    shop.done.clear()
    shop.failures.clear()
    shop.seen.clear()
    shop.gate.clear()
    opened = Shop(*servers, lease_s, signing_key)
    yield opened
    shop.gate.set()
    opened.close()
