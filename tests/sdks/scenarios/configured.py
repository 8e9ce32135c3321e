"""Triggers, and how runs are kept apart."""

from __future__ import annotations

from tests.sdks.catalogue import scenario
from tests.sdks.suite import App


@scenario()
async def trigger_if(app: App) -> None:
    started = []
    for n, kind in ((5, "a"), (50, "c"), (11, "b"), (12, "a")):
        id_ = await app.send("trigger-if", {"n": n, "kind": kind})
        started += await app.orchestrator.runs_of(id_)
    results = [await app.ended(run_id) for run_id in started]
    assert [run.result for run in results] == [11, 12]
    assert all(run.traces == {"used": 1} for run in results)


@scenario()
async def several_triggers(app: App) -> None:
    started = []
    for name, n in (("first", 1), ("second", 1), ("second", 2), ("third", 1)):
        started += await app.orchestrator.runs_of(await app.send(name, {"n": n}))
    results = [await app.ended(run_id) for run_id in started]
    assert [run.result for run in results] == ["first", "second"]
    assert [dict(run.traces) for run in results] == [{"used-first": 1}, {"used-second": 1}]


@scenario()
async def wildcard(app: App) -> None:
    run = await app.ended(await app.started_by(await app.send("wild.one", {"n": 1})))
    assert run.result == 1
    assert run.traces == {"used": 1}
    assert await app.orchestrator.runs_of(await app.send("wilder", {"n": 2})) == []


@scenario()
async def idempotent(app: App) -> None:
    started = []
    for key, n in (("a", 1), ("a", 2), ("b", 3)):
        started += await app.orchestrator.runs_of(
            await app.send("idempotent", {"key": key, "n": n})
        )
    results = [await app.ended(run_id) for run_id in started]
    assert [run.result for run in results] == [1, 3]
    assert all(run.traces == {"used": 1} for run in results)


@scenario()
async def batched(app: App) -> None:
    """Whether they come in one run or in several: each event is used exactly once."""
    for n in (1, 2, 3):
        await app.send("batched", {"n": n})

    def used() -> list[int]:
        begun = app.suite.begun.get(f"{app.id}-batched", ())
        return sorted(n for id_ in begun for batch in app.told("used", id_) for n in batch)

    await app.until(lambda: len(used()) >= 3, lambda: f"only {used()}")
    for run_id in app.suite.begun[f"{app.id}-batched"]:
        await app.ended(run_id)
    assert used() == [1, 2, 3]


@scenario()
async def flow_controlled(app: App) -> None:
    run = await app.run("flow-controlled", {"n": 5})
    assert run.result == 5
    assert run.traces == {"used": 1}


@scenario()
async def rate_limited(app: App) -> None:
    run = await app.run("rate-limited", {"n": 5})
    assert run.result == 5
    assert run.traces == {"used": 1}


@scenario()
async def debounced(app: App) -> None:
    await app.send("debounced", {"n": 5})
    (run,) = await app.runs_of("debounced", 1)
    assert run.result == 5
    assert run.traces == {"used": 1}


@scenario()
async def single(app: App) -> None:
    run = await app.run("single", {"n": 5})
    assert run.result == 5
    assert run.traces == {"used": 1}


@scenario()
async def finish_timeout(app: App) -> None:
    run = await app.run("finish-timeout")
    assert run.view.status == "Cancelled"
    assert run.traces == {"before": 1}
    assert run.lasted_s >= 0.9
