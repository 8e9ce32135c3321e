"""The supervisor: it starts the processes, sees them die, starts them again, and asks for results.

Everything here waits for what the processes tell; nothing is waited for by the clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import httpx

from onward.testing.crash import CRASH_AT, CRASH_TRACE, Reached, read_trace
from tests.crash.pipeline import LEDGER, WAITS, Ledger, app
from tests.support.project import ROOT

T = TypeVar("T")

#: A test that hangs must fail. Nothing takes as long as this.
PATIENCE_S = 30.0
#: How long a kill may come after the end of the run.
LATE_S = 5.0


class Process(NamedTuple):
    """A process and where it serves."""

    pid: int
    url: str


class Zygote:
    """The fork server, and all that its children told so far; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.exited: dict[int, int] = {}
        self.ready: set[int] = set()
        self.ended: set[str] = set()
        self._forked: list[int] = []
        self._rest = b""
        self._log = folder / "log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("INNGEST_", "ONWARD_"))}
        paths = [str(ROOT / "runtime"), str(ROOT), kept.get("PYTHONPATH", "")]
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.zygote"],
                cwd=ROOT,
                env=kept,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes that are left."""
        with self._process:
            pass

    @property
    def group_is_gone(self) -> bool:
        """Whether neither the fork server nor anything that came from it is left."""
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def log(self) -> str:
        """What the processes wrote to standard error."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def fork(self, role: str, *arguments: str, environ: dict[str, str]) -> int:
        """Fork a process and return its id."""
        request = {"role": role, "arguments": arguments, "environ": environ}
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(request)}\n".encode())
        self._process.stdin.flush()
        self.until(lambda: self._forked, f"a new {role}")
        return self._forked.pop()

    def kill(self, pid: int) -> None:
        """SIGKILL, if it still runs."""
        if pid not in self.exited:
            os.kill(pid, signal.SIGKILL)
            self.until(lambda: pid in self.exited, f"the end of process {pid}")

    def until(self, condition: Callable[[], T], what: str, within_s: float = PATIENCE_S) -> T:
        """What `condition` gives once it is true, asked anew for each thing that is told."""
        limit = time.monotonic() + within_s
        while not (value := condition()):
            left = limit - time.monotonic()
            if left <= 0 or not self._listen(left):
                raise AssertionError(f"waited in vain for {what}:\n{self.log()}")
        return value

    def _listen(self, within_s: float) -> bool:
        """Take in what is told next; False if nothing is."""
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        if not select.select([file], [], [], within_s)[0]:
            return False
        data = os.read(file, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))
        return bool(data)

    def _hear(self, told: dict[str, Any]) -> None:
        if "forked" in told:
            self._forked.append(told["forked"])
        elif "exited" in told:
            self.exited[told["exited"]] = told["status"]
        elif "ready" in told:
            self.ready.add(told["pid"])
        elif "ended" in told:
            self.ended.add(told["ended"])


@dataclass
class Played:
    """One run, from its event to its end, with at most one kill on the way.

    `killed` is the exit status of the process with the crash point, None where it lived on.
    `answered` are the steps that had been confirmed to the function when the process died, and
    `confirmed` those in the journal then. `trace` is what that process passed. `runs` counts the
    runs that the event started, `journal` names what the run has memoized in the end.
    """

    trace: list[Reached] = field(default_factory=list)
    killed: int | None = None
    answered: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    runs: int = 0
    run: dict[str, Any] = field(default_factory=dict)
    journal: list[str] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)


