"""Every variable of the specification: what it does, and what goes before it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import onward
import onward.asgi
import onward.wsgi
from onward.errors import ConfigurationError
from onward.settings import CLOUD_API, CLOUD_EVENTS, DEV_SERVER, Given, Settings, resolve_settings

KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
BARE = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"

OWN = "http://inngest.internal:8288"


@pytest.mark.parametrize(
    ("environ", "api", "events", "dev"),
    [
        ({}, CLOUD_API, CLOUD_EVENTS, False),
        ({"INNGEST_DEV": ""}, CLOUD_API, CLOUD_EVENTS, False),
        ({"INNGEST_DEV": "0"}, CLOUD_API, CLOUD_EVENTS, False),
        ({"INNGEST_DEV": "False"}, CLOUD_API, CLOUD_EVENTS, False),
        ({"INNGEST_DEV": "1"}, DEV_SERVER, DEV_SERVER, True),
        ({"INNGEST_DEV": "true"}, DEV_SERVER, DEV_SERVER, True),
        ({"INNGEST_DEV": f"{OWN}/"}, OWN, OWN, True),
        ({"INNGEST_BASE_URL": OWN}, OWN, OWN, False),
        ({"INNGEST_DEV": "1", "INNGEST_BASE_URL": OWN}, OWN, OWN, True),
        ({"INNGEST_API_BASE_URL": OWN}, OWN, CLOUD_EVENTS, False),
        ({"INNGEST_EVENT_API_BASE_URL": OWN}, CLOUD_API, OWN, False),
        (
            {"INNGEST_BASE_URL": "http://a", "INNGEST_API_BASE_URL": OWN},
            OWN,
            "http://a",
            False,
        ),
        (
            {"INNGEST_DEV": "http://a", "INNGEST_EVENT_API_BASE_URL": OWN},
            "http://a",
            OWN,
            True,
        ),
    ],
)
def test_where_the_orchestrator_is(
    *, environ: dict[str, str], api: str, events: str, dev: bool
) -> None:
    settings = resolve_settings(environ)
    assert (settings.api_url, settings.events_url, settings.dev) == (api, events, dev)
    assert settings.mode == ("dev" if dev else "cloud")


#: Variable, the argument of an app that goes before it, the attribute, and a value of each.
GIVEN = [
    ("INNGEST_SIGNING_KEY", "signing_key", KEY, BARE),
    ("INNGEST_SIGNING_KEY_FALLBACK", "signing_key_fallback", KEY, BARE),
    ("INNGEST_EVENT_KEY", "event_key", "from-the-environment", "given"),
    ("INNGEST_ENV", "env", "feature/from the environment", "given"),
    ("INNGEST_SERVE_ORIGIN", "serve_origin", "https://env.test", "https://given.test"),
    ("INNGEST_SERVE_PATH", "serve_path", "/env", "/given"),
]


@pytest.mark.parametrize(("variable", "argument", "value", "given"), GIVEN)
def test_a_variable_and_the_argument_before_it(
    variable: str, argument: str, value: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert getattr(onward.App("shop").settings, argument) is None
    monkeypatch.setenv(variable, f" {value} ")
    assert getattr(onward.App("shop").settings, argument) == value
    options: dict[str, Any] = {argument: given}
    assert getattr(onward.App("shop", **options).settings, argument) == given
    monkeypatch.setenv(variable, "")
    assert getattr(onward.App("shop").settings, argument) is None


def test_what_an_app_is_given_goes_before_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BASE_URL", "API_BASE_URL", "EVENT_API_BASE_URL"):
        monkeypatch.setenv(f"INNGEST_{name}", "http://environment")
    settings = onward.App("shop", orchestrator=f"{OWN}/").settings
    assert (settings.api_url, settings.events_url) == (OWN, OWN)


@pytest.mark.parametrize(
    ("variable", "given", "dev", "url"),
    [
        ("1", False, False, CLOUD_API),
        ("", True, True, DEV_SERVER),
        ("http://environment", OWN, True, OWN),
        ("http://environment", True, True, "http://environment"),
        ("http://environment", False, False, CLOUD_API),
        ("0", True, True, DEV_SERVER),
        ("http://environment", None, True, "http://environment"),
    ],
)
def test_the_mode_that_an_app_is_given(
    *,
    variable: str,
    given: bool | str | None,
    dev: bool,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INNGEST_DEV", variable)
    settings = onward.App("shop", dev=given).settings
    assert (settings.dev, settings.api_url) == (dev, url)


def test_the_older_name_of_the_origin() -> None:
    old = {"INNGEST_SERVE_HOST": "https://old.test/"}
    assert resolve_settings(old).serve_origin == "https://old.test"
    both = {**old, "INNGEST_SERVE_ORIGIN": "https://new.test"}
    assert resolve_settings(both).serve_origin == "https://new.test"


@pytest.mark.parametrize(
    ("value", "allowed"),
    [("", True), ("1", True), ("true", True), ("0", False), ("NO", False)],
)
def test_in_band_syncs(*, value: str, allowed: bool) -> None:
    environ = {"INNGEST_ALLOW_IN_BAND_SYNC": value}
    assert resolve_settings(environ).allow_in_band_sync is allowed
    assert resolve_settings({}).allow_in_band_sync


@pytest.mark.parametrize(
    ("value", "level"), [("debug", 10), ("INFO", 20), ("warn", 30), ("fatal", 50), ("silent", 60)]
)
def test_the_log_level(value: str, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("onward")
    monkeypatch.setenv("INNGEST_LOG_LEVEL", value)
    monkeypatch.setenv("INNGEST_DEV", "1")
    before = logger.level
    try:
        onward.asgi.serve(onward.App("shop"))
        assert logger.level == level
    finally:
        logger.setLevel(before)


def test_without_a_level_the_logger_is_left_alone() -> None:
    before = logging.getLogger("onward").level
    onward.wsgi.serve(onward.App("shop", dev=True))
    assert logging.getLogger("onward").level == before


#: What makes no sense, and what the message says: the variable first, never a key's text.
NONSENSE = [
    ("INNGEST_DEV", "localhost:8288", "is not a URL. Give it with its scheme"),
    ("INNGEST_BASE_URL", "inngest", "is not a URL"),
    ("INNGEST_BASE_URL", "http://me:secret@10.0.0.1:8288", "do not carry. Leave it out"),
    ("INNGEST_SIGNING_KEY", "signkey-prod-secret", "no signing key. One looks like signkey-prod-"),
    ("INNGEST_SIGNING_KEY", "signkey-prod-abc", "an even number of hexadecimal digits"),
    ("INNGEST_SIGNING_KEY", "0123 4567", "9 characters that are no signing key"),
    ("INNGEST_SIGNING_KEY_FALLBACK", "żółw", "no signing key"),
    ("INNGEST_EVENT_KEY", KEY, "holds a signing key, which must never be sent with events"),
    ("INNGEST_EVENT_KEY", "two words", "Copy it again"),
    ("INNGEST_ENV", "branch\r\nx-inngest-signature: t=1", "cannot be sent in a header"),
    ("INNGEST_ENV", "gałąź", "cannot be sent in a header"),
    ("INNGEST_SERVE_ORIGIN", "shop.test", "is no origin. Write scheme and host"),
    ("INNGEST_SERVE_ORIGIN", "https://shop.test/api", "the path is INNGEST_SERVE_PATH's"),
    ("INNGEST_SERVE_HOST", "shop.test", "is no origin"),
    ("INNGEST_SERVE_PATH", "api/inngest", "Begin it with '/'"),
    ("INNGEST_SERVE_PATH", "/api inngest", "is no path"),
    ("INNGEST_ALLOW_IN_BAND_SYNC", "maybe", "neither yes nor no. Write 1 or 0"),
    ("INNGEST_STREAMING", "sometimes", "neither yes nor no"),
    ("ONWARD_FRONT_DOOR_LIMIT", "long", "ONWARD_FRONT_DOOR_LIMIT"),
    ("INNGEST_LOG_LEVEL", "loud", "is no log level. Write one of trace, debug"),
]


@pytest.mark.parametrize(("variable", "value", "message"), NONSENSE)
def test_what_makes_no_sense_stops_the_app_from_coming_up(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    for serve in (onward.asgi.serve, onward.wsgi.serve):
        with pytest.raises(ConfigurationError) as raised:
            serve(onward.App("shop"))
        assert message in raised.value.message
        named = variable if "BASE_URL" not in variable else "the orchestrator's URL"
        assert raised.value.message.startswith(named)
        if "KEY" in variable or "secret" in value:
            assert value not in raised.value.message


@pytest.mark.parametrize("serve", [onward.asgi.serve, onward.wsgi.serve])
def test_a_missing_key_is_said_at_once(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "onward"):
        serve(onward.App("shop"))
    (record,) = caplog.records
    assert "is in cloud mode and has no signing key" in record.getMessage()
    assert "Set INNGEST_SIGNING_KEY" in record.getMessage()
    caplog.clear()
    for options in ({"dev": True}, {"signing_key": KEY}, {"signing_key_fallback": KEY}):
        serve(onward.App("shop", **options))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("value", "streams"), [("", False), ("1", True), ("force", True), ("disable", False)]
)
def test_streaming(*, value: str, streams: bool) -> None:
    assert resolve_settings({"INNGEST_STREAMING": value}).streaming is streams


def test_the_key_to_send_events_with() -> None:
    assert resolve_settings({"INNGEST_EVENT_KEY": "k"}).sending_key == "k"
    assert resolve_settings({"INNGEST_DEV": "1"}).sending_key
    with pytest.raises(ConfigurationError, match="Set INNGEST_EVENT_KEY"):
        _ = resolve_settings({}).sending_key


def test_keys_are_not_shown() -> None:
    app = onward.App(
        "shop", signing_key=KEY, signing_key_fallback=BARE, event_key="an-event-key", dev=True
    )
    assert BARE not in repr(app)
    assert "an-event-key" not in repr(app)
    assert BARE not in repr(app.settings)
    assert "an-event-key" not in repr(app.settings)


@pytest.mark.parametrize(
    ("environ", "platform"),
    [
        ({}, None),
        ({"VERCEL": "1"}, "vercel"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "shop"}, "aws-lambda"),
        ({"RENDER": "true"}, "render"),
    ],
)
def test_what_goes_with_every_request(environ: dict[str, str], platform: str | None) -> None:
    settings = resolve_settings({**environ, "INNGEST_ENV": "branch"})
    sdk = f"onward:v{onward.__version__}"
    expected = {
        "x-inngest-sdk": sdk,
        "user-agent": sdk,
        "x-inngest-req-version": "2",
        "x-inngest-env": "branch",
    }
    if platform:
        expected["x-inngest-platform"] = platform
    assert settings.outgoing() == expected
    assert settings.platform == platform


def test_the_order_of_both_ways_to_name_an_orchestrator() -> None:
    short = resolve_settings({"INNGEST_BASE_URL": "http://a"}, OWN)
    assert isinstance(short, Settings)
    assert short == resolve_settings({}, given=Given(OWN))
