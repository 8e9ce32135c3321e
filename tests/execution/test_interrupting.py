"""At the deadline a body that sleeps on the main thread is woken at once, each time."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import onward
from onward import aws_lambda
from onward.protocol.direct import call_payload
from tests.support.entries import LambdaContext, call_request

#: Seconds that an invocation has. Were the interrupt lost, the body would use them up.
LIMIT_S = 0.6


def test_a_body_that_sleeps_on_the_main_thread_is_stopped_every_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setenv("INNGEST_DEV", "1")
    app = onward.App("sleeping")

    @app.function("sleeper", trigger=onward.Event("sleeping/asked"))
    def sleeper(ctx: onward.BlockingContext) -> None:
        ctx.step.run("sleep", time.sleep, 10.0)

    def stuck(_execution: Any) -> None:
        pytest.fail("the body could not be stopped")

    monkeypatch.setattr(aws_lambda, "_wait_for_the_kill", stuck)
    handle = aws_lambda.handler(app)
    for _ in range(6):  # a signal that any thread may take is lost in most of them
        answer = handle(
            call_payload("sleeping-sleeper", "step", call_request()), LambdaContext(LIMIT_S)
        )
        (op,) = answer["body"]
        assert (op["op"], op["error"]["name"]) == ("StepError", "StepTimedOutError")
