"""An app with functions of several fates, served over HTTP, and a real orchestrator to ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import onward.asgi
from onward import App, Context, Event, NonRetriableError
from onward.transport.http import clients
from onward_server import Orchestrator, Settings
from tests.support.harness import QUICK, clean_environment
from tests.support.loops import LoopThread

PATH = "/api/inngest"


@dataclass
class Service:
    """The app `shop`, its orchestrator, and the requests that reached the orchestrator's API."""

    app: App
    orchestrator: Orchestrator
    loops: LoopThread
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    lose_answers: int = 0
    gate: threading.Event = field(default_factory=threading.Event)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of that name that were taken in."""
        runs = self.app.settings.api_url
        import httpx

        with httpx.Client(trust_env=False, base_url=runs) as client:
            found = client.get("/v1/events?limit=1000").json()["data"]
        return [event for event in found if event["name"] == name]


def _functions(app: App, service: Service) -> None:
    @app.function("double", trigger=Event("shop/double"))
    async def double(ctx: Context) -> dict[str, Any]:
        return {"order": await ctx.step.run("twice", lambda: 2 * int(ctx.event.data["order"]))}

    @app.function("nothing", trigger=Event("shop/nothing"))
    async def nothing(ctx: Context) -> None:
        del ctx

    @app.function("empty", trigger=Event("shop/empty"))
    async def empty(ctx: Context) -> str:
        del ctx
        return ""

    @app.function("fails", trigger=Event("shop/fails"), retries=0)
    async def fails(ctx: Context) -> None:
        del ctx
        raise NonRetriableError("no stock")

    @app.function("sleeps", trigger=Event("shop/sleeps"))
    async def sleeps(ctx: Context) -> None:
        await ctx.step.sleep("long", "1h")

    @app.function("waits", trigger=Event("shop/waits"))
    async def waits(ctx: Context) -> str:
        await ctx.step.run("gate", service.gate.wait)
        return "through"


@pytest.fixture(scope="module")
def _served() -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch, LoopThread("clients") as loops:
        clean_environment(patch)
        orchestrator = Orchestrator(settings=Settings(**QUICK))
        loops.run(orchestrator.start())
        app = App("shop", dev=True)
        service = Service(app, orchestrator, loops)
        app.orchestrator = loops.serve(_recorded(service))
        _functions(app, service)
        url = loops.serve(onward.asgi.serve(app, path=PATH)) + PATH
        loops.run(orchestrator.register(app.registration(url)))
        yield service
        service.gate.set()
        loops.run(orchestrator.stop())
        app.channel.close()
        clients.close()


@pytest.fixture
def service(_served: Service) -> Service:
    _served.requests.clear()
    _served.lose_answers = 0
    _served.gate.clear()
    return _served


def _recorded(service: Service) -> Any:
    """The orchestrator's API; what comes in is written down, and answers may get lost."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        fields = {key.decode(): value.decode() for key, value in scope["headers"]}
        service.requests.append((scope["method"], scope["path"], fields))
        if not service.lose_answers or not scope["path"].startswith("/e/"):
            await service.orchestrator.asgi(scope, receive, send)
            return
        service.lose_answers -= 1

        async def lost(_message: Any) -> None:
            return

        await service.orchestrator.asgi(scope, receive, lost)
        await send({"type": "http.response.start", "status": 502, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return asgi
