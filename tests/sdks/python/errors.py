"""Steps and functions that fail."""

from __future__ import annotations

import datetime as dt
import math
from functools import partial
from typing import Any

import inngest

from tests.sdks.python.definitions import BoomError, Tools, define

ALWAYS = math.inf
_MS = dt.timedelta(milliseconds=1)


@define("step-retried", retries=3)
async def step_retried(tools: Tools) -> Any:
    before = await tools.step.run("before", tools.did("before"))
    shaken = await tools.step.run("shaky", tools.shaky("shaky", 2))
    return [before, shaken, await tools.step.run("after", tools.did("after"))]


@define("step-fails", retries=2)
async def step_fails(tools: Tools) -> None:
    await tools.step.run("before", tools.did("before"))
    await tools.step.run("bad", tools.shaky("bad", ALWAYS))
    await tools.step.run("never", tools.did("never"))


@define("no-retries", retries=0)
async def no_retries(tools: Tools) -> None:
    await tools.step.run("bad", tools.shaky("bad", ALWAYS))


@define("step-caught", retries=1)
async def step_caught(tools: Tools) -> Any:
    caught = ""
    try:
        await tools.step.run("bad", tools.shaky("bad", ALWAYS))
    except inngest.StepError as error:
        caught = error.message
    undone = await tools.step.run("undo", tools.did("undo"))
    return {"caught": caught, "undone": undone}


@define("caught-and-failed-again", retries=1)
async def caught_and_failed_again(tools: Tools) -> None:
    try:
        await tools.step.run("bad", tools.shaky("bad", ALWAYS))
    except inngest.StepError:
        await tools.step.run("worse", tools.shaky("worse", ALWAYS))


@define("step-non-retriable")
async def step_non_retriable(tools: Tools) -> None:
    error = inngest.NonRetriableError("no use")
    await tools.step.run("bad", tools.shaky("bad", ALWAYS, error))


@define("retry-after")
async def retry_after(tools: Tools) -> Any:
    error = inngest.RetryAfterError("later", 1000 * _MS)
    return await tools.step.run("later", tools.shaky("later", 1, error))


@define("function-retried", retries=3)
async def function_retried(tools: Tools) -> Any:
    tools.tell("function")
    one = await tools.step.run("one", tools.did("one"))
    tools.fail("between", 2)
    return [one, await tools.step.run("two", tools.did("two"))]


@define("function-fails", retries=1)
async def function_fails(tools: Tools) -> None:
    await tools.step.run("one", tools.did("one"))
    tools.fail("between", ALWAYS)


@define("function-non-retriable")
async def function_non_retriable(tools: Tools) -> None:
    tools.tell("function")
    raise inngest.NonRetriableError("never again")


@define("function-retry-after")
async def function_retry_after(tools: Tools) -> Any:
    return tools.fail("function", 1, inngest.RetryAfterError("in a second", 1000 * _MS))


@define("fails-after-parallel", retries=1)
async def fails_after_parallel(tools: Tools) -> Any:
    both = await tools.parallel(
        *(partial(tools.step.run, name, tools.did(name)) for name in ("a", "b"))
    )
    return [*both, await tools.step.run("shaky", tools.shaky("shaky", 1))]


@define("fails-after-sleep", retries=1)
async def fails_after_sleep(tools: Tools) -> Any:
    await tools.step.run("before", tools.did("before"))
    await tools.step.sleep("nap", 20 * _MS)
    return await tools.step.run("shaky", tools.shaky("shaky", 1))


@define("each-step-retried", retries=1)
async def each_step_retried(tools: Tools) -> Any:
    return [await tools.step.run(name, tools.shaky(name, 1)) for name in "abc"]


async def _handle_failure(tools: Tools) -> Any:
    data: Any = tools.event.data
    message = await tools.step.run("told", tools.did("told", data["error"]["message"]))
    tools.tell(
        "failure", {"message": message, "data": data["event"]["data"], "run": data["run_id"]}
    )
    return message


@define("on-failure", retries=0, on_failure=_handle_failure)
async def on_failure(tools: Tools) -> None:
    await tools.step.run("bad", tools.shaky("bad", ALWAYS))


@define("on-failure-unused", retries=0, on_failure=_handle_failure)
async def on_failure_unused(tools: Tools) -> Any:
    return await tools.step.run("one", tools.did("one"))


@define("error-kinds", retries=0)
async def error_kinds(tools: Tools) -> Any:
    def named() -> None:
        tools.tell("named")
        raise BoomError("größe 🌍")

    def cause() -> None:
        tools.tell("cause")
        raise RuntimeError("outer") from ValueError("inner")

    seen = {}
    for name, body in {"named": named, "cause": cause}.items():
        try:
            await tools.step.run(name, tools.body(body))
        except inngest.StepError as error:
            seen[name] = error.message
    return seen
