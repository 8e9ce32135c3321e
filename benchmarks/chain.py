"""A chain of 100 steps on any orchestrator: Onward, npm's inngest and PyPI's, in one run."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import ROOT, Figure, Options, figure, has_module, ratio
from benchmarks.processes import App, embedded, run_of, serving_app
from tools.node_sdk import FOLDER, NodeUnavailableError, node_with_sdk

STEPS, ROUNDS = 100, 3
MODES = ("confirmed", "buffered", "classic")
NAMES = {
    "confirmed": "checkpointed each step",
    "buffered": "10 steps buffered",
    "classic": "a call a step",
}


@dataclass(frozen=True)
class Contestant:
    """An SDK, how its app is started, and in which modes it runs."""

    name: str
    app: App
    modes: tuple[str, ...] = MODES


def contestants(options: Options) -> list[Contestant]:
    """Onward, and the peers that are here; what is not is said on standard error."""
    python = ("-m", "uvicorn", "--host", "127.0.0.1", "--log-level", "warning", "--port", "{port}")
    here = sys.executable
    found = [
        Contestant("Onward", App("chain-onward", (here, *python, "benchmarks.served_chain:asgi")))
    ]
    try:
        node = (node_with_sdk(), str(ROOT / "benchmarks" / "peer_chain.mjs"))
        packages = {"PACKAGES": str(FOLDER / "package.json")}
        found.append(Contestant("npm inngest", App("chain-js", node, packages)))
    except NodeUnavailableError as error:
        sys.stderr.write(f"npm inngest is not measured: it {error}\n")
    peers = next((p for p in (options.peers, here) if p and has_module(p, "inngest")), None)
    if peers is not None and has_module(peers, "uvicorn"):
        app = App("chain-py", (peers, *python, "benchmarks.peer_chain:asgi"))
        found.append(Contestant("PyPI inngest", app, ("classic",)))
    else:
        sys.stderr.write(
            "PyPI inngest is not measured: no interpreter has it, fastapi and uvicorn\n"
        )
    return found


def measure(options: Options) -> list[Figure]:
    """Milliseconds a step, from the function's first statement to its last."""
    entrants = contestants(options)
    measured = asyncio.run(_measure(options, entrants))
    figures, ratios = [], []
    for mode in MODES:
        ours = None
        for entrant in entrants:
            if mode not in entrant.modes:
                continue
            name = f"{entrant.name}, {NAMES[mode]}"
            row = figure(name, measured[entrant.name, mode], "ms/step")
            figures.append(row)
            if ours is None:
                ours = row
            else:
                ratios.append(ratio(f"ratio to {name}", ours, row))
    return figures + ratios


async def _measure(
    options: Options, entrants: list[Contestant]
) -> Mapping[tuple[str, str], list[float]]:
    taken: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(_orchestrator(options))
        for entrant in entrants:
            await stack.enter_async_context(serving_app(entrant.app, url))
        for round_ in range(ROUNDS + 1):  # the first warms up
            for entrant in entrants:
                for mode in entrant.modes:
                    event = f"{entrant.app.id}/{mode}"
                    seconds = (await run_of(url, event, STEPS))["seconds"]
                    if round_:
                        taken.setdefault((entrant.name, mode), []).append(seconds / STEPS * 1000)
    return taken


@asynccontextmanager
async def _orchestrator(options: Options) -> AsyncIterator[str]:
    """The one that was asked for, else the embedded one, durable on disk."""
    if options.orchestrator is not None:
        yield options.orchestrator.rstrip("/")
        return
    with tempfile.TemporaryDirectory() as folder:
        async with embedded(Path(folder) / "runs.db") as url:
            yield url
