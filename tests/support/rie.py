"""AWS's Lambda Runtime Interface Emulator around a function, for tests on Linux.

The emulator enforces the timeout as Lambda does: the runtime process gets SIGKILL, no `finally`
runs, and the next call starts a new process. It takes one call at a time.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools.rie import emulator

INVOKE_PATH = "/2015-03-31/functions/function/invocations"
MARK = "ONWARD_RIE_MARK"
START_LIMIT_S = 20.0


@dataclass(frozen=True)
class RieAnswer:
    """What the emulator answered: a timeout and a raised error both have status 200."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    @property
    def timed_out(self) -> bool:
        """Whether the emulator killed the function at its timeout."""
        return b"Task timed out after" in self.body


class Rie:
    """A Lambda function in the emulator, on free ports of the loopback; a context manager.

    Args:
        handler: `module.function`, as in a template's `Handler`.
        bundle: The folder with the function's code.
        timeout_s: The function's timeout in whole seconds, as Lambda has it.
        env: Further environment variables of the function.
        memory: The function's memory size in MB (told, not enforced).
        name: The function's name.
    """

    def __init__(
        self,
        handler: str,
        bundle: str | Path,
        *,
        timeout_s: int = 3,
        env: Mapping[str, str] | None = None,
        memory: int = 512,
        name: str = "function",
    ) -> None:
        self.handler = handler
        self.bundle = Path(bundle)
        self.timeout_s = timeout_s
        self.name = name
        self._mark = uuid.uuid4().hex
        self._env = {
            **_inherited(),
            **(env or {}),
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout_s),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "LAMBDA_TASK_ROOT": str(self.bundle),
            "PYTHONPATH": str(self.bundle),
            "PYTHONUNBUFFERED": "1",
            MARK: self._mark,
        }
        self._emulator: subprocess.Popen[bytes] | None = None
        self._log = tempfile.NamedTemporaryFile(prefix="onward-rie-", suffix=".log", delete=False)  # noqa: SIM115
        self._port = 0

    @property
    def endpoint(self) -> str:
        """The emulator's base URL, as boto3's `endpoint_url` takes it."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Start the emulator and wait until it listens."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the emulator and everything that it started."""
        self.stop()

    def invoke(
        self, payload: Any, *, headers: Mapping[str, str] | None = None, wait_s: float | None = None
    ) -> RieAnswer:
        """Call the function with `payload` (JSON, or bytes as they are) and return the answer.

        Args:
            payload: The event.
            headers: Further request headers.
            wait_s: How long to wait for the answer, in seconds; the function's timeout and 30 s
                more when left out.
        """
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        wait_s = self.timeout_s + 30.0 if wait_s is None else wait_s
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=wait_s)
        try:
            connection.request("POST", INVOKE_PATH, body, dict(headers or {}))
            response = connection.getresponse()
            return RieAnswer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def pids(self) -> list[int]:
        """Return the processes that run the function now (the emulator itself is not one)."""
        own = self._emulator.pid if self._emulator is not None else None
        return [pid for pid in self._marked() if pid != own]

    def log(self) -> str:
        """Return what the emulator and the function wrote until now."""
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End the emulator and every process that it started, by their ids alone."""
        if self._emulator is not None:
            # The emulator first, or it would start the function again.
            self._emulator.kill()
            self._emulator.wait()
        while left := self._marked():  # SIGKILL cannot be refused, but takes a moment
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        self._emulator = None
        self._log.close()
        with suppress(FileNotFoundError):
            Path(self._log.name).unlink()

    def _start(self) -> None:
        program = str(emulator())
        self._port, runtime_port = _free_ports(2)
        self._emulator = subprocess.Popen(
            [
                program,
                "--log-level",
                "info",
                "--runtime-interface-emulator-address",
                f"127.0.0.1:{self._port}",
                "--runtime-api-address",
                f"127.0.0.1:{runtime_port}",
                sys.executable,
                "-m",
                "awslambdaric",
                self.handler,
            ],
            cwd=self.bundle,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        limit = time.monotonic() + START_LIMIT_S
        while not _listens(self._port):
            if self._emulator.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"the emulator did not start listening:\n{self.log()}")
            time.sleep(0.01)

    def _marked(self) -> list[int]:
        """Return the processes whose environment carries this instance's mark."""
        mark = f"{MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return sorted(found)


def _inherited() -> dict[str, str]:
    """Return the environment that a function may inherit: nothing of AWS, nothing of Onward."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "INNGEST_", "ONWARD_", "PYTHON", "VERCEL"))
    }


def _free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nothing listens on."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def _listens(port: int) -> bool:
    """Whether something accepts connections on this port of the loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
