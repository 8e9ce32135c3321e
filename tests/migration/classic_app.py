"""An app on PyPI `inngest`, in a process of its own: prints its port, and ends with its stdin.

Its steps write into `TRACE` what they do. `onward_app.py` has the same functions on Onward.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
import socket
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import fastapi
import inngest
import inngest.fast_api
import inngest_encryption
import pydantic
import uvicorn

TRACE = Path(os.environ["TRACE"])

client = inngest.Inngest(
    app_id="shop",
    is_production=False,
    logger=logging.getLogger("classic"),
    serializer=inngest.PydanticSerializer(),
)


class Receipt(pydantic.BaseModel):
    number: int
    paid: dt.datetime


def does(label: str, value: Any = None) -> Any:
    """What a step's body does: it leaves a trace."""
    with TRACE.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"sdk": "inngest", "label": label}) + "\n")
    return value


def step(label: str, value: Any = None) -> Any:
    """A body that leaves the trace `label` and returns `value`."""

    async def body() -> Any:
        return does(label, value)

    return body


def event(name: str) -> inngest.TriggerEvent:
    return inngest.TriggerEvent(event=f"shop/{name}")


@client.create_function(fn_id="sleeps", trigger=event("sleeps"))
async def sleeps(ctx: inngest.Context) -> Any:
    charged = await ctx.step.run("charge", step("charge", {"amount": 12}))
    await ctx.step.run("mail", step("mail"))
    await ctx.step.sleep("rest", dt.timedelta(hours=1))
    return await ctx.step.run("ship", step("ship", charged))


@client.create_function(
    fn_id="encrypted",
    trigger=event("encrypted"),
    middleware=[inngest_encryption.EncryptionMiddleware.factory("the key of both")],
)
async def encrypted(ctx: inngest.Context) -> Any:
    card = await ctx.step.run("seal", step("seal", {"card": "4111"}))
    await ctx.step.sleep("rest", dt.timedelta(hours=1))
    return await ctx.step.run("open", step("open", card))


@client.create_function(fn_id="in-blocking", trigger=event("in-blocking"))
def in_blocking(ctx: inngest.ContextSync) -> Any:
    charged = ctx.step.run("charge", lambda: does("charge", {"amount": 12}))
    ctx.step.sleep("rest", dt.timedelta(hours=1))
    return ctx.step.run("ship", lambda: does("ship", charged))


@client.create_function(fn_id="in-parallel", trigger=event("in-parallel"))
async def in_parallel(ctx: inngest.Context) -> Any:
    first = await ctx.group.parallel(
        tuple(partial(ctx.step.run, f"part-{n}", step(f"part-{n}", n)) for n in range(3))
    )
    await ctx.step.sleep("rest", dt.timedelta(hours=1))
    second = await ctx.group.parallel(
        tuple(partial(ctx.step.run, f"more-{n}", step(f"more-{n}", n)) for n in range(3))
    )
    return [*first, *second]


@client.create_function(fn_id="sleeps-in-parallel", trigger=event("sleeps-in-parallel"))
async def sleeps_in_parallel(ctx: inngest.Context) -> Any:
    await ctx.group.parallel(
        (
            lambda: ctx.step.sleep("rest", dt.timedelta(hours=1)),
            lambda: ctx.step.run("beside", step("beside", 1)),
        )
    )
    return await ctx.step.run("after", step("after", 2))


@client.create_function(fn_id="cut-off", trigger=event("cut-off"))
async def cut_off(ctx: inngest.Context) -> Any:
    async def never_ends() -> None:
        await asyncio.Event().wait()

    return await ctx.group.parallel(
        (
            partial(ctx.step.run, "done", step("done", 1)),
            partial(ctx.step.run, "cut", never_ends),
        )
    )


@client.create_function(fn_id="races", trigger=event("races"))
async def races(ctx: inngest.Context) -> Any:
    await ctx.group.parallel(
        (
            lambda: ctx.step.sleep("rest", dt.timedelta(hours=1)),
            lambda: ctx.step.run("beside", step("beside", 1)),
        ),
        parallel_mode=inngest.ParallelMode.RACE,
    )
    return await ctx.step.run("after", step("after", 2))


@client.create_function(fn_id="waits", trigger=event("waits"))
async def waits(ctx: inngest.Context) -> Any:
    await ctx.step.run("ask", step("ask"))
    missed = await ctx.step.wait_for_event("missed", event="shop/never", timeout=30_000)
    answer = await ctx.step.wait_for_event(
        "answer",
        event="shop/answered",
        if_exp="async.data.to == event.data.from",
        timeout=dt.timedelta(days=1),
    )
    again = await ctx.step.wait_for_event(
        "again", event="shop/answered-again", timeout=dt.timedelta(days=1)
    )
    assert missed is None
    assert answer is not None
    assert again is not None
    return [answer.data["says"], again.data["says"]]


@client.create_function(fn_id="repeats", trigger=event("repeats"))
async def repeats(ctx: inngest.Context) -> Any:
    found = [await ctx.step.run("again", step(f"again-{n}", n)) for n in range(3)]
    await ctx.step.sleep("again", dt.timedelta(hours=1))
    return [*found, *[await ctx.step.run("again", step(f"again-{n}", n)) for n in range(3, 5)]]


@client.create_function(fn_id="errs", trigger=event("errs"), retries=0)
async def errs(ctx: inngest.Context) -> Any:
    async def refuse() -> None:
        does("refuse")
        raise ValueError("no stock")

    try:
        await ctx.step.run("refuse", refuse)
    except inngest.StepError as error:
        told = f"{error.name}: {error.message}"
        await ctx.step.sleep("rest", dt.timedelta(hours=1))
        return await ctx.step.run("tell", step("tell", told))


@client.create_function(fn_id="models", trigger=event("models"), output_type=Receipt)
async def models(ctx: inngest.Context) -> Any:
    paid = dt.datetime(2026, 1, 31, 9, tzinfo=dt.UTC)
    receipt = await ctx.step.run(
        "pay", step("pay", Receipt(number=7, paid=paid)), output_type=Receipt
    )
    await ctx.step.sleep("rest", dt.timedelta(hours=1))
    return receipt


@client.create_function(fn_id="sends", trigger=event("sends"))
async def sends(ctx: inngest.Context) -> Any:
    ids = await ctx.step.send_event("tell", inngest.Event(name="shop/told", data={"n": 1}))
    await ctx.step.sleep("rest", dt.timedelta(hours=1))
    return ids


@client.create_function(fn_id="child", trigger=event("child"))
async def child(ctx: inngest.Context) -> Any:
    await ctx.step.sleep("rest", dt.timedelta(hours=int(str(ctx.event.data["hours"]))))
    return await ctx.step.run("grow", step("grow", ctx.event.data["hours"]))


@client.create_function(fn_id="invokes", trigger=event("invokes"))
async def invokes(ctx: inngest.Context) -> Any:
    first = await ctx.step.invoke("short", function=child, data={"hours": 0})
    second = await ctx.step.invoke("long", function=child, data={"hours": 1})
    return [first, second]


FUNCTIONS: list[inngest.Function[Any]] = [
    sleeps,
    encrypted,
    in_blocking,
    in_parallel,
    sleeps_in_parallel,
    cut_off,
    races,
    waits,
    repeats,
    errs,
    models,
    sends,
    child,
    invokes,
]


def main() -> None:
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, FUNCTIONS)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))

    def end_with_stdin() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end_with_stdin, daemon=True).start()
    print(listener.getsockname()[1], flush=True)  # noqa: T201 - how it tells its port
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
