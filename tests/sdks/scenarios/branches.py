"""Several steps at once."""

from __future__ import annotations

from tests.sdks.catalogue import scenario
from tests.sdks.suite import App


@scenario()
async def parallel(app: App) -> None:
    run = await app.run("parallel")
    assert run.result == "abc"
    assert run.traces == {"a": 1, "b": 1, "c": 1, "joined": 1}


@scenario()
async def parallel_20(app: App) -> None:
    run = await app.run("parallel-20")
    assert run.result == list(range(20))
    assert run.traces == {f"branch-{n}": 1 for n in range(20)}


@scenario("typescript")
async def parallel_chains(app: App) -> None:
    run = await app.run("parallel-chains")
    assert run.result == ["x!", "y!", "z!"]
    assert run.traces == {f"{name}-{n}": 1 for name in "xyz" for n in (1, 2)}


@scenario("typescript")
async def parallel_nested(app: App) -> None:
    run = await app.run("parallel-nested")
    assert run.result == {"left": [1, 2], "right": 3, "alone": "alone"}
    labels = ["left-1", "left-2", "right-1", "right-2", "right-sum", "alone"]
    assert run.traces == dict.fromkeys(labels, 1)


@scenario()
async def parallel_twice(app: App) -> None:
    run = await app.run("parallel-twice")
    assert run.result == ["a", "b", "middle", "c", "d"]
    assert run.traces == dict.fromkeys(["a", "b", "middle", "c", "d"], 1)


@scenario()
async def parallel_same_id(app: App) -> None:
    run = await app.run("parallel-same-id")
    assert run.result == [0, 1, 2]
    assert run.traces == {"same-0": 1, "same-1": 1, "same-2": 1}


@scenario("typescript")
async def parallel_sleep_and_run(app: App) -> None:
    run = await app.run("parallel-sleep-and-run")
    assert run.result == ["next", "after"]
    assert run.traces == {"quick": 1, "next": 1, "after": 1}
    assert run.lasted_s >= 0.2


@scenario("typescript")
async def parallel_sleeps(app: App) -> None:
    run = await app.run("parallel-sleeps")
    assert run.result == ["long", "short", "none"]
    assert run.traces == {"long": 1, "short": 1, "none": 1}


@scenario("python")
async def parallel_sleep_beside_runs(app: App) -> None:
    run = await app.run("parallel-sleep-beside-runs")
    assert run.result == [None, "one", "two", "after"]
    assert run.traces == {"one": 1, "two": 1, "after": 1}
    assert run.lasted_s >= 0.2


@scenario()
async def parallel_wait_and_run(app: App) -> None:
    run_id = await app.start("parallel-wait-and-run", {"key": "k1"})
    await app.waits(run_id, "WaitForEvent")
    await app.send("wake.parallel", {"key": "other", "value": 1})
    await app.send("wake.parallel", {"key": "k1", "value": 2})
    run = await app.ended(run_id)
    assert run.result == {"woken": 2, "ran": "ran", "key": "k1"}
    assert run.traces == {"ran": 1}


@scenario("typescript")
async def parallel_mixture(app: App) -> None:
    run_id = await app.start("parallel-mixture", {"key": "k2"})
    await app.waits(run_id, "WaitForEvent")
    await app.send("wake.mixture", {"key": "k2", "value": 7})
    run = await app.ended(run_id)
    assert run.result == {"woken": 7, "slept": "slept", "ran": [0, 1, 2], "end": "end"}
    labels = ["woken", "before", "slept", "run-0", "run-1", "run-2", "end"]
    assert run.traces == dict.fromkeys(labels, 1)


@scenario("typescript")
async def race(app: App) -> None:
    """This SDK lets a run end only when its losers have: here, by an event."""
    run_id = await app.start("race")
    await app.until(lambda: app.told("after", run_id) == ["quick won"], lambda: run_id)
    await app.waits(run_id, "WaitForEvent")
    await app.send("wake.loser")
    run = await app.ended(run_id)
    assert run.result == "quick won"
    assert run.traces == {"quick": 1, "after": 1}


@scenario("python")
async def parallel_race_mode(app: App) -> None:
    run = await app.run("parallel-race-mode")
    assert run.result == ["a", "b", "after"]
    assert run.traces == {"a": 1, "b": 1, "after": 1}


@scenario("typescript")
async def parallel_settled(app: App) -> None:
    run = await app.run("parallel-settled")
    assert run.result == ["good", "bad branch"]
    assert run.traces == {"good": 1, "bad": 2, "after": 1}


@scenario()
async def parallel_retried(app: App) -> None:
    run = await app.run("parallel-retried")
    assert run.result == ["steady", "shaky"]
    assert run.traces == {"steady": 1, "shaky": 2}


@scenario("typescript")
async def dynamic_branches(app: App) -> None:
    run = await app.run("dynamic-branches")
    assert run.result == ["p", "qq", "rrr"]
    assert run.traces == {"list": 1, "use-p": 1, "use-q": 1, "use-r": 1}
