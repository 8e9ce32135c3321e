"""The outside ledger: which bodies really started and ended, whatever the runtime believes.

The worker appends a line just before a body starts and one after it returned, each with a single
write to a file opened for appending, so that a SIGKILL at any moment leaves whole lines.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from onward.app import BodyEvent


@dataclass(frozen=True, slots=True)
class StepKey:
    """One step of one run: the user's id and, for the n-th repeat of it, n (from 0)."""

    run_id: str
    step_id: str
    index: int

    @property
    def label(self) -> str:
        """The id as Onward writes it: `chunk`, and `chunk:2` for a repeat."""
        return f"{self.step_id}:{self.index}" if self.index else self.step_id


class LedgerWriter:
    """Appends body events to the file `path`; a callback for `onward.testing.observe_bodies`.

    `invocation` is what the lines say about where a body ran; the worker sets it.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.invocation = 0

    def __call__(self, event: BodyEvent) -> None:
        """Append `event`. Raises OSError: a ledger with holes would be worse than a failed step."""
        line = json.dumps(
            {
                "run": event.run_id,
                "step": event.step_id,
                "index": event.index,
                "attempt": event.attempt,
                "phase": event.phase,
                "invocation": self.invocation,
                "at": time.time(),
            }
        )
        os.write(self._file, f"{line}\n".encode())


@dataclass
class InvocationSteps:
    """What one invocation's bodies did: labels, in the order in which they started and ended."""

    started: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    @property
    def in_flight(self) -> list[str]:
        """Bodies that started here and did not return here."""
        left = Counter(self.started)
        left.subtract(self.ended)
        return [label for label in dict.fromkeys(self.started) if left[label] > 0]


class Ledger:
    """Reads the file that workers append to; `refresh` takes in what is new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts: Counter[StepKey] = Counter()
        self.ends: Counter[StepKey] = Counter()
        self.invocations: dict[int, InvocationSteps] = {}
        self._offset = 0

    def refresh(self) -> None:
        """Take in every whole line that was written since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        entry = json.loads(line)
        key = StepKey(entry["run"], entry["step"], entry["index"])
        here = self.invocations.setdefault(entry["invocation"], InvocationSteps())
        if entry["phase"] == "start":
            self.starts[key] += 1
            here.started.append(key.label)
        else:
            self.ends[key] += 1
            here.ended.append(key.label)

    def of(self, invocation: int) -> InvocationSteps:
        """What the bodies of `invocation` did so far."""
        return self.invocations.get(invocation) or InvocationSteps()

    @property
    def steps(self) -> int:
        """How many distinct steps have returned."""
        return len(self.ends)

    @property
    def repeated(self) -> list[str]:
        """Labels of the steps whose body was started more than once."""
        return [key.label for key, starts in self.starts.items() if starts > 1]
