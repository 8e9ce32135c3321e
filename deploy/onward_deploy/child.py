"""A child process in a group of its own, with a private channel; nothing of it outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

from onward_deploy import channel as wire
from onward_deploy.errors import UsageError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: How long a pipe is drained after the end of the process; one that it daemonized may hold it open.
OUTPUT_GRACE_S = 1.0


class Child:
    """`python -m MODULE --channel N --parent PID ARGUMENTS`. Methods may be called on any thread.

    `output` is called with each line that the process writes, from a thread of its own;
    `descriptors` are inherited by the process beside its end of the channel.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        output: Callable[[str], None],
        descriptors: Sequence[int] = (),
    ) -> None:
        self.channel, theirs = socket.socketpair()
        self._write = output
        command = [sys.executable, "-m", module, "--channel", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [*command, "--parent", str(os.getpid()), *arguments],
                # What was printed before a kill is to be seen.
                env={**environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), *descriptors),
                # Ctrl-C reaches the parent only, which decides; and a kill reaches the whole group.
                start_new_session=True,
            )
        self._lock = threading.Lock()
        self._gone = threading.Event()
        self._output = threading.Thread(target=self._pump, name="child output", daemon=True)
        self._output.start()
        threading.Thread(target=self._reap, name="child exit", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return not self._gone.is_set()

    def _pump(self) -> None:
        pipe: IO[bytes] | None = self._process.stdout
        if pipe is None:
            return
        with pipe:
            for line in pipe:
                self._write(line.decode(errors="replace").rstrip("\r\n"))

    def _reap(self) -> None:
        """When the process ends: end what it started too, and wake whoever waits for it."""
        if sys.platform != "darwin" or sys.version_info >= (3, 13):
            # Without reaping, so that its id, which is the group's, cannot be anybody else's yet.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            self.kill()
        with self._lock:
            self._process.wait()
            self._gone.set()
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RD)

    def kill(self) -> None:
        """SIGKILL the process and everything that it started; a no-op when it has ended."""
        with self._lock:
            if self.alive:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end of the process and of its output.

        Returns the exit status, negative for a signal; None when `seconds` passed before the end.
        """
        if not self._gone.wait(seconds):
            return None
        self._output.join(OUTPUT_GRACE_S)
        return int(self._process.returncode)

    def close(self) -> None:
        """Kill the process, wait for its end, give the channel back."""
        self.kill()
        self.wait()
        self.channel.close()

    def stop(self, seconds: float) -> None:
        """Close the channel, which asks the process to end; kill it `seconds` later."""
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)
        self.wait(seconds)
        self.close()


def ended_how(exit_status: int | None) -> str:
    """An exit status in words: `exited with status 3`, `was ended by SIGSEGV`."""
    if exit_status is None:
        return "did not end"
    if exit_status >= 0:
        return f"exited with status {exit_status}"
    try:
        name = signal.Signals(-exit_status).name
    except ValueError:
        name = f"signal {-exit_status}"
    return f"was ended by {name}"


def first_word(child: Child, target: str) -> dict[str, Any]:
    """The child's `ready` message.

    Raises UsageError with the child's own words when it refused `target`, and WorkerError when it
    ended without a word.
    """
    message = wire.receive(child.channel)
    if message is None:
        status = child.wait()
        raise WorkerError(
            f"The process {ended_how(status)} while it imported {target}. What it printed is above."
        )
    if message["kind"] == "refused":
        child.wait()
        raise UsageError(message["message"], details=message["details"])
    return message
