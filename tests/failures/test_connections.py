"""The checkpoint connection: kept, replaced when it is stale, and patient while nobody listens."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import pytest

import onward
from onward.transport import channel
from tests.support.checkpoint_api import OK, CheckpointApi, Reply
from tests.support.entries import Entry, call_request, request_after, shape_of
from tests.support.linear import Ledger, linear_app

NAMES = [f"s{n}" for n in range(1, 9)]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer on a loaded machine may take its time."""
    monkeypatch.setattr(channel, "TRY_TIMEOUT", 10.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("mode", ["confirmed", "pipelined"])
def test_one_connection_serves_many_checkpoints_and_invocations(
    entry: Entry, driver: str, mode: Any, api: CheckpointApi
) -> None:
    ledger = Ledger()
    options = onward.Checkpointing(mode=mode)
    app = linear_app(driver, ledger, ledger.bodies(*NAMES), checkpointing=options)
    for _ in range(3):
        api.journal.clear()
        assert shape_of(entry.call(app, call_request())) == "complete"
    count = len(api.checkpoints)
    assert count == 3 * len(NAMES) if mode == "confirmed" else 3 <= count < 3 * len(NAMES)
    assert api.connections == 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("how", ["hung up between", "restarted between", "hung up in the middle"])
def test_a_stale_connection_is_replaced_without_a_word(
    entry: Entry, driver: str, how: str, api: CheckpointApi, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a freeze, a load balancer's idle limit, or a restart of the orchestrator."""
    ledger = Ledger()
    plan = ledger.bodies(*NAMES)
    if how == "hung up in the middle":
        plan[4] = ("s5", ledger.body("s5", api.drop_connections))
    app = linear_app(driver, ledger, plan)
    assert shape_of(entry.call(app, call_request())) == "complete"
    if how == "restarted between":
        api.down()
        api.up()
    else:
        api.drop_connections()
    api.journal.clear()
    assert shape_of(entry.call(app, call_request())) == "complete"
    assert ledger.ended == NAMES * 2
    assert len({(seen.connection, *seen.steps) for seen in api.checkpoints}) == 2 * len(NAMES)
    assert api.connections == (4 if how == "hung up in the middle" else 2)
    assert caplog.text == ""


@pytest.mark.usefixtures("patient")
def test_an_orchestrator_that_is_away_for_a_while_is_waited_for(
    entry: Entry, driver: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    plan = ledger.bodies(*NAMES)
    back: list[threading.Timer] = []

    def go_away() -> None:
        api.down()
        timer = threading.Timer(0.4, api.up)
        back.append(timer)
        timer.start()

    plan[3] = ("s4", ledger.body("s4", go_away))
    app = linear_app(driver, ledger, plan)
    answer = entry.call(app, call_request(), remaining=60.0)
    for timer in back:
        timer.join()
    assert shape_of(answer) == "complete"
    assert api.stored() == NAMES
    assert ledger.ended == NAMES


@pytest.mark.parametrize("mode", ["1", "3", "pipelined"])
def test_an_orchestrator_that_stays_away_gets_what_was_finished_later(
    entry: Entry,
    driver: str,
    mode: str,
    api: CheckpointApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Connections are refused until the time is up."""
    monkeypatch.setattr(channel, "RETRY_BUDGET", 0.08)
    options = {
        "1": onward.Checkpointing(),
        "3": onward.Checkpointing(buffered_steps=3),
        "pipelined": onward.Checkpointing(mode="pipelined"),
    }
    ledger = Ledger()
    plan = ledger.bodies(*NAMES)
    plan[3] = ("s4", ledger.body("s4", api.down))
    app = linear_app(driver, ledger, plan, checkpointing=options[mode])
    answer = entry.call(app, call_request())
    shape_of(answer, unconfirmable=True)
    api.keep(op for op in answer.ops if op["op"] == "StepRun")
    api.up()
    if answer.ops[-1]["op"] != "RunComplete":
        assert shape_of(entry.call(app, request_after(api))) == "complete"
    assert ledger.ended == NAMES


def test_an_answer_comes_before_the_platform_kills(
    entry: Entry, driver: str, api: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long an outage: retries end in time to hand over what is finished."""
    monkeypatch.setattr(channel, "TRY_TIMEOUT", 10.0)
    ledger = Ledger()
    # Half a second before the kill is kept; a slow machine needs not a hundredth of it.
    app = linear_app(driver, ledger, ledger.bodies("s1", "s2"), deadline_margin="0.5s")
    # The first answer never comes; what is tried after it would be refused at once.
    api.script(Reply(fault="hang"))
    killed_at = time.monotonic() + 1.0
    answer = entry.call(app, call_request(), remaining=1.0)
    assert time.monotonic() < killed_at
    assert answer.brief == [("StepRun", "s1"), ("StepPlanned", "s2")]
    assert ledger.began == ["s1"]


@pytest.mark.usefixtures("patient")
def test_the_server_may_close_each_connection(
    entry: Entry, driver: str, api: CheckpointApi
) -> None:
    ledger = Ledger()
    plan = [
        (name, ledger.body(name, partial(api.script, Reply(closes=True)))) for name in NAMES[:4]
    ]
    app = linear_app(driver, ledger, plan)
    api.default = OK
    assert shape_of(entry.call(app, call_request())) == "complete"
    assert api.connections == 4
    assert api.stored() == NAMES[:4]
