"""Events that are awaited, sent, and that cancel."""

from __future__ import annotations

import datetime as dt
from typing import Any

import inngest

from tests.sdks.python.definitions import Tools, define

_HOUR = dt.timedelta(hours=1)
_MS = dt.timedelta(milliseconds=1)


@define("wait")
async def wait(tools: Tools) -> Any:
    before = await tools.step.run("before", tools.did("before"))
    name = f"{tools.app.id}/wake.{tools.data['for']}"
    woken = await tools.step.wait_for_event("wait", event=name, timeout=_HOUR)
    after = await tools.step.run("after", tools.did("after"))
    return [before, woken.name, woken.data, after]


@define("wait-timeout")
async def wait_timeout(tools: Tools) -> Any:
    woken = await tools.step.wait_for_event(
        "wait", event=f"{tools.app.id}/wake.never", timeout=1000 * _MS
    )
    return [woken, await tools.step.run("after", tools.did("after"))]


@define("wait-if")
async def wait_if(tools: Tools) -> Any:
    woken = await tools.step.wait_for_event(
        "wait",
        event=f"{tools.app.id}/wake.if",
        timeout=_HOUR,
        if_exp="async.data.total > 100 && event.data.order == async.data.order",
    )
    return woken.data


@define("wait-twice")
async def wait_twice(tools: Tools) -> Any:
    results = []
    for n in (1, 2):
        woken = await tools.step.wait_for_event(
            f"wait-{n}", event=f"{tools.app.id}/wake.twice", timeout=_HOUR
        )
        results.append(await tools.step.run(f"use-{n}", tools.did(f"use-{n}", woken.data["value"])))
    return results


@define("wait-then-timeout")
async def wait_then_timeout(tools: Tools) -> Any:
    event = f"{tools.app.id}/wake.soon"
    woken = await tools.step.wait_for_event("wait", event=event, timeout=_HOUR)
    later = await tools.step.wait_for_event("later", event=event, timeout=1000 * _MS)
    return [woken.data["value"], later, await tools.step.run("after", tools.did("after"))]


def _received(tools: Tools, value: Any, id_: str = "") -> inngest.Event:
    return inngest.Event(name=f"{tools.app.id}/received", data={"from": value}, id=id_)


@define("send-event")
async def send_event(tools: Tools) -> Any:
    sent = await tools.step.send_event("tell", _received(tools, tools.data["who"]))
    return {"count": len(sent), "after": await tools.step.run("after", tools.did("after"))}


@define("received")
async def received(tools: Tools) -> Any:
    return await tools.step.run("got", tools.did("got", tools.data["from"]))


@define("send-events")
async def send_events(tools: Tools) -> Any:
    return len(await tools.step.send_event("tell", [_received(tools, n) for n in (1, 2, 3)]))


@define("send-event-once")
async def send_event_once(tools: Tools) -> Any:
    key = tools.data["key"]
    for n in (1, 2):
        await tools.step.send_event(f"tell-{n}", _received(tools, key, f"only-{key}"))
    tools.fail("between", 1)
    return "sent"


@define("send-outside")
async def send_outside(tools: Tools) -> Any:
    event = _received(tools, "outside")
    client = tools.app.client
    if tools.blocking:
        return await tools.step.run("send", lambda: len(client.send_sync(event)))

    async def send() -> int:
        return len(await client.send(event))

    return await tools.step.run("send", send)


def _cancelled_by(event: str, if_exp: str | None = None) -> Any:
    return lambda app: {"cancel": [inngest.Cancel(event=f"{app}/{event}", if_exp=if_exp)]}


@define("cancelled", _cancelled_by("cancel"))
async def cancelled(tools: Tools) -> None:
    await tools.step.run("before", tools.did("before"))
    await tools.step.sleep("long", _HOUR)
    await tools.step.run("never", tools.did("never"))


@define("cancelled-if", _cancelled_by("cancel-if", "async.data.order == event.data.order"))
async def cancelled_if(tools: Tools) -> Any:
    await tools.step.run("before", tools.did("before"))
    woken = await tools.step.wait_for_event(
        "wait",
        event=f"{tools.app.id}/wake.kept",
        timeout=_HOUR,
        if_exp=f"async.data.order == '{tools.data['order']}'",
    )
    return woken.data["value"]
