from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from onward.execution.abandoned import abandoned
from onward.execution.workers import workers
from tests.support.entries import AsgiEntry, AsgiServer
from tests.support.entry_fixtures import (
    api,
    asgi,
    asgi_server,
    clean_environment,
    closed_channels,
    driver,
    entry,
    no_kill,
    vercel,
    wsgi,
    wsgi_server,
)
from tests.support.loops import eventually

__all__ = [
    "api",
    "asgi",
    "asgi_server",
    "clean_environment",
    "closed_channels",
    "driver",
    "entry",
    "no_kill",
    "vercel",
    "wsgi",
    "wsgi_server",
]


def _busy_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    idle = len(workers._idle)
    busy = [name for name in names if name == "onward-worker"][idle:]
    return busy + [name for name in names if name.startswith("Thread-")]


@pytest.fixture(autouse=True)
def nothing_stays_behind(closed_channels: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """At the end no worker is busy, no timer waits, and the server's loop has no task."""
    served = "asgi" in request.fixturenames or "asgi_server" in request.fixturenames
    if "entry" in request.fixturenames:
        served = isinstance(request.getfixturevalue("entry"), AsgiEntry)
    server: AsgiServer | None = request.getfixturevalue("asgi_server") if served else None
    yield
    eventually(lambda: not _busy_threads(), f"threads are left: {_busy_threads()}")
    if server is not None:
        eventually(lambda: not server.tasks(), "tasks are left in the server's loop")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left behind is counted from 0."""
    monkeypatch.setattr(abandoned, "count", 0)


@pytest.fixture
def ended() -> Iterator[threading.Event]:
    """Set at the end of the test: what could not be stopped ends then."""
    event = threading.Event()
    yield event
    event.set()
