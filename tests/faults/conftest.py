from __future__ import annotations

from collections.abc import Iterator

import pytest

from onward.core import retry
from onward.transport import channel
from tests.support.harness import Platform, clean_environment
from tests.support.loops import LoopThread
from tests.support.wsgi_server import WsgiThread


@pytest.fixture(scope="package")
def platform() -> Iterator[Platform]:
    with LoopThread("orchestrator") as loops, LoopThread("app") as app_loops, WsgiThread() as wsgi:
        yield Platform(loops, app_loops, wsgi)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come sooner; nothing that the runtime reads is set."""
    clean_environment(monkeypatch)
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.005)
    monkeypatch.setattr(channel, "TRY_TIMEOUT", 5.0)
