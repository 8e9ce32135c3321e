"""An event that comes while the wait for it is being written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from onward_server import Answer
from onward_server.model import PutPending, Write
from tests.server.conftest import Start
from tests.server.driving import begin
from tests.server.fakes import HANGS_AFTER_S, Call, Function, complete, report, wait_op


async def test_an_event_during_the_commit_of_its_wait_ends_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchestrator = await start()
    writing, written = asyncio.Event(), asyncio.Event()
    commit = orchestrator.store.commit

    async def slow_commit(writes: Sequence[Write]) -> None:
        if any(isinstance(write, PutPending) for write in writes):
            writing.set()
            await written.wait()
        await commit(writes)

    monkeypatch.setattr(orchestrator.store, "commit", slow_commit)

    async def answer(call: Call) -> Answer:
        return complete("woken") if call.request["steps"] else report(wait_op("w", "app/e", "1h"))

    run_id = await begin(orchestrator, Function(answer))
    await writing.wait()
    sent = asyncio.create_task(orchestrator.send([{"name": "app/e", "data": {}}]))
    await asyncio.sleep(0)
    written.set()
    await sent
    async with asyncio.timeout(HANGS_AFTER_S):
        view = await orchestrator.result(run_id)
    assert view.result == "woken"
