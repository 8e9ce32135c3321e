"""The process ends right before, or right after, each commit: nothing is lost or starts twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from onward_server import Answer, Orchestrator, queries
from onward_server.store import Store
from tests.server.conftest import Start
from tests.server.fakes import (
    Call,
    Function,
    complete,
    failure,
    invoke_op,
    registration,
    report,
    run_op,
    step_id,
)

#: More than any of these programs makes: the last ones end undisturbed.
MOST = 40


class Ending:
    """Ends the process, as far as the database can tell, at the `at`-th commit."""

    def __init__(self, store: Store, at: int, *, written: bool) -> None:
        self._commit = store.commit
        self._left = at
        self._written = written
        self.reached = asyncio.Event()

    async def commit(self, writes: Any) -> None:
        if not writes:
            return
        self._left -= 1
        if self._left > 0:
            await self._commit(writes)
            return
        if self._left == 0 and self._written:
            await self._commit(writes)
        self.reached.set()
        await asyncio.get_running_loop().create_future()


async def parent(call: Call) -> Answer:
    if not call.has("child"):
        return report(invoke_op("child", "other-g", {"n": 7}))
    if not call.has("last"):
        return report(run_op("last", "done"))
    return complete(call.steps[step_id("child")])


async def child(call: Call) -> Answer:
    if call.function_id == "other-handler":
        return complete(call.request["event"]["data"]["run_id"])
    if not call.has("work"):
        return report(run_op("work"))
    if call.request["event"]["data"]["n"] == 7:
        return failure("seven", x_inngest_no_retry="true")
    return complete("fine")


HANDLER = {
    "id": "handler",
    "triggers": [
        {"event": "inngest/function.failed", "expression": "event.data.function_id == 'other-g'"}
    ],
}


async def register(orchestrator: Orchestrator) -> None:
    await orchestrator.register(registration("g", HANDLER, app="other"), Function(child))
    await orchestrator.register(registration("f"), Function(parent))


async def counted(orchestrator: Orchestrator) -> Counter[str]:
    while orchestrator._runs.all() or orchestrator._follow_ups:
        await asyncio.gather(*orchestrator._follow_ups)
        for state in orchestrator._runs.all():
            await orchestrator.result(state.run_id)
    rows = await orchestrator.store.read(lambda c: queries.list_runs(c, 100, None, None))
    return Counter(row.function_id for row in rows)


@pytest.mark.parametrize("written", [False, True], ids=["before it is written", "after"])
async def test_an_invocation_and_its_failure_survive(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, written: bool
) -> None:
    for at in range(1, MOST):
        db = tmp_path / f"{at}.db"
        first = await start(db)
        await register(first)
        ending = Ending(first.store, at, written=written)
        run_id = await first.start_run("app-f", {})
        with monkeypatch.context() as patch:
            patch.setattr(first.store, "commit", ending.commit)
            over = asyncio.create_task(counted(first))
            reached = asyncio.create_task(ending.reached.wait())
            await asyncio.wait({over, reached}, return_when=asyncio.FIRST_COMPLETED)
            undisturbed = over.done()
            over.cancel()
            reached.cancel()
            await asyncio.gather(over, reached, return_exceptions=True)
            await first.stop()
        second = await start(db)
        await register(second)
        counts = await counted(second)
        view = await second.view(run_id)
        assert view.result["error"]["message"] == "seven", (at, view)
        assert counts == {"app-f": 1, "other-g": 1, "other-handler": 1}, at
        left = await second.store.read(queries.outgoing)
        assert left == [], at
        await second.stop()
        if undisturbed:
            assert at > 8, "there are as many commits as there should be"
            return
    raise AssertionError("it never ran undisturbed")
