from __future__ import annotations

import pytest

from onward.core import retry
from onward.transport import channel
from tests.support.entry_fixtures import (
    api,
    asgi,
    asgi_server,
    clean_environment,
    closed_channels,
    driver,
    entry,
    http,
    no_kill,
    vercel,
    wsgi,
    wsgi_server,
)

__all__ = [
    "api",
    "asgi",
    "asgi_server",
    "clean_environment",
    "closed_channels",
    "driver",
    "entry",
    "http",
    "no_kill",
    "vercel",
    "wsgi",
    "wsgi_server",
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come sooner, and an answer that does not come is given up sooner."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.005)
    monkeypatch.setattr(channel, "TRY_TIMEOUT", 0.1)


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fail_after` and `take` may change how long an outage is waited out, for this test."""
    monkeypatch.setattr(channel, "RETRY_BUDGET", retry.RETRY_BUDGET)
