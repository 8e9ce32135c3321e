"""Tools for tests of functions: watching bodies from outside."""

from __future__ import annotations

from collections.abc import Callable

from onward.app import App, BodyEvent

__all__ = ["BodyEvent", "observe_bodies"]


def observe_bodies(app: App, callback: Callable[[BodyEvent], None]) -> None:
    """Call `callback` when a body of `app` begins and when it has returned normally.

    It is called in the thread that runs the body, and knows nothing of what Onward does with the
    result.
    """
    app.body_observers.append(callback)
