"""Threads for bodies: kept while they are needed, and not for ever."""

from __future__ import annotations

import threading

import pytest

from onward.execution import workers as module
from onward.execution.workers import Workers
from tests.support.loops import eventually


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "onward-worker"}


def burst(pool: Workers, jobs: int) -> int:
    """How many different threads so many jobs that wait for each other ran on."""
    together, on = threading.Barrier(jobs + 1), set[int]()

    def job() -> None:
        on.add(threading.get_ident())
        together.wait(30)

    for _ in range(jobs):
        pool.submit(job)
    together.wait(30)
    return len(on)


def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ours()
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    pool = Workers()
    assert burst(pool, 20) == 20
    eventually(lambda: ours() <= before, "threads stay that nobody needs")
    assert burst(pool, 3) == 3


def test_no_job_is_lost_to_a_thread_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs come just when the thread that would take them gives up waiting."""
    monkeypatch.setattr(module, "IDLE_S", 0.0005)
    pool, pause = Workers(), threading.Event()
    for number in range(400):
        ended = threading.Event()
        pool.submit(ended.set)
        assert ended.wait(30)
        pause.wait(0.0004 + number % 10 * 0.00005)
