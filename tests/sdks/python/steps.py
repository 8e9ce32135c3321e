"""One step after the other."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from functools import partial
from typing import Any

from tests.sdks.python.definitions import Tools, define

_MS = dt.timedelta(milliseconds=1)


def _soon(ms: int) -> str:
    return (dt.datetime.now(dt.UTC) + ms * _MS).isoformat()


async def _pause(tools: Tools, seconds: float) -> None:
    if tools.blocking:
        time.sleep(seconds)  # noqa: ASYNC251 - in a blocking function
    else:
        await asyncio.sleep(seconds)


@define("sequential")
async def sequential(tools: Tools) -> Any:
    one = await tools.step.run("one", tools.did("one", tools.data["n"] + 1))
    two = await tools.step.run("two", tools.did("two", one * 10))
    return await tools.step.run("three", tools.did("three", {"one": one, "two": two}))


@define("no-steps")
async def no_steps(tools: Tools) -> Any:
    tools.tell("body")
    return f"hello {tools.data['who']}"


@define("context")
async def context(tools: Tools) -> Any:
    event = tools.event
    value = {"name": event.name, "data": event.data}
    seen = await tools.step.run("seen", tools.body(lambda: value))
    return {
        "seen": seen,
        "events": len(tools.events),
        "hasRun": len(tools.context.run_id) == 26,
        "attempt": tools.context.attempt,
        "id": event.id,
    }


@define("many-steps")
async def many_steps(tools: Tools) -> Any:
    total = 0
    for n in range(tools.data["steps"]):
        total += await tools.step.run(f"step-{n}", tools.body(partial(_counted, tools, n)))
    return total


def _counted(tools: Tools, n: int) -> int:
    tools.tell("step")
    return n


@define("repeated-ids")
async def repeated_ids(tools: Tools) -> Any:
    return [await tools.step.run("same", tools.did(f"same-{n}", n)) for n in range(5)]


@define("looks-repeated")
async def looks_repeated(tools: Tools) -> Any:
    results = [await tools.step.run("same", tools.did(f"same-{n}", n)) for n in (0, 1)]
    return [*results, await tools.step.run("same:1", tools.did("own"))]


@define("values")
async def values(tools: Tools) -> Any:
    given: dict[str, Any] = {
        "null": None,
        "false": False,
        "zero": 0,
        "empty": "",
        "list": [],
        "object": {},
        "float": 0.1,
        "large": 9007199254740991,
        "negative": -1,
        "nested": {"a": [{"b": [None, [1, [2]]]}]},
        "unicode": 'grüße, 世界 🌍 \0\u2028 "\\',
        "keys": {"a.b": 1, "$x": 2, "": 3, "öä": 4, "data": 5, "error": 6},
    }
    results = {
        name: await tools.step.run(f"value-{name}", tools.did(name, value))
        for name, value in given.items()
    }
    await tools.step.sleep("replayed", 10 * _MS)
    return results


@define("unicode-ids")
async def unicode_ids(tools: Tools) -> Any:
    one = await tools.step.run("schritt größe 🌍", tools.did("one"))
    two = await tools.step.run('a/b?c=d&e\0"', tools.did("two"))
    return [one, two]


@define("returns-nothing")
async def returns_nothing(tools: Tools) -> Any:
    value = await tools.step.run("nothing", tools.did("nothing", None))
    return await tools.step.run("seen", tools.did("seen", value))


@define("returns-null")
async def returns_null(tools: Tools) -> None:
    await tools.step.run("one", tools.did("one"))


@define("large-result")
async def large_result(tools: Tools) -> Any:
    def body() -> str:
        tools.tell("large")
        return "x" * int(tools.data["size"])

    text = await tools.step.run("large", tools.body(body))
    await tools.step.sleep("replayed", 10 * _MS)
    return {"size": len(text)}


@define("large-journal")
async def large_journal(tools: Tools) -> Any:
    def body(n: int) -> str:
        tools.tell(f"part-{n}")
        return "é" * int(tools.data["size"])

    size = 0
    for n in range(tools.data["steps"]):
        size += len(await tools.step.run(f"part-{n}", tools.body(partial(body, n))))
    await tools.step.sleep("replayed", 10 * _MS)
    return {"size": size, "last": await tools.step.run("last", tools.did("last", "end"))}


@define("sleep")
async def sleep(tools: Tools) -> Any:
    before = await tools.step.run("before", tools.did("before"))
    await tools.step.sleep("nap", 300 * _MS)
    return [before, await tools.step.run("after", tools.did("after"))]


@define("sleep-until")
async def sleep_until(tools: Tools) -> Any:
    at = await tools.step.run("at", tools.body(lambda: _soon(300)))
    await tools.step.sleep_until("then", dt.datetime.fromisoformat(at))
    return await tools.step.run("after", tools.did("after"))


@define("sleep-until-past")
async def sleep_until_past(tools: Tools) -> Any:
    then = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    await tools.step.sleep_until("then", then)
    return await tools.step.run("after", tools.did("after"))


@define("sleeps-and-steps")
async def sleeps_and_steps(tools: Tools) -> Any:
    results = []
    for n in range(4):
        results.append(await tools.step.run(f"run-{n}", tools.did(f"run-{n}", n)))
        await tools.step.sleep(f"nap-{n}", 20 * _MS)
    return results


@define("last-is-sleep")
async def last_is_sleep(tools: Tools) -> None:
    await tools.step.run("one", tools.did("one"))
    await tools.step.sleep("nap", 20 * _MS)


@define("outside-of-steps")
async def outside_of_steps(tools: Tools) -> Any:
    one = await tools.step.run("one", tools.did("one", 1))
    await _pause(tools, 0.02)
    two = await tools.step.run("two", tools.did("two", 2))
    await _pause(tools, 0.02)
    return one + two
