"""What an app registers, the embedded orchestrator takes; what it cannot keep apart, it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import onward
from onward import (
    BatchEvents,
    CancelOn,
    Concurrency,
    ConfigurationError,
    Cron,
    Debounce,
    Event,
    Priority,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
)
from onward_server import Answer, Orchestrator
from onward_server.registration import parse_registration

URL = "http://127.0.0.1:9/api/inngest"


async def handler(ctx: onward.Context) -> None:
    raise AssertionError


class Unused:
    """An invoker that nothing asks."""

    async def invoke(
        self,
        function_id: str,
        target: str,
        request: dict[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - the orchestrator's own
    ) -> Answer:
        raise AssertionError


@pytest.fixture
async def orchestrator() -> AsyncIterator[Orchestrator]:
    made = Orchestrator()
    await made.start()
    yield made
    await made.stop()


def everything() -> onward.App:
    app = onward.App("all")
    crons = [Cron("*/5 9-17 * * MON-FRI", "Europe/Berlin", "1m"), Cron("TZ=UTC 0 0 1 JAN ?")]
    app.function(
        "one",
        trigger=[*crons, Event("a/*", "has(event.data.x) && event.data.x.startsWith('y')")],
        cancel_on=CancelOn("b", "async.data.id == event.data.id", "30d"),
        concurrency=[Concurrency(5), Concurrency(1, "event.data.tenant", "account")],
        throttle=Throttle(10, "2d", 3, "event.data.a + '-' + event.data.b"),
        rate_limit=RateLimit(1, "24h", "string(event.data.id)"),
        debounce=Debounce("7d", "event.data.id", "14d"),
        priority=Priority("event.data.plan == 'pro' ? 120 : -120"),
        singleton=Singleton("cancel", "event.data.id || event.data.name"),
        timeouts=Timeouts("250ms", "90d"),
        on_failure=handler,
    )(handler)
    app.function(
        "two",
        trigger=Event("a"),
        idempotency="event.data.id",
        batch_events=BatchEvents(100, "60s", "event.data.id", "event.data.n in [1, 2]"),
    )(handler)
    return app


def test_every_option_is_taken() -> None:
    parsed = parse_registration(everything().registration(URL))
    assert [function.id for function in parsed.functions] == [
        "all-one",
        "all-one-failure",
        "all-two",
    ]
    one, failure, two = parsed.functions
    assert one.flow.throttle is not None
    assert one.flow.throttle.period_s == 2 * 86_400
    assert one.flow.timeouts.start_s == 0.25
    assert one.flow.timeouts.finish_s == 90 * 86_400
    assert two.flow.batch is not None
    assert (two.flow.batch.max_size, two.flow.batch.timeout_s) == (100, 60)
    assert failure.max_attempts == 2


async def test_what_it_does_not_carry_out_it_says_once(orchestrator: Orchestrator) -> None:
    first = await orchestrator.register(everything().registration(URL), Unused())
    assert len(first.notices) == 1
    assert "priority" in first.notices[0]
    assert "'all-one'" in first.notices[0]


async def test_an_expression_that_it_cannot_evaluate_is_refused(orchestrator: Orchestrator) -> None:
    app = onward.App("late")
    app.function("f", trigger=Event("a", "date(event.data.at) < now()"))(handler)
    with pytest.raises(ConfigurationError, match="embedded orchestrator cannot evaluate") as told:
        await orchestrator.register(app.registration(URL), Unused())
    assert "'late-f'" in told.value.message
    assert orchestrator.functions == {}


async def test_two_apps_whose_functions_have_one_id(orchestrator: Orchestrator) -> None:
    first, second = onward.App("eu"), onward.App("eu-shop")
    first.function("shop-pay", trigger=Event("a"))(handler)
    registered = first.registration(URL)
    del first
    second.function("pay", trigger=Event("a"))(handler)
    await orchestrator.register(registered, Unused())
    with pytest.raises(ConfigurationError, match="'eu-shop-pay' too"):
        await orchestrator.register(second.registration(URL), Unused())
    assert orchestrator.functions["eu-shop-pay"].app == "eu"
    # The same app may register again.
    await orchestrator.register(registered, Unused())
