"""Bodies that are hard to stop."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import time
from collections.abc import Callable

#: Its functions run with the GIL held: no other Python code runs meanwhile.
WITH_GIL = ctypes.PyDLL(None)

#: Longer than any invocation here.
LONG_S = 20.0


def sleep_holding_the_gil(seconds: float) -> None:
    """C code that keeps the GIL for `seconds`."""
    WITH_GIL.usleep(int(seconds * 1e6))


def sum_for(seconds: float) -> int:
    """One call of a built-in that takes about `seconds` here, and keeps the GIL all the while."""
    numbers = 100_000
    while True:
        begun = time.perf_counter()
        total = sum(range(numbers))
        took = time.perf_counter() - begun
        if took >= 0.02:
            break
        numbers *= 2
    return total + sum(range(int(numbers * (seconds - took) / took)))


def stuck_in_c(seconds: float) -> None:
    """C code without the GIL, for about `seconds`, that nothing can interrupt, nor any signal."""
    rounds = 20_000
    begun = time.perf_counter()
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", rounds)
    took = time.perf_counter() - begun
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", int(rounds * seconds / took))


def spin(until: Callable[[], bool]) -> None:
    """Python code that waits, and can be interrupted."""
    begun = time.monotonic()
    while not until():
        assert time.monotonic() - begun < LONG_S, "it was never stopped"
        time.sleep(0.001)


def ignore_interrupts(until: Callable[[], bool]) -> None:
    """Python code that swallows whatever is raised in it."""
    begun = time.monotonic()
    while not until() and time.monotonic() - begun < LONG_S:
        try:
            while not until():
                time.sleep(0.001)
        except BaseException:  # noqa: BLE001 - that is its misbehaviour
            continue


async def ignore_cancellation(until: Callable[[], bool]) -> None:
    """A coroutine that swallows its cancellation."""
    begun = time.monotonic()
    while not until() and time.monotonic() - begun < LONG_S:
        try:
            while not until():  # noqa: ASYNC110 - it is not to end with an event
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            continue
