"""On a server, code that cannot be stopped is left behind, counted, and bounded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import Any

import pytest

import onward
from onward.execution.abandoned import abandoned
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import AsgiEntry, call_request, request_after, shape_of
from tests.support.linear import Ledger, linear_app
from tests.support.loops import eventually
from tests.watchdog.bodies import ignore_cancellation, ignore_interrupts, stuck_in_c

REMAINING = 0.8
MARGIN = "0.4s"

pytestmark = pytest.mark.usefixtures("counted")

Stop = threading.Event
Body = Callable[[], Any]

KINDS: dict[str, Callable[[Stop], Body]] = {
    "swallows": lambda ended: partial(ignore_interrupts, ended.is_set),
    "swallows cancellation": lambda ended: partial(ignore_cancellation, ended.is_set),
    "stuck in C": lambda ended: partial(stuck_in_c, 2.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_left_behind_and_the_run_goes_on(
    *,
    asgi: AsgiEntry,
    driver: str,
    kind: str,
    api: CheckpointApi,
    ended: threading.Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = Ledger()
    stuck: list[Body] = [KINDS[kind](ended), ledger.body("again")]

    def hard() -> Any:
        return stuck.pop(0)()

    async def hard_async() -> Any:
        value = stuck.pop(0)()
        return await value if isawaitable(value) else value

    body = hard_async if kind == "swallows cancellation" else hard
    plan = [*ledger.bodies("s1", "s2"), ("hard", body)]
    checkpointing = onward.Checkpointing(buffered_steps=100)
    app = linear_app(driver, ledger, plan, checkpointing=checkpointing, deadline_margin=MARGIN)
    with caplog.at_level(logging.WARNING, "onward"):
        answer = asgi.call(app, call_request(), remaining=REMAINING)
    assert shape_of(answer) == "continue"
    assert api.stored() == ["s1", "s2"]
    assert abandoned.count == 1
    assert [r.getMessage()[:48] for r in caplog.records] == [
        "1 piece(s) of code of function lab-linear could "
    ]
    # It has ended by the end of the test, and its result is nobody's.
    ended.set()
    again = asgi.call(app, request_after(api), remaining=30.0)
    assert shape_of(again) == "complete"
    assert ledger.ended == ["s1", "s2", "again"]
    eventually(lambda: abandoned.count == 0, "what has ended counts no more")


def test_without_progress_it_has_timed_out(
    asgi: AsgiEntry, driver: str, api: CheckpointApi, ended: threading.Event
) -> None:
    ledger = Ledger()
    plan = [("hard", partial(ignore_interrupts, ended.is_set))]
    app = linear_app(driver, ledger, plan, deadline_margin=MARGIN)
    answer = asgi.call(app, call_request(), remaining=REMAINING)
    assert answer.brief == [("StepError", "hard")]
    assert answer.ops[0]["error"]["name"] == "StepTimedOutError"
    assert abandoned.count == 1


def test_what_it_returns_later_is_discarded(
    asgi: AsgiEntry, driver: str, api: CheckpointApi, ended: threading.Event
) -> None:
    ledger = Ledger()
    late = threading.Event()

    def hard() -> str:
        ignore_interrupts(ended.is_set)
        late.set()
        return "too late"

    app = linear_app(driver, ledger, [*ledger.bodies("s1"), ("hard", hard)], deadline_margin=MARGIN)
    assert shape_of(asgi.call(app, call_request(), remaining=REMAINING)) == "continue"
    ended.set()
    assert late.wait(30)
    assert api.stored() == ["s1"]


def test_past_the_limit_the_process_takes_no_calls(
    asgi: AsgiEntry,
    driver: str,
    api: CheckpointApi,
    ended: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(abandoned, "limit", 1)
    ledger = Ledger()
    plan = [*ledger.bodies("s1"), ("hard", partial(ignore_interrupts, ended.is_set))]
    app = linear_app(driver, ledger, plan, deadline_margin=MARGIN)
    assert shape_of(asgi.call(app, call_request(), remaining=REMAINING)) == "continue"
    refused = asgi.call(app, request_after(api), remaining=30.0)
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert "could not be stopped" in refused.body["message"]
    assert ledger.ended == ["s1"]
    # Once it has ended after all, calls are taken again.
    ended.set()
    eventually(lambda: abandoned.count == 0, "what has ended counts no more")
    plan[1] = ("hard", ledger.body("again"))
    app = linear_app(driver, ledger, plan, deadline_margin=MARGIN)
    assert shape_of(asgi.call(app, request_after(api), remaining=30.0)) == "complete"
    assert ledger.ended == ["s1", "again"]


def test_an_async_function_that_swallows_its_cancellation(
    asgi: AsgiEntry, api: CheckpointApi, ended: threading.Event
) -> None:
    """While suspending, its own code is waited for until half of what is left has passed."""
    app = onward.App("lab", deadline_margin=MARGIN)

    @app.function("stubborn", trigger=onward.Event("test/asked"))
    async def stubborn(ctx: onward.Context) -> None:
        try:
            await ctx.step.run("s1", int)
            await ctx.step.sleep("pause", "1h")
        finally:
            await ignore_cancellation(ended.is_set)

    answer = asgi.call(app, call_request(), remaining=REMAINING)
    assert answer.brief == [("Sleep", "pause")]
    assert abandoned.count == 1
    ended.set()
    eventually(lambda: abandoned.count == 0, "what has ended counts no more")
