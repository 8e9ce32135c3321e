"""A confirmed step and a classic step on the embedded orchestrator, durable on disk."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, Options, figure
from benchmarks.processes import run_of, serving

CONFIRMED_STEPS, CLASSIC_STEPS, ROUNDS = 1000, 200, 3
AIM_CONFIRMED, AIM_CLASSIC = 1.5, 5.0


def measure(_options: Options) -> list[Figure]:
    """Milliseconds a step, from the function's first statement to its last, both processes busy."""
    confirmed, classic = asyncio.run(_measure())
    return [
        figure(
            f"confirmed step over {CONFIRMED_STEPS:,} (synchronous=FULL)",
            confirmed,
            "ms/step",
            aim=AIM_CONFIRMED,
        ),
        figure(
            f"classic mode, a call a step, over {CLASSIC_STEPS}",
            classic,
            "ms/step",
            aim=AIM_CLASSIC,
        ),
    ]


async def _measure() -> tuple[list[float], list[float]]:
    confirmed, classic = [], []
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder) / "runs.db") as url:
            for _ in range(ROUNDS):
                for name, steps, into in (
                    ("confirmed", CONFIRMED_STEPS, confirmed),
                    ("classic", CLASSIC_STEPS, classic),
                ):
                    seconds = (await run_of(url, f"bench/{name}", steps))["seconds"]
                    into.append(seconds / steps * 1000)
    return confirmed, classic
