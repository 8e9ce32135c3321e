"""The event loop on which async bodies of blocking functions run: one a process, on a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextvars import copy_context
from typing import Any

from onward.execution.workers import BodyCut

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _side_loop() -> asyncio.AbstractEventLoop:
    global _loop  # noqa: PLW0603 - clients that bodies keep are bound to one loop for good
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=_loop.run_forever, name="onward-async-bodies", daemon=True
            )
            thread.start()
        return _loop


def run_on_side_loop(
    coroutine: Coroutine[Any, Any, Any], stoppable: Callable[[Callable[[], object]], None]
) -> Any:
    """The result of `coroutine`, in the caller's context.

    `stoppable` gets what stops it; it then raises `BodyCut`.
    """
    import concurrent.futures

    loop = _side_loop()
    variables = copy_context()
    done: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def start() -> None:
        task = loop.create_task(coroutine, context=variables)
        task.add_done_callback(lambda _: _settle(task, done))
        stoppable(lambda: loop.call_soon_threadsafe(task.cancel))

    loop.call_soon_threadsafe(start)
    try:
        return done.result()
    except CancelledError:
        raise BodyCut from None


def _settle(task: asyncio.Task[Any], done: Any) -> None:
    if task.cancelled():
        done.set_exception(CancelledError())
    elif (error := task.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())
