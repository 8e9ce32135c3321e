"""Signals and invocations in the state machine on its own: no IO, no clock."""

from __future__ import annotations

import json
from typing import Any

import pytest

from onward_server.answers import interpret
from onward_server.model import (
    REPLACED,
    DropPending,
    Effects,
    Job,
    Now,
    PutPending,
    PutStep,
    ReplaceSignal,
    Status,
)
from onward_server.run_state import RunState
from onward_server.settings import Settings
from onward_server.waits import LONGEST_MS, signal_of
from tests.server.fakes import (
    RACE,
    Ids,
    invoke_op,
    report,
    signal_op,
    sleep_op,
    step_id,
    wait_op,
)

YEAR_MS = 365 * 86_400_000


class Machine:
    """A run; `holders` are the signals that other runs wait for."""

    def __init__(self) -> None:
        self.ids = Ids()
        self.holders: dict[str, tuple[str, str]] = {}
        self.run = RunState(
            run_id="RUN",
            function_id="app-f",
            event_id="E",
            event_names="app/f",
            events='[{"name":"app/f","data":{"id":7}}]',
            settings=Settings(),
            max_attempts=1,
            started_ms=self.ids.ms,
        )
        self.run.begin(self.now())

    def now(self) -> Now:
        return self.ids.now()._replace(holder=self.holders.get)

    def answer(self, *ops: dict[str, Any]) -> Effects:
        [job] = [job for job in self.run.jobs.values() if job.in_flight]
        outcome = interpret(report(*ops), self.ids.ms)
        return self.run.answer(job.id, job.request_id, outcome, self.now())

    def memo(self, name: str) -> Any:
        text = self.run.steps[step_id(name)]
        return json.loads("{" + text + "}")[step_id(name)]

    @property
    def next_call(self) -> Job:
        [job] = self.run.jobs.values()
        return job


def test_an_invocation_asks_for_its_function_once() -> None:
    machine = Machine()
    effects = machine.answer(invoke_op("child", "other-g", {"x": 1}, timeout="1m"))
    [invocation] = effects.invocations
    assert invocation.function_id == "other-g"
    assert invocation.payload == {"data": {"x": 1}}
    assert invocation.expires_ms == machine.ids.ms + 60_000
    assert effects.timers == [(machine.ids.ms + 60_000, step_id("child"))]
    assert effects.dispatch == []


def test_an_invocation_without_a_timeout_waits_for_a_year() -> None:
    machine = Machine()
    [invocation] = machine.answer(invoke_op("child", "other-g")).invocations
    assert invocation.expires_ms == machine.ids.ms + YEAR_MS


def test_an_invocation_reported_again_is_not_made_again() -> None:
    machine = Machine()
    machine.answer(invoke_op("child", "g", **RACE), sleep_op("nap", "1s", **RACE))
    machine.ids.ms += 1000
    machine.run.due(step_id("nap"), machine.now())
    effects = machine.answer(invoke_op("child", "g", **RACE))
    assert effects.invocations == []
    assert list(machine.run.pending) == [step_id("child")]


@pytest.mark.parametrize("entry", [{"data": 42}, {"error": {"name": "E", "message": "m"}}])
def test_the_reply_is_the_result(entry: dict[str, Any]) -> None:
    machine = Machine()
    machine.answer(invoke_op("child", "g"))
    effects = machine.run.replied(step_id("child"), json.dumps(entry), machine.now())
    assert machine.memo("child") == entry
    assert [type(write) for write in effects.writes[:2]] == [DropPending, PutStep]
    assert machine.next_call.position == 1
    late = machine.run.replied(step_id("child"), '{"data":"late"}', machine.now())
    assert (late.stale, late.writes) == (True, [])
    assert machine.memo("child") == entry


def test_a_reply_to_something_else_is_stale() -> None:
    machine = Machine()
    machine.answer(wait_op("wait", "e", "1m"))
    assert machine.run.replied(step_id("wait"), '{"data":1}', machine.now()).stale
    assert machine.run.signalled(step_id("wait"), 1, machine.now()).stale
    assert list(machine.run.pending) == [step_id("wait")]


def test_an_invocation_times_out_with_an_error_and_a_signal_with_null() -> None:
    machine = Machine()
    machine.answer(
        invoke_op("child", "g", timeout="1s", **RACE), signal_op("signal", "s", "1s", **RACE)
    )
    machine.ids.ms += 1000
    for name in ("child", "signal"):
        machine.run.due(step_id(name), machine.now())
    error = machine.memo("child")["error"]
    assert error["name"] == "InngestInvokeTimeoutError"
    assert error["message"] == "Timed out waiting for invoked function to complete"
    assert machine.memo("signal") is None


def test_a_signal_ends_its_wait_with_its_data() -> None:
    machine = Machine()
    machine.answer(signal_op("signal", "approve-7"))
    machine.run.signalled(step_id("signal"), {"ok": True}, machine.now())
    assert machine.memo("signal") == {"data": {"data": {"ok": True}, "signal": "approve-7"}}


def test_a_signal_that_another_run_waits_for_fails_the_run() -> None:
    machine = Machine()
    machine.holders["s"] = ("OTHER", "step")
    machine.answer(signal_op("signal", "s"))
    assert machine.run.status is Status.FAILED
    assert "signal wait already exists for another run" in machine.run.output
    assert "OTHER" in machine.run.output
    assert 'on_conflict=\\"replace\\"' in machine.run.output


def test_a_signal_can_be_taken_over() -> None:
    machine = Machine()
    machine.holders["s"] = ("OTHER", "step")
    effects = machine.answer(signal_op("signal", "s", conflict="replace"))
    assert ReplaceSignal("OTHER", "step") in effects.writes
    assert any(isinstance(write, PutPending) for write in effects.writes)
    assert not machine.run.over


def test_a_run_conflicts_with_itself() -> None:
    machine = Machine()
    machine.answer(signal_op("a", "s", **RACE), signal_op("b", "s", **RACE))
    assert machine.run.status is Status.FAILED
    machine = Machine()
    effects = machine.answer(
        signal_op("a", "s", **RACE), signal_op("b", "s", **RACE, conflict="replace")
    )
    first, second = (machine.run.pending[step_id(name)] for name in "ab")
    assert (first.condition, signal_of(first)) == (REPLACED, "")
    assert signal_of(second) == "s"
    assert effects.writes.index(ReplaceSignal("RUN", first.id)) > 0
    assert machine.run.signalled(first.id, 1, machine.now()).stale


def test_a_wait_without_a_timeout_is_over_at_once() -> None:
    machine = Machine()
    effects = machine.answer(wait_op("wait", "e", ""))
    assert effects.timers == [(machine.ids.ms, step_id("wait"))]


def test_the_longest_wait_is_a_year_that_leaps() -> None:
    machine = Machine()
    machine.answer(sleep_op("nap", f"{LONGEST_MS // 1000}s"))
    assert not machine.run.over
    machine = Machine()
    machine.answer(sleep_op("nap", f"{LONGEST_MS // 1000 + 1}s"))
    assert "InngestErrTimeoutTooLong" in machine.run.output
