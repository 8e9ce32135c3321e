"""Whatever a function declares wrongly is told when it is registered: function, field and fix."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

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

PAID = Event("order/paid")
SIX = [Event(f"order/{n}") for n in range(6)]


async def handler(ctx: onward.Context) -> None:
    raise AssertionError


def register(app: onward.App | None = None, id_: Any = "fulfil", **options: Any) -> onward.App:
    app = app or onward.App("shop")
    app.function(id_, **{"trigger": PAID, **options})(handler)
    return app


def entry(**options: Any) -> dict[str, Any]:
    """The function's registration, without what every one has."""
    (function,) = register(**options).registration("http://127.0.0.1/x")["functions"]
    return {key: function[key] for key in function if key not in {"id", "name", "steps"}}


# What goes over the wire


def test_a_function_without_options_registers_what_it_must() -> None:
    assert register().registration("http://127.0.0.1/x?a=b") == {
        "url": "http://127.0.0.1/x?a=b",
        "deployType": "ping",
        "framework": "onward",
        "appName": "shop",
        "sdk": f"onward:v{onward.__version__}",
        "v": "0.1",
        "capabilities": {},
        "functions": [
            {
                "id": "shop-fulfil",
                "name": "fulfil",
                "triggers": [{"event": "order/paid"}],
                "steps": {
                    "step": {
                        "id": "step",
                        "name": "step",
                        "runtime": {
                            "type": "http",
                            "url": "http://127.0.0.1/x?a=b&fnId=shop-fulfil&stepId=step",
                        },
                        "retries": {"attempts": 3},
                    }
                },
                "checkpoint": {"batch_steps": 1, "batch_interval": "0s", "max_runtime": "0s"},
            }
        ],
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"trigger": [Event("a/*", if_="event.data.n > 1"), Cron("0 9 * * MON")]},
            {
                "triggers": [
                    {"event": "a/*", "expression": "event.data.n > 1"},
                    {"cron": "0 9 * * MON"},
                ]
            },
        ),
        (
            {"trigger": Cron("0 9 * * *", timezone="Europe/Berlin", jitter=90)},
            {"triggers": [{"cron": "TZ=Europe/Berlin 0 9 * * *", "jitter": "1m30s"}]},
        ),
        ({"trigger": Cron("TZ=UTC 0 9 * * *")}, {"triggers": [{"cron": "TZ=UTC 0 9 * * *"}]}),
        ({"trigger": Cron(" TZ=UTC\t0 9  * * *")}, {"triggers": [{"cron": "TZ=UTC 0 9 * * *"}]}),
        (
            {"checkpointing": onward.BLENDED},
            {"checkpoint": {"batch_steps": 3, "batch_interval": "3s", "max_runtime": "0s"}},
        ),
        (
            {"checkpointing": onward.HIGH_THROUGHPUT},
            {"checkpoint": {"batch_steps": 10, "batch_interval": "30s", "max_runtime": "10m"}},
        ),
        (
            {"cancel_on": CancelOn("order/cancelled", "async.data.id == event.data.id", "1h30m")},
            {
                "cancel": [
                    {
                        "event": "order/cancelled",
                        "if": "async.data.id == event.data.id",
                        "timeout": "1h30m",
                    }
                ]
            },
        ),
        (
            {"cancel_on": [CancelOn("a"), CancelOn("b")]},
            {"cancel": [{"event": "a"}, {"event": "b"}]},
        ),
        ({"concurrency": 5}, {"concurrency": [{"limit": 5}]}),
        (
            {"priority": Priority("event.data.pro ? -int(event.data.n) + 1 : size(event.data.of)")},
            {"priority": {"run": "event.data.pro ? -int(event.data.n) + 1 : size(event.data.of)"}},
        ),
        (
            {
                "concurrency": [
                    Concurrency(5),
                    Concurrency(2, key="event.data.tenant", scope="account"),
                ]
            },
            {
                "concurrency": [
                    {"limit": 5},
                    {"limit": 2, "key": "event.data.tenant", "scope": "account"},
                ]
            },
        ),
        ({"throttle": Throttle(10, "1m")}, {"throttle": {"limit": 10, "period": "1m"}}),
        (
            {"throttle": Throttle(10, timedelta(days=1.5), burst=3, key="event.user.id")},
            {"throttle": {"limit": 10, "period": "1d12h", "burst": 3, "key": "event.user.id"}},
        ),
        (
            {"rate_limit": RateLimit(1, 3600, key="event.data.id")},
            {"rateLimit": {"limit": 1, "period": "1h", "key": "event.data.id"}},
        ),
        (
            {"debounce": Debounce("10s", key="event.data.id", timeout="5m")},
            {"debounce": {"period": "10s", "key": "event.data.id", "timeout": "5m"}},
        ),
        (
            {"batch_events": BatchEvents(100, "1m")},
            {"batchEvents": {"maxSize": 100, "timeout": "1m"}},
        ),
        (
            {"batch_events": BatchEvents(2, 1.5, key="event.data.id", if_="event.data.small")},
            {
                "batchEvents": {
                    "maxSize": 2,
                    "timeout": "1.5s",
                    "key": "event.data.id",
                    "if": "event.data.small",
                }
            },
        ),
        ({"singleton": Singleton()}, {"singleton": {"mode": "skip"}}),
        (
            {"singleton": Singleton("cancel", key="event.data.id")},
            {"singleton": {"mode": "cancel", "key": "event.data.id"}},
        ),
        (
            {"timeouts": Timeouts(start="10s", finish="2h")},
            {"timeouts": {"start": "10s", "finish": "2h"}},
        ),
        ({"timeouts": Timeouts(finish=3)}, {"timeouts": {"finish": "3s"}}),
        ({"idempotency": "event.data.id"}, {"idempotency": "event.data.id"}),
    ],
)
def test_an_option_on_the_wire(options: dict[str, Any], expected: dict[str, Any]) -> None:
    always = {
        "triggers": [{"event": "order/paid"}],
        "checkpoint": {"batch_steps": 1, "batch_interval": "0s", "max_runtime": "0s"},
    }
    assert entry(**options) == {**always, **expected}


