"""Several steps at once."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

import inngest

from tests.sdks.python.definitions import Tools, define

_MS = dt.timedelta(milliseconds=1)


def _run(tools: Tools, name: str) -> Any:
    return partial(tools.step.run, name, tools.did(name))


@define("parallel")
async def parallel(tools: Tools) -> Any:
    results = await tools.parallel(*(_run(tools, name) for name in "abc"))
    return await tools.step.run("joined", tools.did("joined", "".join(results)))


@define("parallel-20")
async def parallel_20(tools: Tools) -> Any:
    return await tools.parallel(
        *(partial(tools.step.run, f"branch-{n}", tools.did(f"branch-{n}", n)) for n in range(20))
    )


@define("parallel-twice")
async def parallel_twice(tools: Tools) -> Any:
    first = await tools.parallel(_run(tools, "a"), _run(tools, "b"))
    middle = await tools.step.run("middle", tools.did("middle"))
    second = await tools.parallel(_run(tools, "c"), _run(tools, "d"))
    return [*first, middle, *second]


@define("parallel-same-id")
async def parallel_same_id(tools: Tools) -> Any:
    return await tools.parallel(
        *(partial(tools.step.run, "same", tools.did(f"same-{n}", n)) for n in range(3))
    )


@define("parallel-sleep-beside-runs")
async def parallel_sleep_beside_runs(tools: Tools) -> Any:
    results = await tools.parallel(
        partial(tools.step.sleep, "nap", 250 * _MS), _run(tools, "one"), _run(tools, "two")
    )
    return [*results, await tools.step.run("after", tools.did("after"))]


@define("parallel-wait-and-run")
async def parallel_wait_and_run(tools: Tools) -> Any:
    woken, ran = await tools.parallel(
        partial(
            tools.step.wait_for_event,
            "wait",
            event=f"{tools.app.id}/wake.parallel",
            timeout=dt.timedelta(hours=1),
            if_exp="async.data.key == event.data.key",
        ),
        _run(tools, "ran"),
    )
    return {"woken": woken.data["value"], "ran": ran, "key": tools.data["key"]}


@define("parallel-race-mode")
async def parallel_race_mode(tools: Tools) -> Any:
    results = await tools.parallel(
        _run(tools, "a"), _run(tools, "b"), parallel_mode=inngest.ParallelMode.RACE
    )
    return [*results, await tools.step.run("after", tools.did("after"))]


@define("parallel-retried", retries=2)
async def parallel_retried(tools: Tools) -> Any:
    return await tools.parallel(
        _run(tools, "steady"), partial(tools.step.run, "shaky", tools.shaky("shaky", 1))
    )
