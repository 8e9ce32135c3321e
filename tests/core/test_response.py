"""Responses, the ops in them, and the failures that Onward itself reports."""

from __future__ import annotations

import json

import pytest

from onward import errors
from onward.core import failures, planning
from onward.core import response as answers
from onward.core.calls import Failure, StepCall
from onward.core.ids import RUN_COMPLETE_ID, continuation_id
from onward.core.journal import Memo
from onward.core.ops import ErrorInfo, Op, Opcode
from tests.support.allowed import why_not_answer

RACE = {"parallelMode": "race"}
ERROR = ErrorInfo("ValueError", "broke")


def _op(code: Opcode, name: str = "a", **more: object) -> Op:
    return Op(code, name, name, name, name, **more)  # type: ignore[arg-type]


RUN = _op(Opcode.STEP_RUN, data="1")
RESPONSES = {
    "complete": (answers.run_complete("1"), {}),
    "complete, with results": (answers.run_complete("1", [RUN]), {}),
    "classic": (answers.classic_complete("1"), {"classic": True}),
    "one step": (answers.step_run(RUN), {}),
    "targeted step": (answers.step_run(answers.in_race_mode(RUN)), {"targeted": True}),
    "failed": (answers.step_failed(_op(Opcode.STEP_ERROR, error=ERROR), retry_after=5), {}),
    "failed for good": (answers.step_failed(_op(Opcode.STEP_FAILED, error=ERROR)), {}),
    "plan": (answers.plan([_op(Opcode.SLEEP), _op(Opcode.STEP_PLANNED, "b")]), {}),
    "continuation": (answers.continuation("r"), {}),
    "over": (answers.over("r"), {}),
    "handover": (
        answers.handover([RUN], _op(Opcode.STEP_PLANNED, "b")),
        {"unconfirmable": True},
    ),
    "handover alone": (
        answers.handover([RUN, _op(Opcode.STEP_RUN, "b", data="2")], None),
        {"unconfirmable": True},
    ),
    "retry": (answers.function_error(ERROR, retriable=True, retry_after=3), {}),
    "no retry": (answers.function_error(ERROR, retriable=False, retry_after=3), {}),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_every_response_that_can_be_made_is_allowed(name: str) -> None:
    response, circumstances = RESPONSES[name]
    assert why_not_answer(response, **circumstances) is None


def test_a_result_comes_last() -> None:
    response = answers.run_complete('{"n": 1}', [RUN])
    assert (response.status, response.no_retry) == (206, None)
    assert response.ops == (RUN, Op(Opcode.RUN_COMPLETE, RUN_COMPLETE_ID, data='{"n": 1}'))


def test_headers_of_failures() -> None:
    error = answers.step_failed(_op(Opcode.STEP_ERROR, error=ERROR), retry_after=5)
    final = answers.step_failed(_op(Opcode.STEP_FAILED, error=ERROR), retry_after=5)
    assert (error.status, error.no_retry, error.retry_after) == (206, False, 5)
    assert (final.status, final.no_retry, final.retry_after) == (206, True, None)
    retry = answers.function_error(ERROR, retriable=True, retry_after=3)
    fatal = answers.function_error(ERROR, retriable=False, retry_after=3)
    assert (retry.status, retry.error, retry.no_retry, retry.retry_after) == (500, ERROR, False, 3)
    assert (fatal.status, fatal.error, fatal.no_retry, fatal.retry_after) == (
        400,
        ERROR,
        True,
        None,
    )


def test_race_mode_keeps_other_options() -> None:
    op = _op(Opcode.SLEEP, opts={"duration": "1s"})
    assert answers.in_race_mode(op).opts == {"duration": "1s", **RACE}
    assert op.opts == {"duration": "1s"}
    assert all(op.opts == RACE for op in answers.plan([_op(Opcode.STEP_PLANNED)]).ops)


def test_a_continuation_and_the_quiet_end_have_ids() -> None:
    for make in (answers.continuation, answers.over):
        (op,) = make("request-7").ops
        assert op.id == continuation_id("request-7")


# ---------------------------------------------------------------------- planning


def test_a_step_is_planned_with_its_own_options() -> None:
    call = StepCall(Opcode.STEP_RUN, "a", name="sendEvent", opts={"type": "x"}, id="id", index=2)
    op = planning.planned(call, 0.0)
    assert (op.code, op.id, op.name, op.index) == (Opcode.STEP_PLANNED, "id", "sendEvent", 2)
    assert op.opts == {"type": "x"}


@pytest.mark.parametrize(
    ("wakes_at", "duration"),
    [(12.5, "2500ms"), (10.0, "0ms"), (3.0, "0ms"), (10.0004, "0ms"), (10.0006, "1ms")],
)
def test_what_is_left_of_a_sleep_is_planned(wakes_at: float, duration: str) -> None:
    op = planning.planned(StepCall(Opcode.SLEEP, "nap", id="id", wakes_at=wakes_at), 10.0)
    assert (op.code, op.name, op.display_name) == (Opcode.SLEEP, duration, "nap")
    assert op.opts["duration"] == duration


def test_an_absolute_sleep_is_planned_as_it_was_given() -> None:
    call = StepCall(Opcode.SLEEP, "nap", name="2027-01-31T09:00:00.000Z", id="id")
    op = planning.planned(call, 10.0)
    assert (op.name, op.opts) == ("2027-01-31T09:00:00.000Z", {})


@pytest.mark.parametrize("value", [None, 1, {"n": [1, "ä"]}, "text"])
def test_a_result_that_is_there_already_is_answered_again(value: object) -> None:
    response = planning.again(None, Memo("id", value))
    (op,) = response.ops
    assert (op.code, op.id, op.opts) == (Opcode.STEP_RUN, "id", RACE)
    assert json.loads(op.data or "") == value


def test_a_failure_that_is_there_already_is_answered_again() -> None:
    call = StepCall(Opcode.STEP_RUN, "a", id="id")
    response = planning.again(call, Memo("id", error=ERROR))
    (op,) = response.ops
    assert (op.code, op.user_id, op.error, op.opts) == (Opcode.STEP_FAILED, "a", ERROR, RACE)
    assert response.no_retry is True


@pytest.mark.parametrize(
    ("sizes", "fit"),
    [
        ([], 0),
        ([planning.RESPONSE_LIMIT], 1),
        ([planning.RESPONSE_LIMIT + 1], 0),
        ([planning.RESPONSE_LIMIT - 1, 1, 1], 2),
        ([1, planning.RESPONSE_LIMIT, 1], 1),
    ],
)
def test_only_a_first_part_that_fits_is_answered(sizes: list[int], fit: int) -> None:
    ops = [_op(Opcode.STEP_RUN, f"s{n}", data="x" * size) for n, size in enumerate(sizes)]
    assert planning.that_fit(ops) == ops[:fit]


# ---------------------------------------------------------------------- failures


CALL = StepCall(Opcode.STEP_RUN, "load", timeout=2.5)
BIG = _op(Opcode.STEP_RUN, "load", data="x" * 1234)


@pytest.mark.parametrize(
    ("failure", "error", "says"),
    [
        (
            failures.result_too_large("load", 5_000_000, "the limit of 4,000,000"),
            errors.ResultTooLargeError,
            ["'load'", "5,000,000 bytes", "over the limit of 4,000,000", "Store it"],
        ),
        (
            failures.function_result_too_large(5_000_000, 4_000_000),
            errors.ResultTooLargeError,
            ["function's result", "5,000,000", "4,000,000", "reference"],
        ),
        (failures.step_timeout(CALL), errors.StepTimedOutError, ["'load'", "2.5 s", "timeout="]),
        (
            failures.step_over_deadline(CALL, ran=9.96, window=10.0),
            errors.StepTimedOutError,
            ["'load'", "10.0 s", "split it", "max_runtime"],
        ),
        (
            failures.too_slow(spent=3.21, window=3.0),
            errors.InvocationTooSlowError,
            ["3.2 s of the 3.0 s", "ctx.step.run"],
        ),
        (
            failures.unconfirmable(BIG, "status 422"),
            errors.CheckpointError,
            ["'load'", "1,234 bytes", "status 422", "runs again"],
        ),
    ],
)
def test_failures_say_what_happened_and_what_to_do(
    failure: Failure | ErrorInfo, error: type[errors.OnwardError], says: list[str]
) -> None:
    info = failure.error if isinstance(failure, Failure) else failure
    assert info.name == error.__name__
    for text in says:
        assert text in info.message
    if isinstance(failure, Failure):
        assert failure.retriable is error.retriable


def test_a_step_that_is_not_found_names_what_the_function_waits_for() -> None:
    info = failures.step_not_found("abc", "'load', 'save'")
    assert "abc" in info.message
    assert "'load', 'save'" in info.message
