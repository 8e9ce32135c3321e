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
    for n in (1, 2, 3):
        await app.send("batched", {"n": n})
    (run,) = await app.runs_of("batched", 1)
    assert run.result == [1, 2, 3]
    assert app.told("used", run.view.run_id) == [[1, 2, 3]]


@scenario()
async def flow_controlled(app: App) -> None:
    run = await app.run("flow-controlled", {"n": 5})
    assert run.result == 5
    assert run.traces == {"used": 1}


@scenario()
async def rate_limited(app: App) -> None:
    started = []
    for key, n in (("a", 1), ("a", 2), ("b", 3)):
        id_ = await app.send("rate-limited", {"key": key, "n": n})
        started += await app.orchestrator.runs_of(id_)
    results = [await app.ended(run_id) for run_id in started]
    assert [run.result for run in results] == [1, 3]
    assert all(run.traces == {"used": 1} for run in results)


@scenario()
async def debounced(app: App) -> None:
    """The last of several events of one key starts the only run."""
    for n in (1, 2, 3):
        await app.send("debounced", {"key": "k", "n": n})
    (run,) = await app.runs_of("debounced", 1)
    assert run.result == 3
    assert run.traces == {"used": 1}


@scenario()
async def single_skips(app: App) -> None:
    first = await app.start("single-skips", {"for": "single", "n": 1})
    await app.waits(first, "WaitForEvent")
    skipped = await app.send("single-skips", {"for": "single", "n": 2})
    assert await app.orchestrator.runs_of(skipped) == []
    await app.send("wake.single", {"value": "woken"})
    assert (await app.ended(first)).result == [1, "woken"]


@scenario()
async def single_cancels(app: App) -> None:
    first = await app.start("single-cancels", {"for": "latest", "n": 1})
    await app.waits(first, "WaitForEvent")
    second = await app.start("single-cancels", {"for": "latest", "n": 2})
    assert (await app.ended(first)).view.status == "Cancelled"
    await app.waits(second, "WaitForEvent")
    await app.send("wake.latest", {"value": "woken"})
    assert (await app.ended(second)).result == [2, "woken"]


@scenario()
async def one_at_a_time(app: App) -> None:
    ids = [await app.start("one-at-a-time") for _ in range(3)]
    for run_id in ids:
        run = await app.ended(run_id)
        assert run.result is None
        assert run.traces == {"enter": 1, "leave": 1}
    lines = [line for line in app.suite.traces.lines() if line["run"] in ids]
    assert [line["label"] for line in lines] == ["enter", "leave"] * 3
    assert all(lines[n]["run"] == lines[n + 1]["run"] for n in (0, 2, 4))


@scenario()
async def finish_timeout(app: App) -> None:
    run = await app.run("finish-timeout")
    assert run.view.status == "Cancelled"
    assert run.traces == {"before": 1}
    assert run.lasted_s >= 4.9
