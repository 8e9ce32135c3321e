"""Interrupting a stretch of code: before it begins, in its midst, masked, and after its end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from onward.execution.workers import BodyCut, Interruptible, prepare_main_thread
from tests.support.checkpoint_api import HANGS_AFTER_S
from tests.watchdog.bodies import spin


def on_a_thread(job: Callable[[], None]) -> None:
    """Run `job` elsewhere than on the main thread; what it raises is raised here."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - raised again
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(HANGS_AFTER_S)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


def here(job: Callable[[], None]) -> None:
    prepare_main_thread()
    job()


WHERE = pytest.mark.parametrize("run", [here, on_a_thread])


@WHERE
def test_one_that_is_interrupted_before_it_begins_does_not_begin(
    run: Callable[[Callable[[], None]], None],
) -> None:
    stretch = Interruptible()
    stretch.interrupt()

    def job() -> None:
        with pytest.raises(BodyCut), stretch:
            pytest.fail("it began")

    run(job)


@WHERE
def test_one_is_interrupted_in_its_midst(run: Callable[[Callable[[], None]], None]) -> None:
    stretch = Interruptible()

    def job() -> None:
        other = threading.Timer(0.01, stretch.interrupt)
        other.start()
        with pytest.raises(BodyCut), stretch:
            spin(lambda: False)
        other.join()

    run(job)


@WHERE
def test_what_comes_after_it_is_left_alone(run: Callable[[Callable[[], None]], None]) -> None:
    stretch = Interruptible()

    def job() -> None:
        with stretch:
            pass
        other = threading.Thread(target=stretch.interrupt)
        other.start()
        spin(lambda: not other.is_alive())
        other.join()
        assert sum(range(1000)) == 499_500

    run(job)


@WHERE
def test_a_masked_stretch_is_interrupted_when_it_is_unmasked(
    run: Callable[[Callable[[], None]], None],
) -> None:
    stretch = Interruptible()

    def job() -> None:
        with stretch:
            stretch.masked = True
            other = threading.Thread(target=stretch.interrupt)
            other.start()
            spin(lambda: not other.is_alive())
            with pytest.raises(BodyCut):
                stretch.unmask()

    run(job)


@WHERE
def test_an_interrupt_at_any_moment_reaches_it_or_nothing(
    run: Callable[[Callable[[], None]], None],
) -> None:
    """Around its end: BodyCut never leaves the stretch's own `try`, and never comes later."""
    outcomes = {"cut": 0, "ended": 0}

    def once(turns: int) -> None:
        stretch = Interruptible()
        other = threading.Thread(target=stretch.interrupt)
        other.start()
        try:
            with stretch:
                for _ in range(turns):
                    pass
        except BodyCut:
            outcomes["cut"] += 1
        else:
            outcomes["ended"] += 1
        other.join()
        assert sum(range(100)) == 4950

    def job() -> None:
        for turns in range(150):
            once(turns * 200)

    run(job)
    assert sum(outcomes.values()) == 150
