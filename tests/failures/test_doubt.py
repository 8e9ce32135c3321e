"""A step that is to fail for good, where another invocation may have confirmed a result of it."""

from __future__ import annotations

from typing import Any

import pytest

from onward.core.ids import hash_id
from onward.protocol.signature import bearer_token
from onward.transport import channel
from tests.failures.faults import linear
from tests.support.checkpoint_api import CheckpointApi, Reply
from tests.support.entries import RUN_ID, Entry, call_request, shape_of
from tests.support.linear import Ledger

KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
PATH = f"/v0/runs/{RUN_ID}/actions"
THEIRS: dict[str, Any] = {
    "id": hash_id("bad"),
    "op": "StepRun",
    "userland": {"id": "bad"},
    "data": "theirs",
}
LAST: dict[str, Any] = {"attempt": 3, "max_attempts": 4}


def failing(driver: str, ledger: Ledger) -> Any:
    def fails() -> None:
        raise ValueError("no luck")

    return linear(driver, ledger, [("bad", ledger.body("bad", fails)), *ledger.bodies("next")])


def test_a_result_that_is_confirmed_meanwhile_counts(
    entry: Entry, driver: str, api: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call's journal lacks it: an invocation that was given up has confirmed it since."""
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    ledger = Ledger()
    app = failing(driver, ledger)
    api.keep([THEIRS])
    answer = entry.call(app, call_request(**LAST))
    assert answer.brief == [("DiscoveryRequest", "")]
    (read,) = api.others
    assert (read.method, read.path) == ("GET", PATH)
    assert read.headers["authorization"] == f"Bearer {bearer_token(KEY)}"
    again = entry.call(app, call_request({THEIRS["id"]: {"data": "theirs"}}))
    assert again.ops[-1]["data"] == ["theirs", "result of next"]
    assert api.conflicts == []


def test_without_one_the_step_fails(entry: Entry, driver: str, api: CheckpointApi) -> None:
    answer = entry.call(failing(driver, Ledger()), call_request(**LAST))
    assert answer.brief == [("StepFailed", "bad")]
    assert [read.path for read in api.others] == [PATH]


def test_a_first_attempt_reads_nothing(entry: Entry, driver: str, api: CheckpointApi) -> None:
    answer = entry.call(failing(driver, Ledger()), call_request(max_attempts=1))
    assert answer.brief == [("StepFailed", "bad")]
    assert api.others == []


@pytest.mark.parametrize("page", [(503, b"busy"), (404, b"{}"), (200, b"no JSON"), (200, b"[1]")])
def test_a_journal_that_cannot_be_read_lets_the_step_fail(
    entry: Entry,
    driver: str,
    page: tuple[int, bytes],
    api: CheckpointApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel, "RETRY_BUDGET", 0.05)
    api.pages[PATH] = page
    answer = entry.call(failing(driver, Ledger()), call_request(**LAST))
    assert answer.brief == [("StepFailed", "bad")]


def test_a_run_that_turns_out_to_be_over_is_left_quietly(
    entry: Entry, driver: str, api: CheckpointApi
) -> None:
    api.pages[PATH] = (410, b'{"error": "run is over"}')
    answer = entry.call(failing(driver, Ledger()), call_request(**LAST))
    assert shape_of(answer) == "over"


def test_a_stored_result_whose_answer_was_lost_is_not_failed_by_a_later_refusal(
    entry: Entry, driver: str, api: CheckpointApi
) -> None:
    api.script(Reply(503).stored(), Reply(413, '{"error": "too large"}'))
    answer = entry.call(linear(driver, Ledger()), call_request())
    assert api.stored() == ["s1"]
    assert answer.brief == [("DiscoveryRequest", "")]
