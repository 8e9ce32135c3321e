"""The largest resident size of both processes in a run of 5,000 steps of one kilobyte."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, Options, figure
from benchmarks.processes import run_of, serving

STEPS, AIM = 5000, 150.0


def measure(_options: Options) -> list[Figure]:
    """Megabytes."""
    orchestrator, function = asyncio.run(_measure())
    return [
        figure(f"function, {STEPS:,} steps of 1 KB", [function], "MB", aim=AIM),
        figure(f"orchestrator, {STEPS:,} steps of 1 KB", [orchestrator], "MB", aim=AIM),
    ]


async def _measure() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        pids: list[int] = []
        async with serving(Path(folder) / "runs.db", pids) as url:
            await run_of(url, "bench/memory", STEPS)
            first, second = (_peak_megabytes(pid) for pid in pids)
            return first, second


def _peak_megabytes(pid: int) -> float:
    """The high-water mark that Linux keeps."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    message = "This system does not tell the largest resident size of a process."
    raise OSError(message)
