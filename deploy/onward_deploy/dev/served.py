"""The app's process under `onward dev`: started, watched, replaced when it ends."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from onward_deploy.child import Child, ended_how, first_word
from onward_deploy.dev.app_server import STOP_GRACE_S
from onward_deploy.errors import UsageError, WorkerError
from onward_server.serving import listen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Delay before an app that ended is started again; it doubles while the app does not stay up.
RESTART_S, RESTART_MAX_S = 0.5, 10.0
#: An app that lived this long is taken to be well.
STEADY_S = 10.0


class ServedApp:
    """The app `target`, served by a process of its own on a loopback port that stays the same.

    The socket is this process's: while the app is being replaced, calls wait in its backlog and
    use up no attempt. `output` is called with each line that the app writes, from another thread;
    `notice` with a line about the process itself.
    """

    def __init__(
        self,
        target: str,
        *,
        environment: Mapping[str, str],
        output: Callable[[str], None],
        notice: Callable[[str], None],
    ) -> None:
        self._target = target
        self._environment = environment
        self._output = output
        self._notice = notice
        self._listener = listen()
        self._child: Child | None = None

    async def start(self) -> dict[str, Any]:
        """Start the process and wait until it serves. Returns the app's registration.

        Raises UsageError when the app cannot be loaded, WorkerError when its process ends.
        """
        self._child = Child(
            "onward_deploy.dev.app_server",
            ["--listener", str(self._listener.fileno()), self._target],
            environment=self._environment,
            output=self._output,
            descriptors=(self._listener.fileno(),),
        )
        message = await asyncio.to_thread(first_word, self._child, self._target)
        registration: dict[str, Any] = message["registration"]
        return registration

    async def watch(self, started: Callable[[dict[str, Any]], Any]) -> None:
        """Replace the process whenever it ends; `started` awaits each new registration."""
        delay = RESTART_S
        while True:
            child, since = self._child, time.monotonic()
            status = await asyncio.to_thread(child.wait) if child else None
            if time.monotonic() - since > STEADY_S:
                delay = RESTART_S
            self._notice(f"the app's process {ended_how(status)}; starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, RESTART_MAX_S)
            if child is not None:
                child.close()
            try:
                await started(await self.start())
            except (UsageError, WorkerError) as error:
                details = error.details if isinstance(error, UsageError) else ""
                self._notice(f"{details}\n{error.message}".strip())

    async def stop(self) -> None:
        """Let calls in flight end for a moment, then end the process."""
        if self._child is not None:
            await asyncio.to_thread(self._child.stop, STOP_GRACE_S + 1)
        self._listener.close()
