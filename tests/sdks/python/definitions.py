"""The functions that every app serves, each under its own configuration.

They are written once, as coroutines. An app of blocking functions runs them over the SDK's
blocking steps: those return at once, so that a coroutine that awaits nothing else ends without an
event loop.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import inngest

Handler = Callable[["Tools"], Coroutine[Any, Any, Any]]

FUNCTIONS: list[tuple[str, Handler, Callable[[str], dict[str, Any]]]] = []
_TRACES = os.open(os.environ["TRACES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_failures: Counter[tuple[str, str]] = Counter()
_lock = threading.Lock()


class BoomError(Exception):
    """A failure with a name of its own."""


def define(
    id_: str, options: Callable[[str], dict[str, Any]] | None = None, **fixed: Any
) -> Callable[[Handler], Handler]:
    """Add a function to every app. Its trigger is the event `<app>/<id>`, unless it has others.

    `options` makes the SDK's options from the app's id; those that do not depend on it are `fixed`.
    """

    def add(handler: Handler) -> Handler:
        FUNCTIONS.append((id_, handler, lambda app: {**fixed, **(options(app) if options else {})}))
        return handler

    return add


class Tools:
    """What a function gets: the SDK's context, awaitable steps, and bodies that leave traces."""

    def __init__(self, app: App, context: Any, *, blocking: bool) -> None:
        self.app = app
        self.context = context
        self.event: inngest.Event = context.event
        self.data: dict[str, Any] = dict(context.event.data)
        self.events: list[inngest.Event] = context.events
        self.step: Any = BlockingSteps(context.step) if blocking else context.step
        self.blocking = blocking

    async def parallel(self, *branches: Callable[[], Any], **options: Any) -> list[Any]:
        """The results of steps that are run in parallel."""
        group = self.context.group
        if self.blocking:
            called = tuple(lambda branch=branch: drive(branch()) for branch in branches)
            return list(group.parallel(called, **options))
        return list(await group.parallel(branches, **options))

    def tell(self, label: str, value: Any = None) -> None:
        """Leave a trace outside of the journal: one JSON line, for the test to count."""
        line = {"app": self.app.id, "run": self.context.run_id, "label": label, "value": value}
        os.write(_TRACES, json.dumps(line).encode() + b"\n")

    def did(self, label: str, value: Any = ...) -> Callable[[], Any]:
        """A step's body that leaves a trace and returns `value`."""
        result = label if value is ... else value

        def body() -> Any:
            self.tell(label, result)
            return result

        return self.body(body)

    def shaky(self, label: str, times: float, error: Exception | None = None) -> Callable[[], Any]:
        """A body that leaves a trace each time, and fails `times` times before it returns."""
        return self.body(lambda: self.fail(label, times, error))

    def fail(self, label: str, times: float, error: Exception | None = None) -> str:
        """Leave a trace; fail if that was not done more than `times` times in this run."""
        self.tell(label)
        with _lock:
            _failures[self.context.run_id, label] += 1
            failed = _failures[self.context.run_id, label] <= times
        if failed:
            raise error or BoomError(f"{label} failed")
        return label

    def body(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """`function` as a body: async in an async function."""
        if self.blocking:
            return function

        async def body() -> Any:
            return function()

        return body


class BlockingSteps:
    """The SDK's blocking steps, to be awaited."""

    def __init__(self, step: Any) -> None:
        self._step = step

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._step, name)

        async def awaited(*args: Any, **options: Any) -> Any:
            return call(*args, **options)

        return awaited


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that awaits nothing that is not there."""
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        return stopped.value
    finally:
        coroutine.close()
    raise RuntimeError("a blocking function waited for something that is no step")


class App:
    """One app: its client and its functions, all async or all blocking."""

    def __init__(self, id_: str, client: inngest.Inngest, *, blocking: bool) -> None:
        self.id = id_
        self.client = client
        self.blocking = blocking
        self.functions: dict[str, inngest.Function[Any]] = {}
        for name, handler, options in FUNCTIONS:
            self._add(name, handler, options(id_))

    def _add(self, name: str, handler: Handler, options: dict[str, Any]) -> None:
        own = inngest.TriggerEvent(event=f"{self.id}/{name}")
        settings = {"fn_id": name, "trigger": own, **options}
        if "on_failure" in settings:
            settings["on_failure"] = self._adapted(settings["on_failure"])
        create = self.client.create_function(**settings)
        self.functions[name] = create(self._adapted(handler))

    def _adapted(self, handler: Handler) -> Any:
        if self.blocking:

            def blocking(ctx: inngest.ContextSync) -> Any:
                return drive(handler(Tools(self, ctx, blocking=True)))

            return blocking

        async def function(ctx: inngest.Context) -> Any:
            return await handler(Tools(self, ctx, blocking=False))

        return function
