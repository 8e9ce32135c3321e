"""Runs the real command line in processes of its own, and watches what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
APPS = Path(__file__).parent / "apps"
PIPELINE = str(APPS / "pipeline.py")

#: A child process that hangs must fail the test, not stop it.
PATIENCE_S = 60.0

_COMMAND = [sys.executable, "-m", "onward_deploy"]

# Begun in the background, a shell has the tests ignore Ctrl-C, and with them all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def environment(**changes: str) -> dict[str, str]:
    """The environment of the command: this checkout, and no orchestrator but its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("INNGEST_")}
    paths = [str(ROOT / "runtime"), str(ROOT / "deploy"), kept.get("PYTHONPATH", "")]
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return {**kept, "COLUMNS": "100", "NO_COLOR": "1", **changes}


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON value that it has to be."""
        return json.loads(self.out)

    @property
    def last_line(self) -> str:
        """The last line of standard output."""
        return self.out.rstrip("\n").rpartition("\n")[2]


def onward(*arguments: str, cwd: Path | None = None, stdin: str = "", **changes: str) -> Done:
    """Run `onward ARGUMENTS` to its end."""
    done = subprocess.run(
        [*_COMMAND, *arguments],
        cwd=cwd or ROOT,
        env=environment(**changes),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_json(*arguments: str, **options: Any) -> dict[str, Any]:
    """`onward run ARGUMENTS --json`, which has to complete: its one object."""
    done = onward("run", *arguments, "--json", **options)
    assert done.status == 0, done
    report: dict[str, Any] = done.json
    return report


@dataclass
class Running:
    """A command that goes on. Lines of its standard output come through `next_line`."""

    process: subprocess.Popen[str]
    lines: SimpleQueue[str] = field(default_factory=SimpleQueue)
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            threading.Thread(target=self._pump, args=(stream,), daemon=True).start()

    def _pump(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.lines.put(line.rstrip("\n"))

    def wait_for(self, text: str) -> str:
        """The next line, of either stream, that contains `text`."""
        until = time.monotonic() + PATIENCE_S
        while (left := until - time.monotonic()) > 0:
            try:
                line = self.lines.get(timeout=left)
            except Empty:
                break
            self.seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"no line with {text!r}; there was: {self.seen}")

    def wait_for_json(self, **fields: Any) -> dict[str, Any]:
        """The next line that is a JSON object with these fields."""
        while True:
            line = self.wait_for("{")
            with contextlib.suppress(ValueError):
                value: dict[str, Any] = json.loads(line)
                if all(value.get(key) == wanted for key, wanted in fields.items()):
                    return value

    def end(self, signal_: int = signal.SIGINT) -> int:
        """Send `signal_` and wait for the end. Returns the exit status."""
        self.process.send_signal(signal_)
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def started(*arguments: str, cwd: Path | None = None, **changes: str) -> Any:
    """`onward ARGUMENTS` as a `Running`; what is left of it at the end is killed."""
    with subprocess.Popen(
        [*_COMMAND, *arguments],
        cwd=cwd or ROOT,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def wait_until(condition: Any, what: str) -> None:
    """Wait until `condition()` holds: for things in other processes that tell nobody."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, f"never came true: {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process `pid` runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return False
        return (
            subprocess.run(["ps", "-p", str(pid)], check=False, capture_output=True).returncode == 0
        )
    return stat.rpartition(")")[2].split()[0] != "Z"


def descendants(pid: int) -> list[int]:
    """The ids of the processes that `pid` started, and those that they started."""
    children: dict[int, list[int]] = {}
    for child, parent in _processes():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    queue = [pid]
    while queue:
        new = children.get(queue.pop(), [])
        found += new
        queue += new
    return found


def _processes() -> Iterator[tuple[int, int]]:
    """Every process and its parent; small Linux systems have no `ps`."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, _, rest = stat.read_text().partition(" ")
            yield int(pid), int(rest.rpartition(")")[2].split()[1])
    if not Path("/proc/self/stat").exists():
        table = subprocess.run(
            ["ps", "-e", "-o", "pid=,ppid="], check=True, capture_output=True, text=True
        ).stdout
        for line in table.splitlines():
            child, parent = map(int, line.split())
            yield child, parent
