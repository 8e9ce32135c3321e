"""Triggers, and how runs are kept apart."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Any

import inngest

from tests.sdks.python.definitions import Tools, define

_HOUR, _SECOND = dt.timedelta(hours=1), dt.timedelta(seconds=1)


async def _used(tools: Tools) -> Any:
    return await tools.step.run("used", tools.did("used", tools.data["n"]))


def _triggered(*events: tuple[str, str | None]) -> Any:
    return lambda app: {
        "trigger": [
            inngest.TriggerEvent(event=f"{app}/{event}", expression=expression)
            for event, expression in events
        ]
    }


define(
    "trigger-if",
    _triggered(("trigger-if", "event.data.n > 10 && event.data.kind in ['a', 'b']")),
)(_used)


@define("several-triggers", _triggered(("first", None), ("second", "event.data.n == 2")))
async def several_triggers(tools: Tools) -> Any:
    name = tools.event.name.split("/")[1]
    return await tools.step.run("used", tools.did(f"used-{name}", name))


define("wildcard", _triggered(("wild.*", None)))(_used)
define("idempotent", idempotency="event.data.key")(_used)


@define("batched", batch_events=inngest.Batch(max_size=3, timeout=60 * _SECOND))
async def batched(tools: Tools) -> Any:
    numbers = [event.data["n"] for event in tools.events]
    return await tools.step.run("used", tools.did("used", numbers))


define(
    "flow-controlled",
    name="A function with everything",
    concurrency=[
        inngest.Concurrency(limit=5, key="event.data.n", scope="fn"),
        inngest.Concurrency(limit=20),
    ],
    throttle=inngest.Throttle(limit=100, period=_SECOND, burst=10, key="event.data.n"),
    priority=inngest.Priority(run="event.data.n > 1 ? 100 : 0"),
    timeouts=inngest.Timeouts(start=_HOUR, finish=_HOUR),
)(_used)
define("rate-limited", rate_limit=inngest.RateLimit(limit=1, period=_HOUR, key="event.data.key"))(
    _used
)
define(
    "debounced",
    debounce=inngest.Debounce(period=4 * _SECOND, key="event.data.key", timeout=60 * _SECOND),
)(_used)


async def _patient(tools: Tools) -> Any:
    name = f"{tools.app.id}/wake.{tools.data['for']}"
    woken = await tools.step.wait_for_event("wait", event=name, timeout=_HOUR)
    return [tools.data["n"], woken.data["value"]]


define("single-skips", singleton=inngest.Singleton(mode="skip", key="event.data.for"))(_patient)
define("single-cancels", singleton=inngest.Singleton(mode="cancel", key="event.data.for"))(_patient)


@define("one-at-a-time", concurrency=[inngest.Concurrency(limit=1)])
async def one_at_a_time(tools: Tools) -> None:
    def blocking() -> None:
        tools.tell("enter")
        time.sleep(0.03)
        tools.tell("leave")

    async def body() -> None:
        tools.tell("enter")
        await asyncio.sleep(0.03)
        tools.tell("leave")

    await tools.step.run("alone", blocking if tools.blocking else body)


@define("finish-timeout", timeouts=inngest.Timeouts(finish=5 * _SECOND))
async def finish_timeout(tools: Tools) -> None:
    await tools.step.run("before", tools.did("before"))
    await tools.step.sleep("long", _HOUR)
    await tools.step.run("never", tools.did("never"))


@define("every-minute", trigger=inngest.TriggerCron(cron="* * * * *"))
async def every_minute(tools: Tools) -> Any:
    tools.tell("cron", tools.event.data.get("cron"))
    return await tools.step.run("ticked", tools.did("ticked"))
