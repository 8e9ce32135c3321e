"""A defect of Onward's own, on a thread that nobody waits for, still ends the invocation."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import onward
from onward.core.invocation import Invocation
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import Entry, call_request
from tests.support.linear import Ledger, linear_app


def _broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a defect")


@pytest.mark.parametrize("reported", ["checkpointed", "flush_due"])
def test_the_caller_is_answered(
    *,
    entry: Entry,
    driver: str,
    reported: str,
    api: CheckpointApi,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When a checkpoint was answered, and when the watchdog comes for one that is due."""
    ledger = Ledger()
    interval = 0.02 if reported == "flush_due" else 0
    options = onward.Checkpointing(buffered_steps=2, max_interval=interval)
    # The second body waits for what is broken: nothing would ever come of it.
    plan = [*ledger.bodies("s1", "s2", "s3")]
    if reported == "flush_due":
        plan[1] = ("s2", lambda: api.wait_until(lambda: "a defect" in caplog.text, "the defect"))
    app = linear_app(driver, ledger, plan, checkpointing=options)
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.ERROR, "onward"):
        patch.setattr(Invocation, reported, _broken)
        answer = entry.call(app, call_request())
    assert (answer.status, answer.headers["x-inngest-no-retry"]) == (500, "false")
    assert answer.body["name"] == "OnwardDefect"
    assert "RuntimeError: a defect" in answer.body["message"]
    assert "Onward failed in run" in caplog.text
    # The threads live on: the next call is served.
    app = linear_app(driver, Ledger(), [("s1", int)], checkpointing=options)
    assert entry.call(app, call_request()).ops[-1]["op"] == "RunComplete"
