"""The app under test: the same function for each way of checkpointing, in both kinds.

Its bodies write a ledger of their own, which neither the runtime nor the orchestrator knows of.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onward
from onward.asgi import serve
from tests.support.matrix import CHECKPOINTING
from tests.support.programs import define

#: Variables of the function's process: the ledger's path, and how long a body takes, in seconds.
LEDGER = "CRASH_TEST_LEDGER"
PAUSE = "CRASH_TEST_PAUSE"
PAUSE_S = float(os.environ.get(PAUSE, "0.001"))

#: The ways of checkpointing: their options, and how many steps the function has before its sleep.
#: With them the buffer fills more than once, or once and a rest stays, or not at all.
MODES: dict[str, tuple[onward.Checkpointing, int]] = {
    "buffered-1": (onward.Checkpointing(buffered_steps=1), 4),
    "buffered-3": (onward.Checkpointing(buffered_steps=3), 7),
    "buffered-10": (onward.Checkpointing(buffered_steps=10), 12),
    "pipelined": (onward.Checkpointing(mode="pipelined"), 6),
}
KINDS = ("blocking", "async")

#: The steps of every function that have no body, as an orchestrator names them.
WAITS = frozenset({"nap", "crash/never"})

app = onward.App("crash")


def work(run_id: str, step: str, before: str) -> str:
    """The body of every step: its result depends on all that came before."""
    _write(run_id, step, "start")
    time.sleep(PAUSE_S)
    result = _result(step, before)
    _write(run_id, step, "end")
    return result


async def work_async(run_id: str, step: str, before: str) -> str:
    """The same as a coroutine."""
    _write(run_id, step, "start")
    await asyncio.sleep(PAUSE_S)
    result = _result(step, before)
    _write(run_id, step, "end")
    return result


def _result(step: str, before: str) -> str:
    return hashlib.sha256(f"{before} {step}".encode()).hexdigest()[:12]


def steps_of(mode: str) -> list[str]:
    """The ids of the function's steps, in their order; two of them run at once."""
    return [*(f"s{n}" for n in range(MODES[mode][1])), "left", "right", "last"]


def expected(mode: str) -> str:
    """What the function returns, computed without Onward."""
    before = ""
    for n in range(MODES[mode][1]):
        before = _result(f"s{n}", before)
    joined = _result("left", before) + _result("right", before)
    return _result("last", joined)


def _blocking(mode: str) -> None:
    options, count = MODES[mode]

    @app.function(
        f"blocking-{mode}", trigger=onward.Event(f"blocking/{mode}"), checkpointing=options
    )
    def function(ctx: onward.BlockingContext) -> str:
        def branch(step: str) -> str:
            return ctx.step.run(step, work, ctx.run_id, step, before)

        before = ""
        for n in range(count):
            before = ctx.step.run(f"s{n}", work, ctx.run_id, f"s{n}", before)
        ctx.step.gather(
            lambda: ctx.step.sleep("nap", "1ms"),
            lambda: ctx.step.wait_for_event("wait", event="crash/never", timeout="2ms"),
        )
        left, right = ctx.step.gather(lambda: branch("left"), lambda: branch("right"))
        return ctx.step.run("last", work, ctx.run_id, "last", left + right, barrier=True)


def _async(mode: str) -> None:
    options, count = MODES[mode]

    @app.function(f"async-{mode}", trigger=onward.Event(f"async/{mode}"), checkpointing=options)
    async def function(ctx: onward.Context) -> str:
        before = ""
        for n in range(count):
            before = await ctx.step.run(f"s{n}", work_async, ctx.run_id, f"s{n}", before)
        await asyncio.gather(
            ctx.step.sleep("nap", "1ms"),
            ctx.step.wait_for_event("wait", event="crash/never", timeout="2ms"),
        )
        left, right = await asyncio.gather(
            ctx.step.run("left", work_async, ctx.run_id, "left", before),
            ctx.step.run("right", work, ctx.run_id, "right", before),
        )
        joined = left + right
        return await ctx.step.run("last", work_async, ctx.run_id, "last", joined, barrier=True)


for _mode in MODES:
    _blocking(_mode)
    _async(_mode)


def _of_a_program(run_id: str, step: str, fails: int, final: bool) -> str:
    """The body of every step of a random program: its first `fails` tries raise."""
    _write(run_id, step, "start")
    if final:
        raise onward.NonRetriableError(step)
    if Ledger.of(Path(os.environ[LEDGER]), run_id).starts[step] <= fails:
        raise ValueError(step)
    _write(run_id, step, "end")
    return step


for _kind in KINDS:
    for _name, _options in CHECKPOINTING.items():
        define(
            app,
            f"program-{_kind}-{_name}",
            "async" if _kind == "async" else "blocking",
            _of_a_program,
            trigger=onward.Event(f"program/{_kind}-{_name}"),
            checkpointing=_options,
            retries=20,
        )

served = serve(app)


def _write(run_id: str, step: str, phase: str) -> None:
    """One line by one write to a file opened for appending: a SIGKILL leaves whole lines."""
    file = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{run_id} {step} {phase} {os.getpid()}\n".encode())
    finally:
        os.close(file)


@dataclass
class Ledger:
    """How often the bodies of one run started and ended, by step, and in which processes."""

    starts: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    pids: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, path: Path, run_id: str) -> Ledger:
        """What `path` says about `run_id`."""
        ledger = cls()
        for run, step, phase, pid in _lines(path):
            if run == run_id:
                (ledger.starts if phase == "start" else ledger.ends)[step] += 1
                ledger.pids.add(int(pid))
        return ledger

    @property
    def repeated(self) -> set[str]:
        """The steps whose body started more than once."""
        return {step for step, count in self.starts.items() if count > 1}


def _lines(path: Path) -> Iterable[Any]:
    return (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
