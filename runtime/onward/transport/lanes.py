"""Threads on which an event loop's requests are made.

They belong to no loop and to no executor: they serve any number of loops, are not joined at exit,
and end when nobody has needed them for a while. A forked child begins without any.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

_T = TypeVar("_T")

#: How many requests are made at a time.
MOST = 16

#: Seconds after which an idle thread ends.
IDLE_S = 5.0


class Lanes:
    """Up to `MOST` daemon threads."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._open = 0

    async def call(self, work: Callable[[], _T]) -> _T:
        """What `work` returns or raises, on a thread. One that is cancelled may still be done."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        variables = copy_context()

        def job() -> None:
            value: Any = None
            failure: BaseException | None = None
            if future.cancelled():
                return
            try:
                value = variables.run(work)
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                failure = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, value, failure)

        self._submit(job)
        return await future

    def _submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._open += 1
            starts = self._threads < min(self._open, MOST)
            self._threads += starts
            self._jobs.put(job)
        if starts:
            threading.Thread(target=self._work, name="onward-requests", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._threads -= 1
                        return
                continue
            job()
            with self._lock:
                self._open -= 1
            del job


def _settle(future: asyncio.Future[Any], value: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(value)


lanes = Lanes()
