"""What runs in the emulator: the airports example as it is, and a step that fits no invocation.

Three variables are for the tests: a ledger that is told of every body, how much later than the
truth the deadline is said to be, and how many steps the airports job buffers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from typing import Any

import onward
from examples.airports.app import app as airports_app
from onward.aws_lambda import handler
from onward.testing import BodyEvent, observe_bodies

LEDGER = "RIE_TEST_LEDGER"
LATE_MS = "RIE_TEST_LATE_MS"
BUFFERED = "RIE_TEST_BUFFERED"
NEAREST = "airports-nearest"
ENDLESS_S = 10.0

endless_app = onward.App("endless")


@endless_app.function("endless", trigger=onward.Event("endless/asked"), retries=1)
def endless(ctx: onward.BlockingContext) -> None:
    """A short step, and one of 10 seconds."""
    ctx.step.run("short", int, 1)
    ctx.step.run("ten seconds", time.sleep, ENDLESS_S)


def _write(event: BodyEvent) -> None:
    """One line by one write to a file opened for appending: a SIGKILL leaves whole lines."""
    line = json.dumps([event.step_id, event.phase, time.monotonic(), os.getpid()])
    file = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


class LateContext:
    """A context that promises more time than there is."""

    def __init__(self, context: Any, late_ms: int) -> None:
        self._context, self._late_ms = context, late_ms

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds, and as many more as were asked for."""
        return int(self._context.get_remaining_time_in_millis()) + self._late_ms


def _late(handle: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    late_ms = int(os.environ.get(LATE_MS, "0"))

    def handle_late(event: Any, context: Any) -> Any:
        return handle(event, LateContext(context, late_ms))

    return handle_late if late_ms else handle


if LEDGER in os.environ:
    for _app in (airports_app, endless_app):
        observe_bodies(_app, _write)
if BUFFERED in os.environ:
    airports_app.functions[NEAREST] = dataclasses.replace(
        airports_app.functions[NEAREST],
        checkpointing=onward.Checkpointing(buffered_steps=int(os.environ[BUFFERED])),
    )

handle_airports = _late(handler(airports_app))
handle_endless = handler(endless_app)
