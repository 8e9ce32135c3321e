"""The airports example on Lambda: the emulator enforces 3 seconds, our orchestrator drives it.

What was killed comes from the emulator's log, what was run from a ledger beside the runtime.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import airportsdata
import pytest

import onward
from examples.airports.app import app as airports_app
from onward.core.deadline import MARGIN_FLOOR
from onward_server import Orchestrator, RunView, Settings
from onward_server.serving import serve
from tests.rie.lambda_app import BUFFERED, LATE_MS, LEDGER, endless_app
from tests.support.project import ROOT
from tests.support.rie import Rie

#: The functions' timeout, which the emulator enforces, and how much longer a late deadline is.
TIMEOUT_S, LATE_S = 3, 1.5
PATIENCE_S = 120.0


@dataclass
class Bodies:
    """What the ledger says: how often each body started and ended, how long those that ended took.

    `cut` are the steps in flight, `last` the step begun last, by the process that they were in.
    """

    starts: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    cut: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    last: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Bodies:
        """What `path` says."""
        bodies, begun = cls(), dict[tuple[int, str], float]()
        for step, phase, at, pid in map(json.loads, path.read_text().splitlines()):
            if phase == "start":
                bodies.starts[step] += 1
                bodies.cut[pid].add(step)
                bodies.last[pid] = step
                begun[pid, step] = at
            else:
                bodies.ends[step] += 1
                bodies.cut[pid].discard(step)
                bodies.seconds.append(at - begun[pid, step])
        return bodies


@dataclass
class Ran:
    """A run in the emulator. `killed` are the ids of the processes that the emulator killed."""

    view: RunView
    bodies: Bodies
    invocations: int
    killed: list[int]
    log: str


async def run_in_emulator(
    app: onward.App,
    handler: str,
    folder: Path,
    data: dict[str, Any],
    **environ: str,
) -> Ran:
    """Run the one function of `app` for `data`."""
    ledger = folder / "ledger"
    orchestrator = Orchestrator(settings=Settings(retry_base_s=0.05))
    await orchestrator.start()
    try:
        async with serve(orchestrator) as serving:
            environ = {**environ, LEDGER: str(ledger), "INNGEST_DEV": serving.url}
            emulator = Rie(handler, bundle(folder), timeout_s=TIMEOUT_S, env=environ, name=app.id)
            with emulator as rie:
                # The emulator knows its one function as "function".
                url = f"lambda://{app.id}?endpoint={rie.endpoint}&function=function"
                await orchestrator.register(app.registration(url))
                (function_id,) = app.functions
                run_id = await orchestrator.start_run(function_id, data)
                async with asyncio.timeout(PATIENCE_S):
                    view = await orchestrator.result(run_id)
                log = rie.log()
    finally:
        await orchestrator.stop()
    assert ledger.exists(), f"{view}\n{log}"
    killed = [int(pid) for pid in re.findall(r"Sending SIGKILL to runtime-\d+\((\d+)\)", log)]
    invocations = len(re.findall(r"^START RequestId", log, re.MULTILINE))
    return Ran(view, Bodies.of(ledger), invocations, killed, log)


def bundle(folder: Path) -> Path:
    """A function's folder: the example from this checkout, and the handlers around it."""
    made = folder / "bundle"
    for name in ("examples/airports/app.py", "tests/rie/lambda_app.py"):
        target = made / name.removeprefix("tests/rie/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return made


@pytest.mark.slow
async def test_no_kill_no_repeat_and_no_invocation_too_many(
    tmp_path: Path, show: Callable[[str], None]
) -> None:
    data = {"out": str(tmp_path / "out")}
    ran = await run_in_emulator(airports_app, "lambda_app.handle_airports", tmp_path, data)
    bodies, steps = ran.bodies, math.ceil(len(airportsdata.load("IATA")) / 200) + 4
    assert ran.view.status == "Completed", ran.log
    assert ran.killed == []
    assert len(bodies.starts) == steps
    assert set(bodies.starts.values()) == set(bodies.ends.values()) == {1}
    # An invocation has its timeout for work, but for the margin, and for the end in which the
    # longest body does not fit any more. So many are needed for all the work; one more may be.
    work, longest = sum(bodies.seconds), max(bodies.seconds)
    window = TIMEOUT_S - MARGIN_FLOOR - longest
    allowed = math.ceil(work / window) + 1
    show(
        f"{steps} steps, {work:.2f} s of work, the longest {longest:.2f} s: {ran.invocations}"
        f" invocations of {TIMEOUT_S} s; {work:.2f} / {window:.2f}, rounded up, and one: {allowed}"
    )
    assert 1 < ran.invocations <= allowed


@pytest.mark.slow
async def test_with_a_late_deadline_a_kill_repeats_the_step_that_it_hit(
    tmp_path: Path, show: Callable[[str], None]
) -> None:
    data = {"out": str(tmp_path / "out"), "chunk": 500}
    ran = await run_in_emulator(
        airports_app,
        "lambda_app.handle_airports",
        tmp_path,
        data,
        **{LATE_MS: f"{LATE_S * 1000:.0f}", BUFFERED: "1"},
    )
    bodies = ran.bodies
    show(f"{len(ran.killed)} kills by the emulator, repeated: {sorted(repeated(bodies))}")
    assert ran.view.status == "Completed", ran.log
    assert len(ran.killed) >= 1
    assert len(set(ran.killed)) == len(ran.killed) == ran.log.count("Reset initiated: Timeout")
    # A kill hits the body that runs, or the checkpoint of the one that has just ended: that step,
    # and no other, runs again.
    hit = Counter(bodies.last[pid] for pid in ran.killed)
    in_flight = Counter(step for pid in ran.killed for step in bodies.cut[pid])
    again = bodies.starts - Counter(dict.fromkeys(bodies.starts, 1))
    assert in_flight <= again <= hit
    assert again.total() >= 1
    assert bodies.starts.keys() == bodies.ends.keys()
    assert ran.view.result["airports"] == len(airportsdata.load("IATA"))


@pytest.mark.slow
async def test_a_step_of_ten_seconds_times_out_after_its_retries(tmp_path: Path) -> None:
    ran = await run_in_emulator(endless_app, "lambda_app.handle_endless", tmp_path, {})
    assert ran.view.status == "Failed"
    assert ran.view.error is not None
    assert ran.view.error["name"] == "StepTimedOutError", ran.log
    assert "'ten seconds'" in ran.view.error["message"]
    # Cut once beside a step that was confirmed, and then, alone, once for each attempt.
    assert ran.bodies.starts == {"short": 1, "ten seconds": 3}
    assert ran.bodies.ends == {"short": 1}
    assert ran.killed == []


def repeated(bodies: Bodies) -> set[str]:
    """The steps whose body started more than once."""
    return {step for step, count in bodies.starts.items() if count > 1}
