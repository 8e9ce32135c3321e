"""What checkpoints may get instead of a 200, and runs that go on afterwards."""

from __future__ import annotations

from typing import Any

import onward
from onward.core.retry import RETRY_BUDGET
from onward.transport import channel
from tests.support.checkpoint_api import (
    CLOSE,
    HANG,
    NOT_FOUND,
    OK,
    RESET,
    TRUNCATE,
    UNAVAILABLE,
    CheckpointApi,
    Reply,
)
from tests.support.entries import Answer, Entry, request_after, shape_of
from tests.support.linear import Ledger, Plan, linear_app

#: How long an outage is waited out here where no deadline bounds it.
SHORT_BUDGET_S = 0.08

#: Tried again until the time is up.
OUTAGES = {
    "503": UNAVAILABLE,
    "429": Reply(429),
    "reset": Reply(fault=RESET),
    "hung up": Reply(fault=CLOSE),
    "truncated": Reply(fault=TRUNCATE),
    "no answer": Reply(fault=HANG),
    "stored, then no answer": Reply(fault=HANG).stored(),
    "stored, then 503": UNAVAILABLE.stored(),
}

#: Not tried again.
REFUSALS = {
    "400": Reply(400, '{"error": "cannot checkpoint async steps"}'),
    "401": Reply(401),
    "403": Reply(403),
    "422": Reply(422),
    "redirected": Reply(307),
}

#: The run is over, or somebody else's.
GONE = {"409": Reply(409), "410": Reply(410), "400 run not found": NOT_FOUND}

NAMES = ["s1", "s2", "s3", "s4", "s5"]

FAILURES = {**OUTAGES, **REFUSALS}


class NotYetError(Exception):
    """What a body raises here."""


def finish(entry: Entry, app: onward.App, api: CheckpointApi) -> Answer:
    """Go on as the orchestrator would, until the run is complete."""
    for _ in range(20):
        answer = entry.call(app, request_after(api))
        shape = shape_of(answer)
        api.keep(op for op in answer.ops if op["op"] == "StepRun")
        if shape == "complete":
            return answer
        if shape == "plan":
            api.keep([{**op, "op": "StepRun"} for op in answer.ops if op["op"] == "Sleep"])
    raise AssertionError("the run does not end")


def _budget(seconds: float) -> None:
    """The fixture `budget` puts it back."""
    vars(channel)["RETRY_BUDGET"] = seconds


def fail_after(count: int, api: CheckpointApi, reply: Reply) -> None:
    """The first `count` checkpoints get through; all others get `reply`, and are soon given up."""

    def shorten(_: object = None) -> None:
        _budget(SHORT_BUDGET_S)

    if count:
        api.script(*[OK] * (count - 1), Reply(waits=shorten))
    else:
        shorten()
    api.default = reply


def take(answer: Answer, api: CheckpointApi) -> None:
    """Store what was answered, and let the API work from now on."""
    api.keep(op for op in answer.ops if op["op"] == "StepRun")
    api.default = OK
    _budget(RETRY_BUDGET)


def linear(driver: str, ledger: Ledger, plan: Plan | None = None, **options: Any) -> onward.App:
    return linear_app(
        driver,
        ledger,
        plan if plan is not None else ledger.bodies(*NAMES),
        checkpointing=onward.Checkpointing(**options),
    )
