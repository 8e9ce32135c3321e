"""The event loop for async code that has none of its own: one a process, on a thread.

Async bodies of blocking functions run there, and async functions under WSGI servers.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any

from onward.execution.workers import BodyCut

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def side_loop() -> asyncio.AbstractEventLoop:
    """The loop; it starts with its first use."""
    global _loop  # noqa: PLW0603 - clients that bodies keep are bound to one loop for good
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=_loop.run_forever, name="onward-async-bodies", daemon=True
            )
            thread.start()
        return _loop


def _forget() -> None:
    """In a forked child the loop's thread is not there."""
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def await_on_side_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of `coroutine`. Whoever is interrupted while it waits cancels it."""
    future = asyncio.run_coroutine_threadsafe(coroutine, side_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def run_on_side_loop(
    coroutine: Coroutine[Any, Any, Any],
    *,
    stoppable: Callable[[Callable[[], object]], None],
    stopped: Callable[[], bool],
) -> Any:
    """The result of `coroutine`, in the caller's context.

    `stoppable` gets what stops it, `stopped` says whether that was meant: then it raises `BodyCut`.
    """
    loop = side_loop()
    variables = copy_context()
    done: Future[Any] = Future()

    async def settle() -> None:
        """Whatever the body raises is its outcome, and must not end the loop."""
        try:
            done.set_result(await coroutine)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            done.set_exception(error)

    def start() -> None:
        task = loop.create_task(settle(), context=variables)
        done.add_done_callback(lambda _: task)  # the loop itself keeps no task alive
        stoppable(lambda: loop.call_soon_threadsafe(task.cancel))

    loop.call_soon_threadsafe(start)
    try:
        return done.result()
    except asyncio.CancelledError:
        if stopped():
            raise BodyCut from None
        raise
