"""Real processes, really killed: nothing confirmed is lost or repeated, and the run ends."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import onward_server
from tests.server.fakes import registration

STEPS = 12
HANGS_AFTER_S = 60.0
SOURCES = Path(onward_server.__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A process that tells on stdout what it does."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def until(self, start: str) -> str:
        while True:
            line = self.lines.get(timeout=HANGS_AFTER_S)
            if line.startswith(start):
                return line

    def until_step(self, number: int) -> None:
        """Until a step from `number` on is confirmed: a kill may swallow the word of one."""
        while int(self.until("ok").split()[1]) < number:
            pass

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()


class World:
    """An orchestrator and a function, each of which may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self.port = free_port()
        self.function_port = free_port()
        self.orchestrator = self.start_orchestrator()
        self.function = self.start_function()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_orchestrator(self) -> Process:
        process = Process(
            "-m",
            "onward_server",
            "--db",
            str(self.folder / "runs.db"),
            "--port",
            str(self.port),
            "--retry-base",
            "0.05",
        )
        assert json.loads(process.until("{"))["url"] == self.url
        return process

    def start_function(self) -> Process:
        script = Path(__file__).with_name("crash_function.py")
        process = Process(
            str(script), str(self.function_port), self.url, str(self.ledger), str(STEPS)
        )
        process.until("ready")
        return process

    def begin(self) -> str:
        url = f"http://127.0.0.1:{self.function_port}/x"
        body = registration("f", url=url, retries=15)  # the function may need a while to start
        assert self.post("/fn/register", body)["ok"]
        [event_id] = self.post("/e/key", {"name": "app/f"})["ids"]
        [run] = self.get(f"/v1/events/{event_id}/runs")["data"]
        return str(run["run_id"])

    def post(self, path: str, body: Any) -> Any:
        return httpx.post(self.url + path, json=body, trust_env=False).json()

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, trust_env=False).json()

    def ended(self, run_id: str) -> dict[str, Any]:
        give_up = time.monotonic() + HANGS_AFTER_S
        while time.monotonic() < give_up:
            run: dict[str, Any] = self.get(f"/v1/runs/{run_id}")["data"]
            if run["status"] != "Running":
                return run
            time.sleep(0.02)  # another process: there is nothing to wait for but its answer
        raise AssertionError(f"run {run_id} did not end; the ledger: {self.ledger.read_text()}")

    def close(self) -> None:
        self.orchestrator.kill()
        self.function.kill()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with contextlib.closing(World(tmp_path)) as world:
        yield world


def check(world: World, run: dict[str, Any], kills: int) -> None:
    """Every step ran, none after it was confirmed, and each kill repeated at most one."""
    assert (run["status"], run["output"]) == ("Completed", list(range(STEPS)))
    lines = world.ledger.read_text().splitlines()
    confirmed: set[str] = set()
    for line in lines:
        word, number = line.split()
        assert not (word == "run" and number in confirmed), f"step {number} ran again: {lines}"
        if word == "ok":
            confirmed.add(number)
    runs = [line.split()[1] for line in lines if line.startswith("run")]
    assert {int(number) for number in runs} == set(range(STEPS))
    assert len(runs) <= STEPS + kills, lines
    steps = world.get(f"/v1/runs/{run['run_id']}/steps")["data"]
    assert [step["entry"] for step in steps] == [{"data": n} for n in range(STEPS)]


@pytest.mark.parametrize("after", [0, 5, STEPS - 1])
def test_the_orchestrator_is_killed(world: World, after: int) -> None:
    run_id = world.begin()
    world.function.until_step(after)
    world.orchestrator.kill()
    world.orchestrator = world.start_orchestrator()
    check(world, world.ended(run_id), kills=1)


@pytest.mark.parametrize("after", [0, 5, STEPS - 1])
def test_the_function_is_killed(world: World, after: int) -> None:
    run_id = world.begin()
    world.function.until_step(after)
    world.function.kill()
    world.function = world.start_function()
    check(world, world.ended(run_id), kills=1)


def test_both_are_killed_again_and_again(world: World) -> None:
    run_id = world.begin()
    for after in (2, 4, 6):
        world.function.until_step(after)
        world.orchestrator.kill()
        world.function.kill()
        world.orchestrator = world.start_orchestrator()
        world.function = world.start_function()
    check(world, world.ended(run_id), kills=6)


def test_it_ends_by_a_signal_and_says_what_is_wrong(tmp_path: Path) -> None:
    port = free_port()
    command = ["-m", "onward_server", "--db", str(tmp_path / "runs.db"), "--port"]
    running = Process(*command, str(port))
    try:
        running.until("{")
        second = subprocess.run(
            [sys.executable, *command[:3], ":memory:", "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            timeout=HANGS_AFTER_S,
        )
        assert second.returncode == 1
        assert f"Port {port} on 127.0.0.1 is in use" in second.stderr
        running.process.terminate()
        assert running.process.wait(timeout=HANGS_AFTER_S) == 0
    finally:
        running.kill()
