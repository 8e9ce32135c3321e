"""A measured figure, and how it is taken."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

#: How often each thing is measured; the median is shown.
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for: an interpreter that has the peers, an orchestrator's URL."""

    peers: str | None = None
    orchestrator: str | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: the median, the spread, and the aim where there is one, all in `unit`."""

    name: str
    value: float
    unit: str
    least: float
    most: float
    aim: float | None = None
    note: str = ""

    def line(self) -> str:
        """The row as text."""
        aim = f"  aim ≤ {self.aim:g}" if self.aim is not None else ""
        note = f"  ({self.note})" if self.note else ""
        spread = f"{self.least:.4g}…{self.most:.4g}"
        return f"{self.name:<58} {self.value:>9.4g} {self.unit:<9} {spread:<17}{aim}{note}"

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON."""
        return asdict(self)


def figure(
    name: str, values: Sequence[float], unit: str, *, aim: float | None = None, note: str = ""
) -> Figure:
    """The row for several measurements of one thing."""
    return Figure(name, statistics.median(values), unit, min(values), max(values), aim, note)


def ratio(name: str, ours: Figure, theirs: Figure, *, aim: float | None = None) -> Figure:
    """How much of the peer's figure ours is."""
    value = ours.value / theirs.value
    return Figure(name, value, "x", ours.least / theirs.most, ours.most / theirs.least, aim)


def repeat(measure: Callable[[], float], rounds: int = ROUNDS) -> list[float]:
    """`measure` several times, after one warm-up that does not count."""
    measure()
    return [measure() for _ in range(rounds)]


def environment(**changes: str) -> dict[str, str]:
    """The environment of a measured process: this checkout on its path, no proxies, no keys."""
    path = [str(ROOT / "runtime"), str(ROOT / "deploy"), str(ROOT)]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY") and not name.startswith(("INNGEST_", "ONWARD_"))
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(path), **changes}


def cpu_of(code: str, *, python: str = sys.executable, **changes: str) -> float:
    """Milliseconds of CPU, user and system, of an interpreter that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [python, "-c", code], env=environment(**changes), check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return used * 1000


def ask(module: str, *arguments: str, python: str = sys.executable) -> Any:
    """The JSON that `python -m module` prints last: one measurement in a process of its own."""
    done = subprocess.run(
        [python, "-m", module, *arguments],
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return json.loads(done.stdout.splitlines()[-1])


def has_module(python: str, module: str) -> bool:
    """Whether `python` can import `module`."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0
