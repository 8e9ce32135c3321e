"""Step ids, their repeats, the journal."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha1

import pytest

from onward.core.calls import StepCall, StepIds
from onward.core.ids import (
    NO_TARGET,
    RUN_COMPLETE_ID,
    continuation_id,
    event_seed,
    hash_id,
    hash_step,
)
from onward.core.journal import Journal, Memo
from onward.core.ops import ORCHESTRATED, Op, Opcode


def test_a_step_id_is_the_sha1_of_what_the_user_calls_it() -> None:
    assert hash_id("load") == sha1(b"load").hexdigest()
    assert hash_step("load", 0) == hash_id("load")
    assert hash_step("load", 2) == hash_id("load:2")
    assert hash_step("größe", 0) == sha1("größe".encode()).hexdigest()


def test_a_continuation_has_an_id_of_its_own_for_each_call_request() -> None:
    ids = {continuation_id(f"request-{n}") for n in range(100)}
    assert len(ids) == 100
    assert continuation_id("r") == sha1(b"onward:continue:r").hexdigest()
    assert not ids & {RUN_COMPLETE_ID, NO_TARGET}


def test_the_seed_of_sent_events_has_the_time_of_the_run_and_is_one_of_the_step_alone() -> None:
    run = "01M835PS0F4G5JJFJS5RZCXPW4"
    milliseconds, entropy = event_seed(run, "a", 0).split(",")
    assert milliseconds == "1795402982415"
    assert len(b64decode(entropy, validate=True)) == 10
    seeds = {event_seed(*each) for each in ((run, "a", 0), (run, "a", 9), (run, "b", 0))}
    assert len(seeds) == 3
    for other in ("no ulid", "", "U" * 26, "0" * 26):
        assert event_seed(other, "a", 0).startswith("1,")


def _call(name: str, branch: object = None) -> StepCall:
    return StepCall(Opcode.STEP_RUN, name, branch=repr(branch))


def test_repeats_are_counted_for_each_id() -> None:
    ids = StepIds()
    calls = [_call(name) for name in ("a", "b", "a", "a", "b")]
    assert [ids.assign(call) for call in calls] == [None] * 5
    assert [call.index for call in calls] == [0, 0, 1, 2, 1]
    assert [call.id for call in calls] == [
        hash_step(name, n) for name, n in (("a", 0), ("b", 0), ("a", 1), ("a", 2), ("b", 1))
    ]


def test_an_id_used_from_another_branch_is_warned_about_once() -> None:
    ids = StepIds()
    assert ids.assign(_call("a", 1)) is None
    assert ids.assign(_call("a", 1)) is None
    warning = ids.assign(_call("a", 2))
    assert warning is not None
    assert "'a'" in warning
    assert "id of its own" in warning
    assert ids.assign(_call("a", 1)) is None
    assert ids.assign(_call("b", 1)) is None
    assert ids.assign(_call("b", 2)) is not None


@pytest.mark.parametrize("names", [["a", "a:1", "a"], ["a:1", "a", "a"], ["a", "a", "a:1"]])
def test_no_two_calls_have_one_id(names: list[str]) -> None:
    ids = StepIds()
    taken: set[str] = set()
    for name in names:
        call = _call(name)
        assert ids.assign(call, taken) is None
        taken.add(call.id)
    assert len(taken) == len(names)


def test_the_journal_keeps_the_order_and_the_first_of_each_id() -> None:
    journal = Journal([Memo("b", 1), Memo("a", 2), Memo("b", 3)])
    assert len(journal) == 2
    assert [memo.id for memo in journal] == ["b", "a"]
    assert "a" in journal
    assert "c" not in journal
    assert journal.get("b") == Memo("b", 1)
    assert journal.get("c") is None
    assert journal.at(1).id == "a"
    assert (journal.position("b"), journal.position("a")) == (0, 1)
    with pytest.raises(KeyError):
        journal.position("c")


def test_an_op_knows_its_size() -> None:
    assert Op(Opcode.STEP_RUN, "a", data='"äö"').size == 4
    assert Op(Opcode.SLEEP, "a").size == 0


def test_which_ops_only_the_orchestrator_resolves() -> None:
    assert {str(code) for code in ORCHESTRATED} == {
        "Sleep",
        "WaitForEvent",
        "WaitForSignal",
        "InvokeFunction",
    }
    for code in Opcode:
        assert StepCall(code, "a").orchestrated is (code in ORCHESTRATED)


def test_the_op_of_a_call_is_called_what_the_call_is_called() -> None:
    call = StepCall(Opcode.STEP_RUN, "send", name="sendEvent", id="x", index=3)
    op = call.op_of(Opcode.STEP_PLANNED, opts={"a": 1})
    assert op == Op(Opcode.STEP_PLANNED, "x", "sendEvent", "send", "send", 3, {"a": 1})
    assert StepCall(Opcode.STEP_RUN, "plain").op_of(Opcode.STEP_RUN).name == "plain"