class World:
    """One function's process and one orchestrator's, on ports that stay the same."""

    def __init__(self, folder: Path) -> None:
        self.zygote = Zygote(folder)
        self.folder = folder
        self.ledger = folder / "ledger"
        self._number = 0
        self._ports = free_ports(2)
        self._client = httpx.Client(trust_env=False, timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End every process."""
        self._client.close()
        with self.zygote:
            pass

    def new(self, kind: str) -> Path:
        """The path of a new file."""
        self._number += 1
        return self.folder / f"{self._number}.{kind}"

    def function(self, at: str = "", trace: Path | None = None) -> Process:
        """A new process of the function, serving unless it died before."""
        port, orchestrator = self._ports
        environ = {LEDGER: str(self.ledger), "INNGEST_DEV": f"http://127.0.0.1:{orchestrator}"}
        return self._start("function", port, [str(port)], {**environ, **crash(at, trace)})

    def orchestrator(self, db: Path, at: str = "", trace: Path | None = None) -> Process:
        """A new process of the orchestrator, serving unless it died before."""
        port = self._ports[1]
        arguments = ["--db", str(db), "--port", str(port)]
        return self._start("orchestrator", port, arguments, crash(at, trace))

    def _start(
        self, role: str, port: int, arguments: list[str], environ: dict[str, str]
    ) -> Process:
        pid = self.zygote.fork(role, *arguments, environ=environ)
        self.zygote.until(
            lambda: pid in self.zygote.ready or pid in self.zygote.exited, f"the {role} to serve"
        )
        return Process(pid, f"http://127.0.0.1:{port}")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the orchestrator answers. Raises httpx.TransportError where it does not."""
        url = f"http://127.0.0.1:{self._ports[1]}{path}"
        answer = self._client.request(method, url, json=body)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def register(self) -> None:
        """Register the app at the function's address."""
        url = f"http://127.0.0.1:{self._ports[0]}/api/inngest"
        self.ask("POST", "/fn/register", app.registration(url))

    def send(self, name: str, event_id: str, data: dict[str, Any] | None = None) -> list[str]:
        """Send the event, twice if need be, and return the ids of the runs that it started."""
        body = {"name": name, "id": event_id, "data": data or {}}
        (internal_id,) = self.ask("POST", "/e/key", body)["ids"]
        runs = self.ask("GET", f"/v1/events/{internal_id}/runs")["data"]
        return [run["run_id"] for run in runs]

    def all_runs(self) -> list[str]:
        """The ids of the runs in the database."""
        return [run["run_id"] for run in self.ask("GET", "/v1/runs?limit=100")["data"]]

    def journal(self, run_id: str) -> list[str]:
        """The names of the steps that the running orchestrator has memoized, but for its waits."""
        steps = self.ask("GET", f"/v1/runs/{run_id}/steps")["data"]
        return [step["name"] for step in steps if step["name"] not in WAITS]

    def view(self, run_id: str) -> dict[str, Any]:
        """The run as it stands."""
        data: dict[str, Any] = self.ask("GET", f"/v1/runs/{run_id}")["data"]
        return data


class FunctionScenes:
    """Runs in which the function's process may die; one orchestrator lives through them all."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._orchestrator = world.orchestrator(world.new("db"))
        world.register()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the orchestrator."""
        self._world.zygote.kill(self._orchestrator.pid)

    def play(self, event: str, at: str = "", data: dict[str, Any] | None = None) -> Played:
        """Run the function for `event`; kill its process at `at`."""
        world, zygote, played = self._world, self._world.zygote, Played()
        trace = world.new("trace")
        first = last = world.function(at, trace)
        try:
            runs = world.send(event, trace.name, data)
            if await_death(zygote, first, runs[0], at):
                played.answered = named(read_trace(trace), "checkpoint.confirmed")
                played.confirmed = set(world.journal(runs[0]))
                last = world.function()
            zygote.until(lambda: runs[0] in zygote.ended, f"the end after a kill at {at}")
        finally:
            zygote.kill(first.pid)
            zygote.kill(last.pid)
        if last is not first:
            played.killed = zygote.exited[first.pid]
        _look_back(world, played, trace, runs)
        return played


class OrchestratorScenes:
    """Runs in which the orchestrator's process may die, each with a database of its own."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left: a scene ends its own processes."""

    def play(self, event: str, at: str = "") -> Played:
        """Run the function for `event`; kill the orchestrator at `at`."""
        scene = _OrchestratorScene(self._world, at)
        zygote = self._world.zygote
        try:
            runs = scene.play(event)
            zygote.kill(scene.function.pid)
            _look_back(self._world, scene.played, scene.trace, runs)
        finally:
            zygote.kill(scene.function.pid)
            zygote.kill(scene.current.pid)
        return scene.played


class _OrchestratorScene:
    def __init__(self, world: World, at: str) -> None:
        self._world, self._at = world, at
        self._db, self.trace, self._calls = world.new("db"), world.new("trace"), world.new("calls")
        self.function = world.function(trace=self._calls)
        self._first = self.current = world.orchestrator(self._db, at, self.trace)
        self.played = Played()

    def play(self, event: str) -> list[str]:
        """From the first request to the end of the run; returns the runs that there are."""
        world, zygote = self._world, self._world.zygote
        if self._first.pid in zygote.exited:
            self._restart()
        self._surviving(world.register)
        self._surviving(lambda: world.send(event, self.trace.name))
        (run_id, *more) = self._surviving(world.all_runs)
        if self.current is self._first and await_death(zygote, self._first, run_id, self._at):
            self._restart()
        if self._surviving(lambda: world.view(run_id))["status"] == "Running":
            # A run that ended before its orchestrator died is not told of again.
            zygote.until(lambda: run_id in zygote.ended, f"the end after a kill at {self._at}")
        if self.current is not self._first:
            self.played.killed = zygote.exited[self._first.pid]
        return [run_id, *more]

    def _surviving(self, request: Callable[[], T]) -> T:
        """Do what a client does: ask again when the orchestrator died over its request."""
        try:
            return request()
        except httpx.TransportError:
            zygote, pid = self._world.zygote, self._first.pid
            zygote.until(lambda: pid in zygote.exited, "the end of the orchestrator")
            self._restart()
            return request()

    def _restart(self) -> None:
        """Look at what the dead process left, and start another on the same file and port."""
        played = self.played
        played.answered = named(read_trace(self._calls), "checkpoint.confirmed")
        played.answered |= named(read_trace(self.trace), "answer.after") - {"e", "fn"}
        played.confirmed = memoized_in(self._db, self._world.new("copy"))
        self.current = self._world.orchestrator(self._db)


def _look_back(world: World, played: Played, trace: Path, runs: list[str]) -> None:
    """Take down how it all ended, when nothing of the run moves any more."""
    played.trace, played.runs = read_trace(trace), len(runs)
    played.run, played.journal = world.view(runs[0]), world.journal(runs[0])
    played.ledger = Ledger.of(world.ledger, runs[0])


def memoized_in(db: Path, copy: Path) -> set[str]:
    """The steps that a dead orchestrator left in `db`, read from a `copy`: looking repairs it."""
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{db}{suffix}", f"{copy}{suffix}")
    with contextlib.closing(sqlite3.connect(copy)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'steps'").fetchone():
            return set()
        return {name for (name,) in database.execute("SELECT name FROM steps") if name not in WAITS}


def crash(at: str, trace: Path | None) -> dict[str, str]:
    """The variables that say where a process dies and where it writes down what it passes."""
    return {CRASH_AT: at, CRASH_TRACE: str(trace or "")}


def await_death(zygote: Zygote, process: Process, run_id: str, at: str) -> bool:
    """Wait for the end of the run, or for that of `process`; whether it died."""
    pid = process.pid
    if not at:
        zygote.until(lambda: run_id in zygote.ended, "the end of the run")
        return False
    zygote.until(
        lambda: pid in zygote.exited or run_id in zygote.ended, f"a kill at {at}, or the end"
    )
    zygote.until(lambda: pid in zygote.exited, f"a kill at {at}; the run has ended", LATE_S)
    return True


def named(trace: list[Reached], name: str) -> set[str]:
    """The labels of every place `name` in `trace`."""
    return {label for reached in trace if reached.name == name for label in reached.labels}


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nothing listens on."""
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [listener.getsockname()[1] for listener in listeners]


@contextlib.contextmanager
def world_in(folder: Path) -> Iterator[World]:
    """A world, and the proof that nothing of it is left afterwards."""
    with World(folder) as world:
        yield world
    assert world.zygote.group_is_gone, "a process was left behind"
