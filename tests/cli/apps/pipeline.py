"""Functions of known length, and functions that misbehave, for the tests of the command line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onward

# The address is nobody's: the command line has to put its own orchestrator in its place.
app = onward.App("pipeline", orchestrator="http://127.0.0.1:9")
empty = onward.App("empty")
not_an_app = {"id": "pipeline"}


def part(number: int, seconds: float) -> int:
    """Take so many seconds in short naps, so that it can be interrupted."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.01))
    return number


@app.function("parts", trigger=onward.Event("pipeline/parts", if_="event.data.never == true"))
def parts(ctx: onward.BlockingContext) -> dict[str, Any]:
    """`steps` steps of `seconds` each."""
    data = ctx.event.data
    seconds = float(data.get("seconds", 0))
    total = sum(
        ctx.step.run(f"part-{n}", part, n, seconds) for n in range(int(data.get("steps", 3)))
    )
    return {"total": total, "event": ctx.event.name, "report": data.get("report")}


@app.function("other", trigger=onward.Event("pipeline/parts"))
def other(ctx: onward.BlockingContext) -> None:
    """Has the trigger of `parts`, and must not start with it."""
    Path(ctx.event.data["marker"]).write_text("started")


@app.function("nightly", trigger=onward.Cron("0 3 * * *"))
async def nightly(ctx: onward.Context) -> str:
    """Has no event to start it."""
    return await ctx.step.run("name", str, "nightly")


@app.function(
    "gathered",
    trigger=onward.Event("pipeline/gathered"),
    batch_events=onward.BatchEvents(max_size=100, timeout="60s"),
    concurrency=onward.Concurrency(1),
)
async def gathered(ctx: onward.Context) -> list[int]:
    """Would wait for more events, and invokes another function."""
    invoked = await ctx.step.invoke("parts", parts, data={"steps": 4})
    return [len(ctx.events), invoked["total"]]


@app.function("too-long", trigger=onward.Event("pipeline/too-long"), retries=1)
def too_long(ctx: onward.BlockingContext) -> int:
    """One step that no invocation has time for."""
    return ctx.step.run("endless", part, 1, float(ctx.event.data.get("seconds", 30)))


@app.function("wrong", trigger=onward.Event("pipeline/wrong"), retries=0)
def wrong(ctx: onward.BlockingContext) -> None:
    """Fails for good."""

    def charge() -> None:
        raise ValueError("the card was refused")

    ctx.step.run("charge", charge)


@app.function("noisy", trigger=onward.Event("pipeline/noisy"))
def noisy(ctx: onward.BlockingContext) -> str:
    """Prints from the function and from a step, to both streams, and from a process of its own."""

    def shout() -> None:
        sys.stdout.write("from the step\n")
        sys.stderr.write('{"kind": "answer", "answer": 1}\n')
        subprocess.run(["/bin/sh", "-c", "echo from a process"], check=True)

    ctx.step.run("shout", shout)
    sys.stdout.write("from the function, without a newline")
    return "quiet"


@app.function("crash-once", trigger=onward.Event("pipeline/crash-once"))
def crash_once(ctx: onward.BlockingContext) -> str:
    """The process ends in the middle of the second step, the first time."""
    marker = Path(ctx.event.data["marker"])

    def crash() -> str:
        if not marker.exists():
            marker.write_text("crashed")
            os._exit(3)
        return "survived"

    ctx.step.run("before", part, 1, 0)
    return ctx.step.run("crash", crash)


@app.function("children", trigger=onward.Event("pipeline/children"), retries=0)
def children(ctx: onward.BlockingContext) -> None:
    """A step that waits for a process of its own, whose id it writes down."""
    marker = Path(ctx.event.data["marker"])

    def wait() -> None:
        with subprocess.Popen(["/bin/sh", "-c", "sleep 600"]) as child:
            marker.write_text(str(child.pid))
            child.wait()

    ctx.step.run("wait", wait)


@app.function("two-branches", trigger=onward.Event("pipeline/two-branches"))
async def two_branches(ctx: onward.Context) -> list[int]:
    """A sleep between steps."""
    first = await ctx.step.run("first", part, 1, 0)
    await ctx.step.sleep("nap", "100ms")
    return [first, await ctx.step.run("second", part, 2, 0)]


@app.function("gated", trigger=onward.Event("pipeline/gated"))
def gated(ctx: onward.BlockingContext) -> None:
    """Two steps; the first counts how often it ran, and ends when the test says so."""
    folder = Path(ctx.event.data["folder"])

    def first() -> None:
        marker = folder / "first"
        count = int(marker.read_text()) if marker.exists() else 0
        marker.write_text(str(count + 1))
        while not (folder / "go").exists():
            time.sleep(0.01)

    ctx.step.run("first", first)
    if "nap" in ctx.event.data:
        ctx.step.sleep("nap", ctx.event.data["nap"])
    ctx.step.run("second", (folder / "second").touch)


@app.function("meeting", trigger=onward.Event("pipeline/meeting"), parallel="orchestrated")
async def meeting(ctx: onward.Context) -> bool:
    """Two parallel steps that each wait for the other, so that one after the other never ends."""
    folder = Path(ctx.event.data["folder"])

    def meet(mine: str, other: str) -> int:
        (folder / mine).touch()
        while not (folder / other).exists():
            time.sleep(0.01)
        return os.getpid()

    pids = await asyncio.gather(
        ctx.step.run("left", meet, "left", "right"), ctx.step.run("right", meet, "right", "left")
    )
    return len(set(pids)) == len(pids)
