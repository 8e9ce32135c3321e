from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from onward_server import Orchestrator, Settings
from tests.server.fakes import HANGS_AFTER_S

Start = Callable[..., Awaitable[Orchestrator]]

#: Retries come at once: no test waits for a delay that the state machine's own tests cover.
QUICK = Settings(retry_base_s=0.0, throttle_base_s=0.0, refused_delay_s=0.001)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts orchestrators that are stopped at the test's end."""
    async with AsyncExitStack() as stack:

        async def start(
            db: str | Path = ":memory:", settings: Settings = QUICK, **options: Any
        ) -> Orchestrator:
            orchestrator = Orchestrator(db, settings, **options)
            await orchestrator.start()
            stack.push_async_callback(orchestrator.stop)
            return orchestrator

        async with asyncio.timeout(HANGS_AFTER_S):
            yield start
