"""A published SDK as a client of the embedded orchestrator: one process, all scenarios at once."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from onward_server import Orchestrator, RunView, Settings
from onward_server.serving import serve
from tests.support.loops import HANGS_AFTER_S
from tests.support.project import ROOT

#: Retries come soon. A delay that a function asks for is left as it is: one second at least.
SETTINGS = Settings(retry_base_s=0.02, throttle_base_s=0.05, refused_delay_s=0.02)
_LOOK_AGAIN_S = 0.01
#: All scenarios share the machine: one of 200 calls may take a while.
PATIENCE_S = 3 * HANGS_AFTER_S


@dataclass(frozen=True)
class Sdk:
    """How a process that serves apps is started: it prints their URLs, and ends with its stdin.

    `apps` is given to it as JSON in `APPS`; each has an `id`. What it prints is one line of JSON:
    the URL at which each is served, by its id.
    """

    name: str
    command: tuple[str, ...]
    apps: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Ended:
    """A run that is over, and how often each label was traced in it."""

    view: RunView
    traces: Counter[str]

    @property
    def result(self) -> Any:
        """The function's result; fails for a run that did not complete."""
        assert self.view.status == "Completed", f"{self.view.status}: {self.view.error}"
        return self.view.result

    @property
    def error(self) -> dict[str, Any]:
        """The error of a run that failed."""
        assert self.view.status == "Failed", f"{self.view.status}: {self.view.result}"
        assert self.view.error is not None
        return self.view.error

    @property
    def lasted_s(self) -> float:
        """Seconds from the run's start to its end."""
        return (self.view.ended_ms - self.view.started_ms) / 1000


class Traces:
    """What step bodies wrote into a file, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._lines: list[dict[str, Any]] = []

    def lines(self) -> list[dict[str, Any]]:
        """Every trace so far: `app`, `run`, `label`, `value`."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._lines.append(json.loads(line))
                    self._read += len(line)
        return self._lines

    def of(self, run_id: str) -> Counter[str]:
        """How often each label was traced in a run."""
        return Counter(line["label"] for line in self.lines() if line["run"] == run_id)


class App:
    """One app of the SDK: what a scenario is given. Its functions start with `<id>/<function>`."""

    def __init__(self, suite: Suite, options: Mapping[str, Any]) -> None:
        self.suite = suite
        self.options = options
        self.id: str = options["id"]
        self.orchestrator = suite.orchestrator
        self.settings = suite.orchestrator.settings

    async def send(self, event: str, data: Mapping[str, Any] | None = None, **more: Any) -> str:
        """Send `<app>/<event>`; its internal id."""
        value = {"name": f"{self.id}/{event}", "data": dict(data or {}), **more}
        (id_,) = await self.orchestrator.send([value])
        return id_

    async def start(self, function: str, data: Mapping[str, Any] | None = None) -> str:
        """Start a run of `function`; its id."""
        return await self.started_by(await self.send(function, data))

    async def started_by(self, event_id: str) -> str:
        """The one run that an event started."""
        runs = await self.orchestrator.runs_of(event_id)
        assert len(runs) == 1, f"{len(runs)} runs were started, not one"
        return runs[0]

    async def ended(self, run_id: str) -> Ended:
        """The run, once it is over."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                view = await self.orchestrator.result(run_id)
        except TimeoutError:
            raise AssertionError(self._hanging(run_id)) from None
        return Ended(view, self.suite.traces.of(run_id))

    async def run(self, function: str, data: Mapping[str, Any] | None = None) -> Ended:
        """Start a run of `function` and await its end."""
        return await self.ended(await self.start(function, data))

    def told(self, label: str, run_id: str = "") -> list[Any]:
        """The values that were traced under `label` in this app, or in one run of it."""
        return [
            line["value"]
            for line in self.suite.traces.lines()
            if line["label"] == label and line["app"] == self.id and run_id in {"", line["run"]}
        ]

    async def waits(self, run_id: str, *codes: str) -> None:
        """Wait until the run waits for exactly ops of these kinds and is not being called."""

        def holds() -> bool:
            run = self.orchestrator.live_run(run_id)
            assert run is not None, f"run {run_id} has ended"
            return not run.jobs and sorted(p.code for p in run.pending.values()) == sorted(codes)

        await self.until(holds, lambda: self._hanging(run_id))

    async def until(self, holds: Callable[[], bool], what: Callable[[], str]) -> None:
        """Wait for something that nothing announces."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds():  # noqa: ASYNC110 - another process brings it about
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise AssertionError(what()) from None

    async def runs_of(self, function: str, count: int) -> list[Ended]:
        """The runs of `function`, once there are `count` and all are over."""
        function_id = f"{self.id}-{function}"
        begun = self.suite.begun

        def complete() -> bool:
            return len(begun.get(function_id, ())) >= count

        await self.until(
            complete, lambda: f"{function_id}: only {begun.get(function_id)} of {count} runs"
        )
        return [await self.ended(run_id) for run_id in begun[function_id]]

    def _hanging(self, run_id: str) -> str:
        run = self.orchestrator.live_run(run_id)
        text = f"run {run_id} hangs; traces {dict(self.suite.traces.of(run_id))}"
        if run is not None:
            pending = [(p.code, p.event) for p in run.pending.values()]
            jobs = [(j.target, j.in_flight, j.attempt) for j in run.jobs.values()]
            text += f"; waits for {pending}; calls {jobs}; journal {list(run.steps.values())[-3:]}"
        return text


