"""Which invocation a task belongs to: whatever tasks user code makes, its driver knows them."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from typing import Any, Protocol


class TaskOwner(Protocol):
    """Whoever wants to know the tasks that are made in its context."""

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """A task that was made."""


owner_of_tasks: ContextVar[TaskOwner | None] = ContextVar("onward_driver", default=None)


def track_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Before Python 3.12 a task does not tell its context: note whose it is when it is made."""
    if sys.version_info >= (3, 12) or getattr(loop, "_onward_tracks", False):
        return
    previous = loop.get_task_factory()

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        if previous is None:
            task: Any = asyncio.Task(coro, loop=loop, **options)
        else:
            task = previous(loop, coro, **options)
        context = options.get("context")
        owner = context.get(owner_of_tasks) if context is not None else owner_of_tasks.get()
        if owner is not None:
            owner.adopt(task)
        return task

    loop.set_task_factory(factory)
    loop._onward_tracks = True  # type: ignore[attr-defined]  # noqa: SLF001 - once a loop
