"""One worker process, seen from the parent: hand it an invocation, kill it in time."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onward_deploy import channel as wire
from onward_deploy.child import Child, first_word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What every worker of a run is started with.

    `output` is called with each line that user code writes, from a thread of its own.
    """

    target: str
    ledger: Path
    environment: Mapping[str, str]
    output: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exchange:
    """How one invocation ended.

    `answer` is None unless the worker answered in time; `raised` says what its handler raised.
    `exit_status` is the process's, negative for a signal, and None while it lives. `seconds` runs
    from handing over the payload.
    """

    seconds: float
    answer: dict[str, Any] | None = None
    raised: str = ""
    exit_status: int | None = None

    @property
    def killed(self) -> bool:
        """Whether the process ended by SIGKILL."""
        return self.exit_status == -signal.SIGKILL


class Worker(Child):
    """A worker process. Its methods block; `kill` may be called from any thread."""

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(
            "onward_deploy.run.worker",
            ["--ledger", str(spec.ledger), spec.target],
            environment=spec.environment,
            output=spec.output,
        )
        self.registration: dict[str, Any] = {}
        self._target = spec.target
        self._turn = threading.Lock()
        self._serving = 0

    def until_ready(self) -> None:
        """Wait until the app is imported; `registration` is then what it would register.

        Raises UsageError with the worker's own words when it refused, and WorkerError when it
        ended without a word.
        """
        self.registration = first_word(self, self._target)["registration"]

    def _expire(self, number: int) -> None:
        with self._turn:
            if self._serving == number:
                self._serving = 0
                self.kill()

    def _in_time(self, number: int) -> bool:
        """End the turn of invocation `number`. Returns whether its time was not up yet."""
        with self._turn:
            in_time = self._serving == number
            self._serving = 0
            return in_time

    def invoke(
        self, number: int, payload: dict[str, Any], *, limit: float, late: float
    ) -> Exchange:
        """Hand over one invocation, counted from 1, and wait for its end.

        The process is killed when `limit` seconds have passed; it is told that it has `late`
        seconds more. A timer thread keeps the time, so that nothing else this process does
        can delay the kill.
        """
        message = {
            "invocation": number,
            "request_id": f"local-{number}",
            "deadline_ms": (time.time() + limit + late) * 1000,
            "payload": payload,
        }
        self._serving = number
        timer = threading.Timer(limit, self._expire, (number,))
        timer.daemon = True
        began = time.monotonic()
        timer.start()
        try:
            wire.send(self.channel, message)
            reply = wire.receive(self.channel)
        except OSError:
            reply = None
        in_time = self._in_time(number)
        seconds = time.monotonic() - began
        timer.cancel()
        if reply is None or not in_time:
            return Exchange(seconds, exit_status=self.wait())
        return Exchange(seconds, reply.get("answer"), _raised(reply))


def _raised(reply: dict[str, Any]) -> str:
    if reply["kind"] != "raised":
        return ""
    return f"{reply['message']}\n{reply['traceback']}"
