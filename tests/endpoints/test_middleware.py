"""Middleware around endpoints: their steps pass it, and their callers see no difference."""

from __future__ import annotations

import json
from typing import Any

from onward.middleware import EncryptionMiddleware
from tests.endpoints import shop
from tests.endpoints.conftest import Exchanged, Shop
from tests.middleware.recorder import Recorder


class Tap:
    """Notes what the orchestrator is sent."""

    def __init__(self, server: Exchanged) -> None:
        self.bodies: list[bytes] = []
        self._asgi = server.asgi
        server.asgi = self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def tapped() -> Any:
            message = await receive()
            self.bodies.append(message.get("body", b""))
            return message

        await self._asgi(scope, tapped, send)

    def results(self) -> list[Any]:
        """The results of steps in checkpoints."""
        told = [json.loads(body) for body in self.bodies if body.startswith(b"{")]
        ops = [op for body in told for op in body.get("steps", ())]
        return [op["data"] for op in ops if op["op"] == "StepRun"]


def test_steps_are_encrypted_and_callers_are_answered(
    the_shop: Shop, servers: tuple[Exchanged, Exchanged], driver: str
) -> None:
    tap = Tap(servers[1])
    the_shop.app.middleware = [EncryptionMiddleware("a key")]
    direct = the_shop.ask("GET", f"/{driver}/go")
    assert (direct.status_code, direct.json()) == (200, {"value": 2})
    later = the_shop.ask("GET", f"/{driver}/go?how=mixed")
    assert [earlier.status_code for earlier in later.history] == [302]
    assert (later.status_code, later.json()) == (200, {"value": 2})
    assert len(tap.results()) >= 3
    assert all(data["__ENCRYPTED__"] for data in tap.results())


def test_hooks_are_called_once_an_invocation(the_shop: Shop, driver: str) -> None:
    log: list[str] = []
    the_shop.app.middleware = [Recorder("a", log)]
    assert the_shop.ask("GET", f"/{driver}/go").json() == {"value": 2}
    once = ["transform_input", "after_memoization", "before_execution", "after_execution"]
    assert [log.count(f"a.{hook}") for hook in once] == [1, 1, 1, 1]
    assert log.count("a.before_response result") == 1
    assert shop.done["first"] == 1
