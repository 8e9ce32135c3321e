"""Everything that goes over the wire in a world, as text."""

from __future__ import annotations

import json
from typing import Any

from tests.support.harness import Run, World


class Tap:
    """Notes the bodies of what the runtime sends to the orchestrator's API."""

    def __init__(self, world: World) -> None:
        self.bodies: list[bytes] = []
        self._api = world.api
        world.api = self  # type: ignore[method-assign]  # the platform asks for it

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        parts: list[bytes] = []

        async def tapped() -> Any:
            message = await receive()
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                self.bodies.append(b"".join(parts))
            return message

        await self._api(scope, tapped, send)

    def text(self, run: Run) -> str:
        """What was sent and answered, and what the runtime was sent."""
        asked = [json.dumps(invocation.request) for invocation in run.invocations]
        answered = [invocation.answer.body.decode() for invocation in run.invocations]
        return "\n".join([*asked, *answered, *(body.decode() for body in self.bodies)])