def test_without_checkpointing_there_is_none_to_register() -> None:
    assert "checkpoint" not in entry(checkpointing=False)


def test_a_failure_handler_is_a_function_of_its_own() -> None:
    app = onward.App("shop")
    register(app, name="Fulfil", on_failure=handler, retries=7, concurrency=1, checkpointing=False)
    first, second = app.registration("http://127.0.0.1/x")["functions"]
    assert first["id"] == "shop-fulfil"
    assert second == {
        "id": "shop-fulfil-failure",
        "name": "Fulfil (failure)",
        "triggers": [
            {
                "event": "inngest/function.failed",
                "expression": "event.data.function_id == 'shop-fulfil'",
            }
        ],
        "steps": {
            "step": {
                "id": "step",
                "name": "step",
                "runtime": {
                    "type": "http",
                    "url": "http://127.0.0.1/x?fnId=shop-fulfil-failure&stepId=step",
                },
                "retries": {"attempts": 1},
            }
        },
    }


# What is refused

BAD: list[tuple[dict[str, Any], str, str]] = [
    # Triggers.
    ({"trigger": "order/paid"}, "trigger", "onward.Event('order/paid')"),
    ({"trigger": None}, "trigger", "onward.Cron("),
    ({"trigger": [PAID, "x"]}, "trigger", "a list of those"),
    ({"trigger": []}, "has no trigger", "trigger=onward.Event('order/paid')"),
    ({"trigger": [*SIX, *[Event(f"x/{n}") for n in range(5)]]}, "11 triggers", "take 10"),
    ({"trigger": [PAID, Event("order/paid")]}, "trigger 2", "repeats trigger 1"),
    ({"trigger": [Cron("0 9 * * *"), Cron("0 9 * * *", jitter=9)]}, "trigger 2", "Leave it out"),
    ({"trigger": Event("")}, "name of trigger", "'order/paid'"),
    ({"trigger": Event("  ")}, "name of trigger", "'order/paid'"),
    ({"trigger": Event(7)}, "name of trigger", "'order/paid'"),  # type: ignore[arg-type]
    ({"trigger": Event("x" * 256)}, "name of trigger", "take 255"),
    *[
        ({"trigger": Event(name)}, "name of trigger", "'order/*' or 'order/item.*'")
        for name in ("*", "order*", "order/*/paid", "order/**", "order-*")
    ],
    ({"trigger": [PAID, Event("a", if_="")]}, "if_ of trigger 2", "leave it out"),
    ({"trigger": Event("a", if_=7)}, "if_ of trigger", "a CEL expression"),  # type: ignore[arg-type]
    ({"trigger": Event("a", if_="event.data.")}, "if_ of trigger", "position 12"),
    ({"trigger": Event("a", if_="event.data.n = 1")}, "if_ of trigger", "written '=='"),
    ({"trigger": Event("a", if_="event.data.n and true")}, "if_ of trigger", "written '&&'"),
    ({"trigger": Event("a", if_="(event.data.n or true)")}, "if_ of trigger", "written '||'"),
    ({"trigger": Event("a", if_="not event.data.n")}, "if_ of trigger", "written '!'"),
    ({"trigger": Event("a", if_="event.data.n == None")}, "if_ of trigger", "written null"),
    ({"trigger": Event("a", if_="event.data.n == True")}, "if_ of trigger", "written true"),
    ({"trigger": Event("a", if_="data.n == 1")}, "if_ of trigger", "event.data.data"),
    ({"trigger": Event("a", if_="async.data.n == 1")}, "if_ of trigger", "only `event`"),
    ({"trigger": Cron("")}, "schedule of trigger", "five fields"),
    ({"trigger": Cron(None)}, "schedule of trigger", "Write a text"),  # type: ignore[arg-type]
    ({"trigger": Cron("61 * * * *")}, "schedule of trigger", "0 to 59"),
    ({"trigger": Cron("0 9 * * 7")}, "schedule of trigger", "Sunday is 0"),
    ({"trigger": Cron("@daily")}, "schedule of trigger", "'0 0 * * *'"),
    ({"trigger": Cron("TZ=Europe/Atlantis 0 9 * * *")}, "schedule of trigger", "Europe/Berlin"),
    ({"trigger": Cron("0 9 * * *", "Atlantis")}, "schedule of trigger", "Europe/Berlin"),
    ({"trigger": Cron("0 9 * * *", "")}, "schedule of trigger", "time zone is empty"),
    ({"trigger": Cron("TZ=UTC 0 9 * * *", "UTC")}, "schedule of trigger", "Name one"),
    ({"trigger": Cron(",".join("1" * 200) + " * * * *")}, "schedule of trigger", "255"),
    ({"trigger": Cron("0 9 * * *", jitter="500ms")}, "jitter of trigger", "from 1s to 5m"),
    ({"trigger": Cron("0 9 * * *", jitter="6m")}, "jitter of trigger", "from 1s to 5m"),
    ({"trigger": Cron("0 9 * * *", jitter="soon")}, "jitter of trigger", "'14m30s'"),
    # What the function is.
    ({"retries": -1}, "retries", "from 0 to 20"),
    ({"retries": 21}, "retries", "from 0 to 20"),
    ({"retries": 1.5}, "retries", "from 0 to 20"),
    ({"retries": True}, "retries", "from 0 to 20"),
    ({"parallel": "both"}, "parallel", "'eager' or 'orchestrated'"),
    ({"name": ""}, "name", "leave it out"),
    ({"name": 7}, "name", "leave it out"),
    ({"checkpointing": "SAFE"}, "checkpointing", "True, False, or"),
    ({"on_failure": "notify"}, "on_failure", "a function of one context"),
    ({"on_failure": 7}, "on_failure", "without calling it"),
    # Cancellations.
    ({"cancel_on": "order/cancelled"}, "cancel_on", "onward.CancelOn('order/cancelled')"),
    ({"cancel_on": [CancelOn(e.name) for e in SIX]}, "cancel_on", "take 5"),
    ({"cancel_on": CancelOn("")}, "event of cancel_on", "'order/paid'"),
    ({"cancel_on": CancelOn("order/*")}, "event of cancel_on", "the whole name"),
    ({"cancel_on": [CancelOn("a"), CancelOn("")]}, "event of cancel_on 2", "'order/paid'"),
    ({"cancel_on": CancelOn("a", if_="(")}, "if_ of cancel_on", "ends too early"),
    ({"cancel_on": CancelOn("a", if_="size(async.data.x) > 1")}, "if_ of cancel_on", "'size'"),
    ({"cancel_on": CancelOn("a", if_="has(async.data.x)")}, "if_ of cancel_on", "'has'"),
    ({"cancel_on": CancelOn("a", if_="async.data.n + 1 == 2")}, "if_ of cancel_on", "'+'"),
    ({"cancel_on": CancelOn("a", if_="[1].exists(x, x > 0)")}, "if_ of cancel_on", "'exists'"),
    ({"cancel_on": CancelOn("a", timeout="x")}, "timeout of cancel_on", "'14m30s'"),
    ({"cancel_on": CancelOn("a", timeout=0)}, "timeout of cancel_on", "at least 1ms"),
    # Flow control.
    ({"concurrency": "5"}, "concurrency", "onward.Concurrency(5)"),
    ({"concurrency": True}, "limit of concurrency", "from 1"),
    ({"concurrency": 0}, "limit of concurrency", "from 1"),
    ({"concurrency": []}, "concurrency", "one or 2"),
    ({"concurrency": [Concurrency(1)] * 3}, "concurrency", "one or 2"),
    ({"concurrency": [Concurrency(1), 2]}, "concurrency", "up to two of the latter"),
    ({"concurrency": [Concurrency(1), Concurrency(-1)]}, "limit of concurrency 2", "from 1"),
    ({"concurrency": Concurrency(1, key="")}, "key of concurrency", "leave it out"),
    ({"concurrency": Concurrency(1, key="tenant")}, "key of concurrency", "event.data.tenant"),
    (
        {"concurrency": Concurrency(1, scope="app")},  # type: ignore[arg-type]
        "scope of concurrency",
        "'fn', 'env' or 'account'",
    ),
    ({"concurrency": Concurrency(1, scope="env")}, "key of concurrency", "key='\"ai\"'"),
    ({"throttle": 5}, "throttle", "onward.Throttle(10, '1m')"),
    ({"throttle": Throttle(0, "1m")}, "limit of throttle", "from 1"),
    ({"throttle": Throttle(1, "500ms")}, "period of throttle", "at least 1s"),
    ({"throttle": Throttle(1, "often")}, "period of throttle", "'14m30s'"),
    ({"throttle": Throttle(1, "1m", burst=0)}, "burst of throttle", "from 1"),
    ({"throttle": Throttle(1, "1m", key="a b")}, "key of throttle", "position 3"),
    ({"rate_limit": Throttle(1, "1m")}, "rate_limit", "onward.RateLimit(10, '1h')"),
    ({"rate_limit": RateLimit(0, "1m")}, "limit of rate_limit", "from 1"),
    ({"rate_limit": RateLimit(1, "25h")}, "period of rate_limit", "from 1s to 1d"),
    ({"rate_limit": RateLimit(1, 0)}, "period of rate_limit", "from 1s to 1d"),
    ({"rate_limit": RateLimit(1, "1h", key="")}, "key of rate_limit", "leave it out"),
    ({"debounce": "10s"}, "debounce", "onward.Debounce('10s')"),
    ({"debounce": Debounce("100ms")}, "period of debounce", "from 1s to 7d"),
    ({"debounce": Debounce("8d")}, "period of debounce", "from 1s to 7d"),
    ({"debounce": Debounce("1m", timeout="59s")}, "timeout of debounce", "at least 1m"),
    ({"debounce": Debounce("1m", key="!")}, "key of debounce", "ends too early"),
    ({"batch_events": 5}, "batch_events", "onward.BatchEvents(50, '10s')"),
    ({"batch_events": BatchEvents(1, "5s")}, "max_size of batch_events", "from 2 to 100"),
    ({"batch_events": BatchEvents(101, "5s")}, "max_size of batch_events", "from 2 to 100"),
    ({"batch_events": BatchEvents(2, "500ms")}, "timeout of batch_events", "from 1s to 1m"),
    ({"batch_events": BatchEvents(2, "61s")}, "timeout of batch_events", "from 1s to 1m"),
    ({"batch_events": BatchEvents(2, "5s", key="1.")}, "key of batch_events", "position 3"),
    ({"batch_events": BatchEvents(2, "5s", if_="")}, "if_ of batch_events", "leave it out"),
    ({"priority": "event.data.n"}, "priority", "onward.Priority("),
    ({"priority": Priority(None)}, "run of priority", "? 120 : 0"),  # type: ignore[arg-type]
    ({"priority": Priority("event.data.n ?")}, "run of priority", "position 15"),
    *[
        ({"priority": Priority(run)}, "run of priority", "int(event.data.urgency)")
        for run in ("event.data.n", "event.data.n * 10", "event.data.pro ? 120 : 0.5", "'high'")
    ],
    ({"singleton": "skip"}, "singleton", "onward.Singleton('skip')"),
    ({"singleton": Singleton("wait")}, "mode of singleton", "'skip' or 'cancel'"),  # type: ignore[arg-type]
    ({"singleton": Singleton(key="for")}, "key of singleton", "reserved word"),
    ({"timeouts": "1h"}, "timeouts", "onward.Timeouts(finish='1h')"),
    ({"timeouts": Timeouts()}, "timeouts", "neither start nor finish"),
    ({"timeouts": Timeouts(start=0)}, "start of timeouts", "at least 1ms"),
    ({"timeouts": Timeouts(finish="-1s")}, "finish of timeouts", "cannot be negative"),
    ({"idempotency": ""}, "idempotency", "leave it out"),
    ({"idempotency": ["event.data.id"]}, "idempotency", "a CEL expression"),
    ({"idempotency": "async.data.id"}, "idempotency", "only `event`"),
    ({"idempotency": "order_id"}, "idempotency", "event.data.order_id"),
]
BATCH = BatchEvents(2, "5s")
TOGETHER: list[dict[str, Any]] = [
    {"batch_events": BATCH, "cancel_on": CancelOn("a")},
    {"batch_events": BATCH, "debounce": Debounce("10s")},
    {"batch_events": BATCH, "singleton": Singleton()},
    {"batch_events": BATCH, "priority": Priority("1")},
    {"idempotency": "event.data.id", "rate_limit": RateLimit(1, "1h")},
]


