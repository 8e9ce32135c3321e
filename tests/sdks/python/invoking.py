"""Functions that call functions."""

from __future__ import annotations

import datetime as dt
import math
from functools import partial
from typing import Any

import inngest

from tests.sdks.python.definitions import Tools, define

_MS = dt.timedelta(milliseconds=1)


async def _call(tools: Tools, id_: str, function: str, **data: Any) -> Any:
    return await tools.step.invoke(id_, function=tools.app.functions[function], data=data)


@define("double")
async def double(tools: Tools) -> Any:
    return await tools.step.run("doubled", tools.did("doubled", tools.data["n"] * 2))


@define("napping-child")
async def napping_child(tools: Tools) -> Any:
    await tools.step.sleep("nap", 50 * _MS)
    return await tools.step.run("rested", tools.did("rested", f"rested {tools.data['n']}"))


@define("failing-child", retries=1)
async def failing_child(tools: Tools) -> None:
    await tools.step.run("bad", tools.shaky("bad", math.inf))


@define("invoke-own")
async def invoke_own(tools: Tools) -> Any:
    doubled = await _call(tools, "call", "double", n=tools.data["n"])
    return [doubled, await tools.step.run("after", tools.did("after"))]


@define("invoke-twice")
async def invoke_twice(tools: Tools) -> Any:
    first = await _call(tools, "call", "double", n=1)
    return await _call(tools, "call", "double", n=first)


@define("invoke-other-app")
async def invoke_other_app(tools: Tools) -> Any:
    return await tools.step.invoke_by_id(
        "call", app_id=tools.data["app"], function_id="double", data={"n": 21}
    )


@define("invoke-napping")
async def invoke_napping(tools: Tools) -> Any:
    return await _call(tools, "call", "napping-child", n=1)


@define("invoke-parallel")
async def invoke_parallel(tools: Tools) -> Any:
    return await tools.parallel(
        partial(_call, tools, "one", "double", n=1),
        partial(_call, tools, "two", "double", n=2),
        partial(tools.step.run, "ran", tools.did("ran")),
    )


@define("invoke-nested")
async def invoke_nested(tools: Tools) -> Any:
    return await _call(tools, "call", "invoke-own", n=4)


@define("invoke-failing")
async def invoke_failing(tools: Tools) -> Any:
    caught = ""
    try:
        await _call(tools, "call", "failing-child")
    except inngest.StepError as error:
        caught = error.message
    return [caught, await tools.step.run("after", tools.did("after"))]


@define("invoke-failing-uncaught")
async def invoke_failing_uncaught(tools: Tools) -> None:
    await _call(tools, "call", "failing-child")


@define("invoke-timeout")
async def invoke_timeout(tools: Tools) -> Any:
    caught = "no error"
    try:
        await tools.step.invoke(
            "call", function=tools.app.functions["cancelled"], timeout=1000 * _MS
        )
    except inngest.StepError:
        caught = "timed out"
    return [caught, await tools.step.run("after", tools.did("after"))]


@define("invoke-unknown")
async def invoke_unknown(tools: Tools) -> Any:
    caught = "no error"
    try:
        await tools.step.invoke_by_id("call", function_id="nobody")
    except inngest.StepError:
        caught = "refused"
    return [caught, await tools.step.run("after", tools.did("after"))]
