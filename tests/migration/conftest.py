"""Runs that begin on PyPI `inngest`, in its own process, and end on Onward, at the same address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

import onward.asgi
from onward_server import Orchestrator, RunView, Settings
from onward_server.clock import WallClock
from onward_server.serving import serve_asgi
from tests.migration.onward_app import Moved
from tests.support.harness import QUICK, clean_environment
from tests.support.loops import HANGS_AFTER_S, LoopThread, eventually

PATH = "/api/inngest"
MINUTE_MS, HOUR_MS = 60_000, 3_600_000

#: What each run waits for when the process is stopped: its ops that have no result.
BARRIERS = {
    "sleeps": ["Sleep"],
    "encrypted": ["Sleep"],
    "in-blocking": ["Sleep"],
    "in-parallel": ["Sleep"],
    "sleeps-in-parallel": ["Sleep"],
    "races": ["Sleep"],
    "waits": ["WaitForEvent"],
    "repeats": ["Sleep"],
    "errs": ["Sleep"],
    "models": ["Sleep"],
    "sends": ["Sleep"],
    "invokes": ["InvokeFunction"],
}

#: The function whose process ends while one of its planned steps runs.
CUT_OFF = "cut-off"


class LeapingClock(WallClock):
    """The machine's clock, and ahead of it by what was leapt."""

    def __init__(self) -> None:
        self._ahead_ms = 0
        self._wakes: list[Callable[[], None]] = []

    def now_ms(self) -> int:
        return super().now_ms() + self._ahead_ms

    def call_at(self, due_ms: int, wake: Callable[[], None]) -> Any:
        self._wakes.append(wake)
        return super().call_at(due_ms, wake)

    async def leap(self, milliseconds: int) -> None:
        """Time has passed; on the orchestrator's loop."""
        self._ahead_ms += milliseconds
        wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()


class Classic:
    """The process that serves the app on PyPI `inngest`."""

    def __init__(self, orchestrator: str, trace: Path) -> None:
        script = Path(__file__).with_name("classic_app.py")
        environ = {key: value for key, value in os.environ.items() if "INNGEST" not in key}
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            env={**environ, "INNGEST_DEV": orchestrator, "TRACE": str(trace)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process ended before it served"
        self.port = int(line)

    def stop(self) -> None:
        """End it, as a deployment does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(HANGS_AFTER_S) == 0
        self._process.stdout.close()


@dataclass
class Moving:
    """Runs by the function that they are of, and what their steps left behind."""

    loops: LoopThread
    orchestrator: Orchestrator
    trace: Path
    runs: dict[str, str] = field(default_factory=dict)

    def send(self, name: str, **data: Any) -> list[str]:
        """Send an event; the runs that it starts."""
        (event_id,) = self.loops.run(
            self.orchestrator.send([{"name": f"shop/{name}", "data": data}])
        )
        return self.loops.run(self.orchestrator.runs_of(event_id))

    def started(self, name: str, **data: Any) -> str:
        """The id of the run of `name` that its event starts."""
        (run_id,) = self.send(name, **data)
        return run_id

    def ended(self, name: str) -> RunView:
        """The run of the function `name`, once it is over."""
        return self.loops.run(self.orchestrator.result(self.runs[name]))

    def at_rest(self, name: str) -> bool:
        """Whether the run of `name` waits at its barrier, and is not being called."""
        run = self.orchestrator.live_run(self.runs[name])
        assert run is not None, self.ended(name).error
        return not run.jobs and [op.code for op in run.pending.values()] == BARRIERS[name]

    def in_a_step_alone(self) -> bool:
        """Whether of the two planned steps one is done, and the other runs."""
        run = self.orchestrator.live_run(self.runs[CUT_OFF])
        assert run is not None, self.ended(CUT_OFF).error
        calls = [(job.targeted, job.in_flight) for job in run.jobs.values()]
        return len(run.steps) == 1 and calls == [(True, True)]

    def child_sleeps(self) -> bool:
        """Whether the run that was invoked last is at its sleep of an hour, and is not called."""
        return any(
            not run.jobs and [op.code for op in run.pending.values()] == ["Sleep"]
            for run in self.orchestrator._runs.all()
            if run.run_id not in self.runs.values()
        )

    def has_results(self, name: str, count: int) -> None:
        """Wait until the run of `name` rests again, with so many results."""

        def holds() -> bool:
            run = self.orchestrator.live_run(self.runs[name])
            assert run is not None, self.ended(name).error
            return len(run.steps) == count and self.at_rest(name)

        eventually(holds, f"{name} has no {count} results")

    def traces(self) -> Counter[tuple[str, str]]:
        """How often each step's body ran, by SDK and label."""
        lines = self.trace.read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        return Counter((each["sdk"], each["label"]) for each in found)


@pytest.fixture(scope="session", params=[True, False], ids=["checkpointing", "call-a-step"])
def moved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Moving]:
    """All runs: begun there, stopped where they wait, and let go on here."""
    trace = tmp_path_factory.mktemp("migration") / "trace.jsonl"
    clock = LeapingClock()
    with pytest.MonkeyPatch.context() as patch, LoopThread("migration") as loops:
        clean_environment(patch)
        orchestrator = Orchestrator(settings=Settings(**QUICK), clock=clock)
        loops.run(orchestrator.start())
        moving = Moving(loops, orchestrator, trace)
        url = loops.serve(orchestrator.asgi)
        app = Moved(trace, url, checkpointing=request.param).app
        try:
            port = _begun(moving, clock, url)
            loops.enter(serve_asgi(onward.asgi.serve(app, path=PATH), port=port))
            _register(port)
            loops.run(clock.leap(2 * HOUR_MS))
            moving.send("answered-again", says="again")
            yield moving
        finally:
            loops.run(orchestrator.stop())
            app.channel.close()


def _begun(moving: Moving, clock: LeapingClock, url: str) -> int:
    """Begin all runs, and stop the process when all are at rest. Returns its port."""
    classic = Classic(url, moving.trace)
    try:
        _register(classic.port)
        for name in BARRIERS:
            moving.runs[name] = moving.started(name, **{"from": "A"})
        moving.runs[CUT_OFF] = moving.started(CUT_OFF)
        eventually(moving.in_a_step_alone, f"{CUT_OFF} is in no step")
        for name in BARRIERS:
            eventually(partial(moving.at_rest, name), f"{name} does not rest")
        moving.has_results("invokes", 1)
        eventually(moving.child_sleeps, "the invoked run does not sleep")
        moving.loops.run(clock.leap(MINUTE_MS))
        moving.has_results("waits", 2)
        moving.send("answered", to="B", says="no")
        moving.send("answered", to="A", says="yes")
        moving.has_results("waits", 3)
    finally:
        classic.stop()
    return classic.port


def _register(port: int) -> None:
    with httpx.Client(trust_env=False, timeout=HANGS_AFTER_S) as client:
        answer = client.put(f"http://127.0.0.1:{port}{PATH}")
    assert answer.is_success, answer.text
