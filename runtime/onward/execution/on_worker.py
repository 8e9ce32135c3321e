"""Blocking work of async code, on threads of Onward's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from onward.execution.workers import workers

_T = TypeVar("_T")


async def on_worker(job: Callable[[], _T]) -> _T:
    """The result of blocking `job`, on a thread of Onward's. The loop goes on meanwhile."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def work() -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = job()
        except BaseException as raised:  # noqa: BLE001 - raised again for whoever waits
            error = raised
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            return  # the loop was closed: nobody waits any more

    workers.submit(work)
    return await done