class Suite:
    """The orchestrator, the SDK's process, and where the traces are."""

    def __init__(self, orchestrator: Orchestrator, url: str, traces: Traces) -> None:
        self.orchestrator = orchestrator
        self.url = url
        self.traces = traces
        self.apps: dict[str, App] = {}
        self.urls: dict[str, str] = {}
        #: Run ids by function, in the order in which they were started.
        self.begun: dict[str, list[str]] = {}
        orchestrator.subscribe(self._note)

    def _note(self, event: Any) -> None:
        if event.kind == "run.started":
            self.begun.setdefault(event.data["function_id"], []).append(event.run_id)


def _said(log: Path) -> str:
    return log.read_text(errors="replace")


async def _urls_of(process: Process, log: Path) -> dict[str, str]:
    assert process.stdout is not None
    async with asyncio.timeout(HANGS_AFTER_S):
        line = await process.stdout.readline()
    assert line, f"the SDK's process does not start:\n{_said(log)}"
    urls: dict[str, str] = json.loads(line)
    return urls


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(HANGS_AFTER_S / 6):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def running(
    sdk: Sdk,
    folder: Path,
    *,
    settings: Settings = SETTINGS,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Suite]:
    """The apps of `sdk`, served and registered with an orchestrator of their own.

    `environment` is added to the process's; `options` go to the orchestrator.
    """
    orchestrator = Orchestrator(folder / f"{sdk.name}.db", settings, **options)
    traces, log = Traces(folder / f"{sdk.name}.jsonl"), folder / f"{sdk.name}.log"
    await orchestrator.start()
    try:
        async with serve(orchestrator) as served:
            suite = Suite(orchestrator, served.url, traces)
            env = _environment(sdk, traces, served.url) | dict(environment or {})
            with log.open("wb") as errors:
                process = await asyncio.create_subprocess_exec(
                    *sdk.command, env=env, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=errors
                )
            try:
                suite.urls = await _urls_of(process, log)
                await _register(suite, sdk.apps, log)
                yield suite
            finally:
                await _end(process)
    finally:
        await orchestrator.stop()


def _environment(sdk: Sdk, traces: Traces, url: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY") and not name.startswith(("INNGEST_", "ONWARD_"))
    }
    apps = json.dumps(sdk.apps)
    return {
        **kept,
        "APPS": apps,
        "ORCHESTRATOR": url,
        "TRACES": str(traces.path),
        "PYTHONPATH": str(ROOT),
    }


async def _register(suite: Suite, apps: Sequence[Mapping[str, Any]], log: Path) -> None:
    """Ask each app, as a deployment does, to register itself."""
    async with httpx.AsyncClient(trust_env=False, timeout=HANGS_AFTER_S) as client:
        for options in apps:
            answer = await client.put(suite.urls[options["id"]])
            known = {function.app for function in suite.orchestrator.functions.values()}
            assert answer.status_code == 200, f"{answer.text}\n{_said(log)}"
            assert options["id"] in known, f"nothing was registered: {answer.text}"
            suite.apps[options["id"]] = App(suite, options)
