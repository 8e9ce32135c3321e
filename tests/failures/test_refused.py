"""Results that are too large, and keys that are not accepted."""

from __future__ import annotations

import pytest

from onward.protocol.signature import bearer_token
from tests.failures.faults import NAMES, linear
from tests.support.checkpoint_api import OK, CheckpointApi, Reply
from tests.support.entries import Entry, call_request, shape_of
from tests.support.linear import Ledger

KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
OTHER = "signkey-test-00000000000000000000000000000000000000000000000000000000000000ff"


def test_a_result_that_is_too_large_names_step_size_and_limit(
    entry: Entry, driver: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    plan = [*ledger.bodies("s1"), ("big", ledger.body("big", lambda: "x" * 5000))]
    app = linear(driver, ledger, [*plan, *ledger.bodies("s3")])
    api.script(OK)
    api.default = Reply(413, '{"error": "step output size is greater than 4096"}')
    answer = entry.call(app, call_request())
    assert shape_of(answer) == "failed"
    assert answer.brief == [("StepFailed", "big")]
    assert answer.headers["x-inngest-no-retry"] == "true"
    error = answer.ops[0]["error"]
    assert error["name"] == "ResultTooLargeError"
    for part in ("'big'", "5,002 bytes", "step output size is greater than 4096"):
        assert part in error["message"]
    assert len(api.checkpoints) == 2
    assert ledger.began == ["s1", "big"]


@pytest.mark.parametrize("mode", ["confirmed", "pipelined"])
def test_one_large_result_in_a_batch_costs_no_other(
    entry: Entry, driver: str, mode: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    plan = ledger.bodies(*NAMES)
    plan[1] = ("s2", ledger.body("s2", lambda: "x" * 5000))
    app = linear(driver, ledger, plan, buffered_steps=3, mode=mode)
    api.refuses_over = 4096
    answer = entry.call(app, call_request())
    if mode == "confirmed":
        assert answer.brief == [("StepFailed", "s2")]
    else:  # the function may have ended before the refusal came, and its result is the run's
        assert shape_of(answer) in {"failed", "complete"}
        api.refuses_over = None
        api.keep(op for op in answer.ops if op["op"] == "StepRun" and op["displayName"] != "s2")
    stored = api.stored()
    assert "s1" in stored
    assert "s2" not in stored
    assert len(stored) == len(set(ledger.ended)) - 1
    assert all(ledger.ended.count(name) == 1 for name in NAMES if name in ledger.ended)


def test_a_refused_key_falls_back_once_and_for_good(
    entry: Entry, driver: str, api: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNGEST_SIGNING_KEY", OTHER)
    monkeypatch.setenv("INNGEST_SIGNING_KEY_FALLBACK", KEY)
    ledger = Ledger()
    app = linear(driver, ledger)
    api.accepts = frozenset({bearer_token(KEY)})
    assert shape_of(entry.call(app, call_request())) == "complete"
    tokens = [seen.headers["authorization"] for seen in api.checkpoints]
    assert tokens == [f"Bearer {bearer_token(OTHER)}", *[f"Bearer {bearer_token(KEY)}"] * 5]
    api.journal.clear()
    assert shape_of(entry.call(app, call_request())) == "complete"
    assert {seen.headers["authorization"] for seen in api.checkpoints[6:]} == {tokens[-1]}


def test_two_refused_keys(
    entry: Entry, driver: str, api: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNGEST_SIGNING_KEY", OTHER)
    monkeypatch.setenv("INNGEST_SIGNING_KEY_FALLBACK", KEY)
    ledger = Ledger()
    app = linear(driver, ledger)
    api.accepts = frozenset()
    answer = entry.call(app, call_request())
    assert answer.brief == [("StepRun", "s1"), ("StepPlanned", "s2")]
    assert len(api.checkpoints) == 2
