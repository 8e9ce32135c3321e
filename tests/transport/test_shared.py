"""An app has one channel and one set of keys, however many threads need them first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import onward
from onward.transport import channel as module


@pytest.mark.parametrize("kind", ["Channel", "Keys"])
def test_threads_that_come_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first calls that a WSGI server gets, for one: each of them would open connections."""
    together = threading.Barrier(4)
    made: Any = getattr(module, kind)

    class Slow(made):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            together.wait(30)
            super().__init__(*args, **options)

    monkeypatch.setattr(module, kind, Slow)
    app = onward.App("shop", dev=True)
    with ThreadPoolExecutor(4) as pool:
        get = (lambda _: app.channel) if kind == "Channel" else (lambda _: app.keys())
        got = list(pool.map(get, range(4)))
    assert len(set(map(id, got))) == 1
    assert got[0] is (app.channel if kind == "Channel" else app.keys())
