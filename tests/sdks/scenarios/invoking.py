"""Functions that call functions."""

from __future__ import annotations

from tests.sdks.catalogue import scenario
from tests.sdks.suite import App


@scenario()
async def invoke_own(app: App) -> None:
    run = await app.run("invoke-own", {"n": 31})
    assert run.result == [62, "after"]
    assert run.traces == {"after": 1}
    assert app.told("doubled").count(62) == 1


@scenario()
async def invoke_twice(app: App) -> None:
    run = await app.run("invoke-twice")
    assert run.result == 4


@scenario()
async def invoke_other_app(app: App) -> None:
    apps = list(app.suite.apps)
    other = apps[(apps.index(app.id) + 1) % len(apps)]
    run = await app.run("invoke-other-app", {"app": other})
    assert run.result == 42
    assert app.suite.apps[other].told("doubled").count(42) == 1


@scenario()
async def invoke_napping(app: App) -> None:
    run = await app.run("invoke-napping")
    assert run.result == "rested 1"
    (child,) = await app.runs_of("napping-child", 1)
    assert child.traces == {"rested": 1}


@scenario()
async def invoke_parallel(app: App) -> None:
    run = await app.run("invoke-parallel")
    assert run.result == [2, 4, "ran"]
    assert run.traces == {"ran": 1}


@scenario()
async def invoke_nested(app: App) -> None:
    run = await app.run("invoke-nested")
    assert run.result == [8, "after"]


@scenario()
async def invoke_failing(app: App) -> None:
    run = await app.run("invoke-failing")
    assert run.result == ["bad failed", "after"]
    assert run.traces == {"after": 1}
    children = [await app.ended(run_id) for run_id in app.suite.begun[f"{app.id}-failing-child"]]
    assert children
    assert all(child.traces == {"bad": 2} for child in children)


@scenario()
async def invoke_failing_uncaught(app: App) -> None:
    run = await app.run("invoke-failing-uncaught")
    assert "bad failed" in run.error["message"]


@scenario()
async def invoke_timeout(app: App) -> None:
    run = await app.run("invoke-timeout")
    assert run.result == ["timed out", "after"]
    assert run.traces == {"after": 1}


@scenario()
async def invoke_unknown(app: App) -> None:
    run = await app.run("invoke-unknown")
    assert run.result == ["refused", "after"]
    assert run.traces == {"after": 1}