@pytest.mark.parametrize(("options", "field", "fix"), BAD)
def test_a_bad_value_names_function_field_and_fix(
    options: dict[str, Any], field: str, fix: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        register(**options)
    message = caught.value.message
    assert "function 'fulfil' of app 'shop'" in message
    assert field in message
    assert fix in message


@pytest.mark.parametrize("options", TOGETHER)
def test_what_excludes_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigurationError, match="function 'fulfil' of app 'shop' has both"
    ) as told:
        register(**options)
    assert all(option in told.value.message for option in options)
    for option, value in options.items():
        register(**{option: value})


def test_a_function_that_is_refused_is_not_registered() -> None:
    app = onward.App("shop")
    with pytest.raises(ConfigurationError):
        register(app, retries=99)
    assert app.functions == {}


def test_a_decorator_on_nothing() -> None:
    app = onward.App("shop")
    with pytest.raises(ConfigurationError, match=r"'fulfil' of app 'shop' is None\. Put the deco"):
        app.function("fulfil", trigger=PAID)(None)  # type: ignore[type-var]
    assert app.functions == {}


@pytest.mark.parametrize(
    "id_",
    ["", " ", "a b", "a/b", "a?b", "a&b", "a#b", "a%b", "a'b", 'a"b', "a\\b", "a\x00b", None, 7],
)
def test_an_id_that_could_not_stand_in_an_address_or_an_expression(id_: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is not the id of .* use letters"):
        register(id_=id_)
    with pytest.raises(ConfigurationError, match="is not an app's id: use letters"):
        onward.App(id_)


@pytest.mark.parametrize("id_", ["a+b", "a=b;c", "prüfung", "a.b_c-d~1"])
def test_any_other_id_comes_back_from_the_address(id_: str) -> None:
    (function,) = register(id_=id_).registration("http://127.0.0.1/x")["functions"]
    url = function["steps"]["step"]["runtime"]["url"]
    assert url.isascii()
    assert parse_qs(urlsplit(url).query) == {"fnId": [f"shop-{id_}"], "stepId": ["step"]}


# What takes no context


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: None,
        lambda one, two: None,
        lambda ctx, *, more: None,
    ],
)
def test_a_function_that_does_not_take_its_context(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="function 'fulfil' of app 'shop' is called with"):
        onward.App("shop").function("fulfil", trigger=PAID)(wrong)
    with pytest.raises(ConfigurationError, match="The on_failure of function 'fulfil'"):
        register(on_failure=wrong)


