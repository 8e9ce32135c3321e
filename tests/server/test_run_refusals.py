"""What ends a run, or is a failed attempt, because it would hang or starve elsewhere."""

from __future__ import annotations

import pytest

from onward_server.answers import Answer, Reported, interpret
from onward_server.model import Status
from tests.server.fakes import (
    RACE,
    complete,
    complete_op,
    continue_op,
    error_op,
    invoke_op,
    none_op,
    parsed,
    plan_op,
    report,
    run_op,
    signal_op,
    sleep_op,
    step_id,
    wait_op,
)
from tests.server.machines import Machine

REFUSED = {
    "two failures": ([error_op("a"), error_op("b")], "beside its own retry"),
    "a result beside a failure": ([run_op("a"), error_op("b")], "beside its own retry"),
    "a wait beside a continuation": (
        [wait_op("w", "e", "1s"), continue_op("c")],
        "would never be called back",
    ),
    "completion beside a plan": ([plan_op("a"), complete_op()], "have open steps"),
    "two completions": ([complete_op(), complete_op()], "have open steps"),
    "an invoke of nothing": (
        [{"id": "i", "op": "InvokeFunction", "name": "child", "opts": {}}],
        "opts.function_id must be a non-empty string",
    ),
    "an invoke with a list": ([invoke_op("i", "app-g", [1])], "must be JSON objects"),
    "a wait for no signal": ([signal_op("s", "")], "the signal must be a non-empty string"),
    "a wait of two years": ([wait_op("w", "e", "800d")], "more than one year from now"),
    "a sleep of no duration": ([sleep_op("s", "5 parsecs")], "5 parsecs"),
    "a wait on what cannot be evaluated": (
        [wait_op("w", "e", "1s", **{"if": "event.data.list >"})],
        "failed to compile",
    ),
    "a quiet end with nothing left": ([none_op("x")], "nothing is left to wait for"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_hang_elsewhere_fails_with_the_reason(what: str) -> None:
    ops, fragment = REFUSED[what]
    machine = Machine()
    effects = machine.answer(report(*ops))
    assert fragment in machine.error
    assert effects.dispatch == []
    assert effects.ended


def test_a_plan_of_what_the_journal_had_fails_and_does_not_hang() -> None:
    machine = Machine()
    machine.answer(report(run_op("a")))
    machine.answer(report(plan_op("a")))
    assert "nothing is left to wait for" in machine.error


def test_a_plan_of_what_was_confirmed_meanwhile_calls_again() -> None:
    machine = Machine()
    machine.run.checkpoint(machine.job.request_id, parsed(run_op("a")))
    [call] = machine.answer(report(plan_op("a"))).dispatch
    assert not call.targeted


def test_a_targeted_call_that_plans_its_step_again_is_refused() -> None:
    machine = Machine()
    machine.answer(report(plan_op("a")))
    machine.answer(report(plan_op("a")))
    assert "planned it again" in machine.error


def test_a_targeted_call_may_continue_and_its_step_is_planned_anew() -> None:
    machine = Machine()
    machine.answer(report(plan_op("a")))
    [call] = machine.answer(report(continue_op("c"))).dispatch
    assert not call.targeted
    [planned] = machine.answer(report(plan_op("a"))).dispatch
    assert planned.target == step_id("a")


def test_ops_outside_race_mode_are_awaited_all() -> None:
    machine = Machine()
    machine.answer(report(sleep_op("s", "1h"), plan_op("a")))
    assert not machine.answer(report(run_op("a")), machine.flying("a")).dispatch
    [call] = machine.wait(3_600_000, step_id("s")).dispatch
    assert not call.targeted


def test_the_losers_of_a_race_hold_nothing_up() -> None:
    machine = Machine()
    machine.answer(report(plan_op("a", **RACE), sleep_op("s", "1h", **RACE)))
    [call] = machine.answer(report(run_op("a")), machine.flying("a")).dispatch
    assert not call.targeted
    machine.answer(report(sleep_op("s", "1h", **RACE), plan_op("after")))
    [call] = machine.answer(report(run_op("after")), machine.flying("after")).dispatch
    assert not call.targeted


def test_continuing_without_progress_ends() -> None:
    machine = Machine(max_idle_continuations=3)
    for n in range(3):
        machine.answer(report(continue_op(f"c{n}")))
    machine.run.checkpoint(machine.job.request_id, parsed(run_op("a")))
    for n in range(4):
        machine.answer(report(continue_op(f"d{n}")))
    assert not machine.run.over, "a result in between counts"
    machine.answer(report(continue_op("e")))
    assert "without one new result" in machine.error


def test_a_result_that_is_answered_again_and_again_ends() -> None:
    machine = Machine(max_idle_continuations=3)
    for _ in range(4):
        machine.answer(report(run_op("a")))
    assert not machine.run.over
    machine.answer(report(run_op("a")))
    assert "without one new result" in machine.error


def test_a_run_that_outgrows_its_limits_fails_at_its_next_call() -> None:
    machine = Machine(max_steps=2)
    machine.answer(report(run_op("a")))
    assert not machine.run.over
    machine.answer(report(run_op("b")))
    assert "InngestErrFunctionOverflowed" in machine.error
    assert "exceeded the step limit of 2 steps. It has 2 steps" in machine.error


def test_a_run_that_completes_in_one_call_may_have_as_many_steps_as_it_likes() -> None:
    machine = Machine(max_steps=2)
    machine.run.checkpoint(machine.job.request_id, parsed(*(run_op(name) for name in "abc")))
    machine.answer(complete("done"))
    assert machine.run.status is Status.COMPLETED


def test_a_run_whose_results_are_too_large_fails_at_its_next_call() -> None:
    machine = Machine(max_run_bytes=100)
    machine.answer(report(run_op("a", "x" * 200)))
    assert "InngestErrStateOverflowed" in machine.error
    assert "exceeded the state size limit of 100 bytes" in machine.error


def test_an_unknown_opcode_is_a_failed_attempt_and_loses_nothing() -> None:
    machine = Machine(max_attempts=2)
    machine.answer(report(run_op("a")))
    unknown = {"op": "AIGateway", "id": "x"}
    machine.answer(report(unknown))
    assert not machine.run.over
    [job] = machine.run.jobs.values()
    machine.wait(job.due_ms - machine.ids.ms, job.id)
    assert list(machine.run.steps) == [step_id("a")], "an upgrade goes on from here"
    machine.answer(report(unknown))
    assert "ops that this orchestrator does not know: AIGateway" in machine.error
    assert "Upgrade Onward" in machine.error


def test_an_answer_that_is_no_protocol_is_a_failed_attempt() -> None:
    for answer in (
        Answer(206, {}, b"<html>"),
        Answer(206, {}, b'[{"op":"Nonsense","id":"x"}]'),
        Answer(502, {}, b"bad gateway"),
    ):
        machine = Machine(max_attempts=1)
        machine.answer(answer)
        assert machine.run.status is Status.FAILED
    assert isinstance(interpret(report(run_op("a")), 0), Reported)
