"""A run that is over, or another invocation's: it is left quietly, and nothing more begins."""

from __future__ import annotations

import logging
from functools import partial

import pytest

import onward
from tests.failures.faults import GONE, NAMES, NotYetError, linear
from tests.support.checkpoint_api import OK, CheckpointApi, Reply
from tests.support.entries import Entry, call_request, shape_of
from tests.support.linear import Ledger, Step


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("before", [0, 2, 4])
@pytest.mark.parametrize("mode", ["confirmed", "pipelined"])
def test_a_run_that_is_over_is_left_quietly(
    *,
    entry: Entry,
    driver: str,
    mode: str,
    before: int,
    gone: str,
    api: CheckpointApi,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = Ledger()
    plan = ledger.bodies(*NAMES)
    if mode == "pipelined":
        # Each body ends only after the checkpoint of the one before is there.
        plan = [(name, ledger.body(name, partial(api.wait_for, n))) for n, name in enumerate(NAMES)]
    app = linear(driver, ledger, plan, mode=mode)
    api.script(*[OK] * before)
    api.default = GONE[gone]
    with caplog.at_level(logging.WARNING, "onward"):
        answer = entry.call(app, call_request())
    if mode == "pipelined" and len(api.checkpoints) == before == len(NAMES) - 1:
        # The last result rode with the end: nobody could say that the run was over.
        assert shape_of(answer) == "complete"
        return
    assert shape_of(answer) == "over"
    assert answer.headers.get("x-inngest-no-retry") is None
    assert len(api.checkpoints) == before + 1
    # Pipelined, the next bodies may have begun before the answer was there; none begins after it.
    begun = len(ledger.began) - (before + 1)
    assert begun == 0 if mode == "confirmed" else begun <= 2
    assert ledger.unwound == 1
    said = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(said) == 1, caplog.text
    assert "this run is over" in said[0].getMessage()


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("kind", ["sleep", "failed step", "completion"])
def test_a_run_that_is_over_at_a_suspend(
    entry: Entry, driver: str, kind: str, gone: str, api: CheckpointApi
) -> None:
    ledger = Ledger()

    def fail() -> None:
        raise NotYetError("at the wrong time")

    ends: dict[str, list[Step]] = {
        "sleep": [("pause", "1h")],
        "failed step": [("bad", ledger.body("bad", fail))],
        "completion": ledger.bodies(*(f"t{n}" for n in range(130))),
    }
    plan = [*ledger.bodies("s1", "s2"), *ends[kind]]
    app = linear(driver, ledger, plan, buffered_steps=1000)
    api.default = GONE[gone]
    answer = entry.call(app, call_request())
    assert shape_of(answer) == "over"
    assert ledger.unwound == 1
    assert len(api.checkpoints) == 1


@pytest.mark.parametrize("gone", GONE)
def test_a_body_under_way_is_stopped_when_the_run_is_over(
    entry: Entry, driver: str, gone: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    ended: list[str] = []

    def until_stopped() -> None:
        try:
            api.wait_until(lambda: False, "nothing: it is to be stopped")
        finally:
            ended.append("finally")

    plan = [*ledger.bodies("s1"), ("long", ledger.body("long", until_stopped)), *ledger.bodies("x")]
    app = linear(driver, ledger, plan, buffered_steps=10, max_interval=0.02)
    api.script(Reply(GONE[gone].status, GONE[gone].body))
    answer = entry.call(app, call_request())
    assert shape_of(answer) == "over"
    assert ended == ["finally"]
    assert ledger.ended == ["s1"]
    assert "x" not in ledger.began
    assert ledger.unwound == 1


def test_a_step_in_a_finally_block_of_a_run_that_is_over(
    entry: Entry, driver: str, api: CheckpointApi
) -> None:
    app = onward.App("lab")
    raised: list[str] = []
    register = app.function("tidy", trigger=onward.Event("test/asked"))

    async def tidy(ctx: onward.Context) -> None:
        try:
            await ctx.step.run("s1", int)
        finally:
            try:
                await ctx.step.run("clean", int)
            except onward.OnwardError as error:
                raised.append(str(error))

    def tidy_blocking(ctx: onward.BlockingContext) -> None:
        try:
            ctx.step.run("s1", int)
        finally:
            try:
                ctx.step.run("clean", int)
            except onward.OnwardError as error:
                raised.append(str(error))

    register(tidy if driver == "async" else tidy_blocking)
    api.default = GONE["409"]
    answer = entry.call(app, call_request())
    assert shape_of(answer) == "over"
    assert len(raised) == 1
    assert "'clean' was called while it is suspending" in raised[0]