@pytest.mark.parametrize(
    "right",
    [
        lambda *given: None,
        lambda ctx, more=1, *, other=2: None,
        functools.partial(lambda one, ctx: None, 1),
    ],
)
def test_whatever_can_be_called_with_a_context_is_a_function(right: Any) -> None:
    app = onward.App("shop")
    app.function("fulfil", trigger=PAID)(right)
    assert "shop-fulfil" in app.functions


# Ids that collide


def test_two_functions_with_one_id() -> None:
    app = register()
    with pytest.raises(ConfigurationError, match="has a function 'fulfil' already"):
        register(app)


def test_a_function_and_the_failure_handler_of_another() -> None:
    app = register(on_failure=handler)
    with pytest.raises(ConfigurationError, match="on_failure handler of 'fulfil'"):
        register(app, id_="fulfil-failure")
    app = register(id_="fulfil-failure")
    with pytest.raises(ConfigurationError, match="on_failure handler of 'fulfil'"):
        register(app, on_failure=handler)
    assert list(app.functions) == ["shop-fulfil-failure"]


def test_functions_of_two_apps_that_have_one_id_for_the_orchestrator() -> None:
    first = register(onward.App("shop"), id_="eu-fulfil")
    with pytest.raises(ConfigurationError, match="'shop-eu-fulfil'") as caught:
        register(onward.App("shop-eu"), id_="fulfil")
    assert "of app 'shop'" in caught.value.message
    assert "of app 'shop-eu'" in caught.value.message
    del first
    # The same app may be built again, as tests and reloads do.
    apps = [register(), register()]
    assert len(apps) == 2
