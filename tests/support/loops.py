"""Event loops on threads of their own: a test keeps the main thread for the code it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self, TypeVar

from onward_server.serving import serve_asgi

_T = TypeVar("_T")

#: Long enough for any machine: what takes it hangs.
HANGS_AFTER_S = 60.0


class LoopThread:
    """A running event loop. What was entered in it is left, last first, when it is closed."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._left = AsyncExitStack()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._left.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(HANGS_AFTER_S)
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """The result of `coroutine`, run in this loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(HANGS_AFTER_S)

    def enter(self, manager: AbstractAsyncContextManager[_T]) -> _T:
        """Enter `manager` until this loop is closed."""
        return self.run(self._left.enter_async_context(manager))

    def serve(self, asgi_app: Any) -> str:
        """Serve an ASGI app on a free port of loopback; its address."""
        return self.enter(serve_asgi(asgi_app)).url

    async def _tasks(self) -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - {asyncio.current_task()}

    def tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks of the loop that have not ended."""
        return self.run(self._tasks())


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until `holds`, which nothing announces. Fails with `what` when it never does."""
    until = time.monotonic() + HANGS_AFTER_S
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.001)
