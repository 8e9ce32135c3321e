"""The validator of responses knows every trap that was recorded."""

from __future__ import annotations

from typing import Any

import pytest

from onward.core.ops import ErrorInfo, Op, Opcode
from onward.core.response import RACE, Response
from tests.support.allowed import MOST_BYTES, why_not, why_not_answer


def _ops(*kinds: str, race: bool = False) -> list[dict[str, Any]]:
    opts = dict(RACE) if race else {}
    return [{"op": kind, "id": f"id-{n}", "opts": opts} for n, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    "kinds",
    [
        ["RunComplete"],
        ["StepRun", "StepRun", "RunComplete"],
        ["StepError"],
        ["StepFailed"],
        ["DiscoveryRequest"],
        ["StepRun"],
        ["None"],
    ],
)
def test_allowed(kinds: list[str]) -> None:
    assert why_not(_ops(*kinds)) is None


@pytest.mark.parametrize(
    "kinds", [["Sleep"], ["StepPlanned"], ["Sleep", "WaitForEvent", "StepPlanned", "StepPlanned"]]
)
def test_allowed_in_race_mode_only(kinds: list[str]) -> None:
    assert why_not(_ops(*kinds, race=True)) is None
    assert why_not(_ops(*kinds)) is not None
    half = [*_ops(*kinds, race=True), {"op": "Sleep", "id": "x", "opts": {}}]
    assert why_not(half) is not None


@pytest.mark.parametrize("kinds", [["StepRun", "StepRun"], ["StepRun", "StepRun", "StepPlanned"]])
def test_allowed_only_where_nothing_could_be_confirmed(kinds: list[str]) -> None:
    assert why_not(_ops(*kinds)) is not None
    assert why_not(_ops(*kinds), unconfirmable=True) is None


@pytest.mark.parametrize(
    "kinds",
    [
        [],
        ["StepError", "StepError"],
        ["StepRun", "StepError"],
        ["StepRun", "StepRun", "DiscoveryRequest"],
        ["WaitForEvent", "DiscoveryRequest"],
        ["RunComplete", "StepRun"],
        ["RunComplete", "RunComplete"],
        ["Sleep", "RunComplete"],
        ["StepRun", "Sleep"],
        ["StepRun", "StepPlanned", "StepPlanned"],
        ["StepError", "StepPlanned"],
        ["None", "StepRun"],
        ["StepNotFound"],
        ["Gateway"],
    ],
)
def test_never_allowed(kinds: list[str]) -> None:
    assert why_not(_ops(*kinds, race=True), unconfirmable=True) is not None


def test_ids_are_there_and_differ() -> None:
    assert why_not([{"op": "None", "id": "", "opts": {}}]) is not None
    twice = [{"op": "Sleep", "id": "x", "opts": RACE}] * 2
    assert why_not(twice) is not None


@pytest.mark.parametrize("kind", ["StepRun", "StepError", "StepFailed"])
def test_the_answers_of_targeted_calls_are_in_race_mode(kind: str) -> None:
    assert why_not(_ops(kind), targeted=True) is not None
    assert why_not(_ops(kind, race=True), targeted=True) is None


ERROR = ErrorInfo("ValueError", "broke")
LARGE = Op(Opcode.STEP_RUN, "b", data="x" * MOST_BYTES)


@pytest.mark.parametrize(
    "response",
    [
        Response(200),
        Response(200, result="1"),
        Response(200, (Op(Opcode.STEP_RUN, "a"),)),
        Response(206, (Op(Opcode.STEP_RUN, "a"),), error=ERROR),
        Response(206, (Op(Opcode.STEP_RUN, "a", data="1"), LARGE)),
        Response(400),
        Response(400, error=ERROR, no_retry=False),
        Response(500, error=ERROR, no_retry=True),
        Response(503, error=ERROR, no_retry=False),
    ],
)
def test_whole_responses_that_are_wrong(response: Response) -> None:
    assert why_not_answer(response, unconfirmable=True) is not None
