"""A checkpoint API that fails for a while: the invocation waits it out, and nothing is lost."""

from __future__ import annotations

import pytest

import onward
from tests.support.checkpoint_api import (
    CLOSE,
    GARBAGE,
    HANG,
    OK,
    RESET,
    TRUNCATE,
    UNAVAILABLE,
    CheckpointApi,
    Reply,
)
from tests.support.entries import Entry, call_request, shape_of
from tests.support.linear import Ledger, linear_app

FAULTS = {
    "503": UNAVAILABLE,
    "500": Reply(500),
    "429": Reply(429),
    "reset": Reply(fault=RESET),
    "hung up": Reply(fault=CLOSE),
    "truncated": Reply(fault=TRUNCATE),
    "garbage": Reply(fault=GARBAGE),
    "no answer": Reply(fault=HANG),
    "stored, then reset": Reply(fault=RESET).stored(),
    "stored, then truncated": Reply(fault=TRUNCATE).stored(),
    "stored, then no answer": Reply(fault=HANG).stored(),
    "stored, then 503": UNAVAILABLE.stored(),
}

SOME = ["503", "reset", "truncated", "stored, then no answer"]

MODES = {
    "1": onward.Checkpointing(),
    "3": onward.Checkpointing(buffered_steps=3),
    "pipelined": onward.Checkpointing(mode="pipelined"),
}

#: What the checkpoints of six steps get before the last one.
UP_TO_THE_LAST = {"1": [OK] * 5, "3": [OK]}

NAMES = ["s1", "s2", "s3", "s4", "s5", "s6"]


@pytest.mark.parametrize(
    ("mode", "fault"),
    [
        *(("1", fault) for fault in FAULTS),
        *((mode, fault) for mode in ("3", "pipelined") for fault in SOME),
    ],
)
def test_a_failure_at_first_and_in_the_middle_is_waited_out(
    entry: Entry, driver: str, mode: str, fault: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    app = linear_app(driver, ledger, ledger.bodies(*NAMES), checkpointing=MODES[mode])
    api.script(FAULTS[fault], OK, FAULTS[fault])
    _finishes_in_one_invocation(entry, app, api, ledger)


@pytest.mark.parametrize("fault", ["503", "429", "reset", "stored, then no answer"])
@pytest.mark.parametrize("mode", UP_TO_THE_LAST)
def test_a_failure_at_the_last_checkpoint_is_waited_out(
    entry: Entry, driver: str, mode: str, fault: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    app = linear_app(driver, ledger, ledger.bodies(*NAMES), checkpointing=MODES[mode])
    api.script(*UP_TO_THE_LAST[mode], FAULTS[fault], FAULTS[fault])
    _finishes_in_one_invocation(entry, app, api, ledger)
    assert len(api.checkpoints) == len(UP_TO_THE_LAST[mode]) + 3


def _finishes_in_one_invocation(
    entry: Entry, app: onward.App, api: CheckpointApi, ledger: Ledger
) -> None:
    answer = entry.call(app, call_request())
    assert shape_of(answer) == "complete"
    api.keep(answer.ops[:-1])
    assert api.stored() == NAMES
    assert ledger.ended == NAMES
    assert answer.ops[-1]["data"] == [f"result of {name}" for name in NAMES]
    _what_was_sent_again_was_the_same(api)


def _what_was_sent_again_was_the_same(api: CheckpointApi) -> None:
    ops: dict[str, object] = {}
    for checkpoint in api.checkpoints:
        for op in checkpoint.json()["steps"]:
            assert ops.setdefault(op["id"], op) == op
