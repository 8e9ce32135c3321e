"""What a memoized entry means depends on the kind of its step."""

from __future__ import annotations

from typing import Any

import pytest

from onward.core.ids import hash_step
from onward.core.journal import UnknownMemoError
from onward.core.ops import Opcode
from onward.errors import MalformedCallRequestError
from onward.protocol.call_request import decode_call_request, decode_journal, decode_memo
from tests.core.driving import Driven

RUN, SLEEP = Opcode.STEP_RUN, Opcode.SLEEP
WAIT, SIGNAL, INVOKE = Opcode.WAIT_FOR_EVENT, Opcode.WAIT_FOR_SIGNAL, Opcode.INVOKE_FUNCTION
KINDS = [RUN, SLEEP, WAIT, SIGNAL, INVOKE]

EVENT = {"name": "order/paid", "data": {"n": 1}, "id": "1", "ts": 1}
SENT = {"signal": "go", "data": {"ok": True}}


@pytest.mark.parametrize(
    ("kind", "entry", "value"),
    [
        (RUN, {"data": 5}, 5),
        (RUN, {"data": None}, None),
        (SLEEP, {"anything": 1}, None),
        (WAIT, EVENT, EVENT),
        (WAIT, {"data": EVENT}, EVENT),
        (SIGNAL, {"data": SENT}, SENT),
        (SIGNAL, {"data": None}, None),
        (INVOKE, {"data": 42}, 42),
        (INVOKE, {"data": EVENT}, EVENT),
        *((kind, None, None) for kind in KINDS),
    ],
)
def test_a_value(kind: Opcode, entry: Any, value: Any) -> None:
    assert decode_memo("id", entry).value_for(kind) == value


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        (RUN, {"input": [1]}),
        (RUN, {}),
        (WAIT, {"data": 5}),
        (WAIT, {"data": {"n": 1}}),
        (WAIT, {**EVENT, "ts": "today"}),
        (WAIT, {**EVENT, "user": 5}),
        (SIGNAL, {"data": 5}),
        (SIGNAL, EVENT),
        (INVOKE, {"promise": "later"}),
    ],
)
def test_a_shape_that_is_not_known_is_refused_and_nothing_runs(kind: Opcode, entry: Any) -> None:
    memo = decode_memo(hash_step("a", 0), entry)
    with pytest.raises(UnknownMemoError):
        memo.value_for(kind)
    it = Driven([memo])
    it.call("a", kind)
    response = it.errs()
    assert response.error is not None
    assert (response.error.name, response.status) == ("MalformedCallRequestError", 500)
    for said in ("'a'", kind.value, "upgrade Onward", "no result is lost"):
        assert said in response.error.message


@pytest.mark.parametrize("error", [{"name": "E", "message": "m"}, "m", {"message": "m"}])
@pytest.mark.parametrize("kind", [RUN, INVOKE])
def test_an_error_is_one_of_every_kind(kind: Opcode, error: Any) -> None:
    it = Driven([decode_memo(hash_step("a", 0), {"error": error})])
    delivery = it.delivers(it.call("a", kind))
    assert delivery.failure is not None
    assert delivery.failure.error.message == "m"
    assert not delivery.failure.retriable


@pytest.mark.parametrize(("kind", "name"), [(INVOKE, "UnknownFunctionError"), (RUN, "Error")])
def test_a_function_that_nobody_has_is_told_from_one_that_failed(kind: Opcode, name: str) -> None:
    error = {"name": "Error", "message": "could not find function with ID: shop-missing"}
    it = Driven([decode_memo(hash_step("a", 0), {"error": error})])
    delivery = it.delivers(it.call("a", kind))
    assert delivery.failure is not None
    assert (delivery.failure.error.name, delivery.failure.error.message) == (name, error["message"])


def test_a_stack_that_names_steps_without_results_is_refused() -> None:
    with pytest.raises(MalformedCallRequestError, match=r"hole.*2 step\(s\).*'b'.*Nothing was run"):
        decode_journal({"a": {"data": 1}}, ["a", "b", "c"])


def test_results_without_a_place_in_the_stack_come_after_those_with_one() -> None:
    steps = {"late": {"data": 2}, "b": {"data": 1}, "a": None, "later": {"data": 3}}
    journal = decode_journal(steps, ["a", "b", "a"])
    assert [memo.id for memo in journal] == ["a", "b", "late", "later"]
    assert journal.at(0).value is None


@pytest.mark.parametrize("entry", [5, "text", [1]])
def test_an_entry_that_is_no_object_is_refused(entry: Any) -> None:
    with pytest.raises(MalformedCallRequestError, match="'a'"):
        decode_memo("a", entry)


def test_a_call_request_of_a_later_protocol_is_refused() -> None:
    body = {"ctx": {"run_id": "r"}, "steps": {}, "version": 3}
    with pytest.raises(MalformedCallRequestError, match=r"version 3.*up to 2.*Upgrade Onward"):
        decode_call_request(body, function_id="f")
    for version in (-1, 0, 1, 2, None):
        decode_call_request({**body, "version": version}, function_id="f")
