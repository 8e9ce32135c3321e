"""A function that runs every minute, in both SDKs, on a clock that is about to strike one."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from onward_server.clock import WallClock
from tests.sdks.node import FOLDER, node_with_sdk
from tests.sdks.suite import Sdk, running

MINUTE_MS = 60_000
#: What is left of the minute when the orchestrator starts: enough to register in, mostly.
LEFT_MS = 5000


class LateClock(WallClock):
    """The machine's clock, ahead by what brings it close to the next full minute."""

    def __init__(self) -> None:
        now = time.time_ns() // 1_000_000
        self._ahead = -(now + LEFT_MS) % MINUTE_MS

    def now_ms(self) -> int:
        """The time now."""
        return super().now_ms() + self._ahead


async def ticks(sdk: Sdk, folder: Path) -> None:
    clock = LateClock()
    async with running(sdk, folder, clock=clock) as suite:
        app = suite.apps[sdk.apps[0]["id"]]
        (run,) = await app.runs_of("every-minute", 1)
        assert run.result == "ticked"
        assert run.traces == {"cron": run.traces["cron"], "ticked": 1}
        assert set(app.told("cron")) == {"* * * * *"}
        assert run.view.started_ms % MINUTE_MS < MINUTE_MS / 2
        assert suite.begun == {f"{app.id}-every-minute": [run.view.run_id]}


@pytest.mark.slow
async def test_typescript(tmp_path: Path) -> None:
    node = await asyncio.to_thread(node_with_sdk)
    await ticks(
        Sdk("typescript", (node, str(FOLDER / "serve.mjs")), ({"id": "ts-cron"},)), tmp_path
    )


@pytest.mark.slow
async def test_python(tmp_path: Path) -> None:
    app: dict[str, Any] = {"id": "py-cron", "blocking": False, "framework": "fastapi"}
    await ticks(Sdk("python", (sys.executable, "-m", "tests.sdks.python.serve"), (app,)), tmp_path)
