"""A server that has no checkpoint API: each step is a call, as without checkpointing."""

from __future__ import annotations

import logging

import pytest

from onward.transport.channel import MINIMUM_SERVER
from tests.failures.faults import NAMES
from tests.support.checkpoint_api import CheckpointApi, Reply
from tests.support.entries import Entry, call_request, request_after
from tests.support.linear import Ledger, linear_app


@pytest.mark.parametrize("status", [404, 405])
def test_the_classic_call_a_step(
    *,
    entry: Entry,
    driver: str,
    status: int,
    api: CheckpointApi,
    caplog: pytest.LogCaptureFixture,
) -> None:
    api.default = Reply(status, "404 page not found")
    ledger = Ledger()
    app = linear_app(driver, ledger, ledger.bodies(*NAMES))
    with caplog.at_level(logging.WARNING, "onward"):
        answer = entry.call(app, call_request())
        # What was refused goes into the answer, which an old server understands.
        assert answer.brief == [("StepRun", "s1"), ("StepPlanned", "s2")]
        api.keep(op for op in answer.ops if op["op"] == "StepRun")
        for name in NAMES[1:]:
            answer = entry.call(app, request_after(api))
            assert answer.brief == [("StepRun", name)]
            api.keep(answer.ops)
        answer = entry.call(app, request_after(api))
    assert answer.status == 200
    assert answer.body == [f"result of {name}" for name in NAMES]
    assert ledger.ended == NAMES
    # It was asked once, and said once.
    assert len(api.checkpoints) == 1
    (said,) = [r.getMessage() for r in caplog.records if "takes no checkpoints" in r.getMessage()]
    assert f"an Inngest server of version {MINIMUM_SERVER} or later" in said
    assert api.url in said


def test_another_app_of_the_process_finds_out_for_itself(
    entry: Entry, driver: str, api: CheckpointApi
) -> None:
    """Each app has an orchestrator of its own."""
    api.script(Reply(404))
    first = linear_app(driver, Ledger(), [("s1", int), ("s2", int)])
    assert entry.call(first, call_request()).brief[0] == ("StepRun", "s1")
    second = linear_app(driver, Ledger(), [("s1", int), ("s2", int)])
    assert entry.call(second, call_request()).ops[-1]["op"] == "RunComplete"
