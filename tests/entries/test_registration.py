"""PUT: an app registers, out of band and in band, at an address that can be believed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

import onward
from onward.protocol.signature import bearer_token, verify
from onward_server import Orchestrator, Settings
from tests.entries.app import small_app
from tests.entries.test_introspection import CAPABILITIES, KEY, OTHER, signature
from tests.support.checkpoint_api import CheckpointApi, Seen
from tests.support.entries import PATH, Answer, HttpEntry, LambdaContext
from tests.support.loops import LoopThread

OK = (200, b'{"ok": true, "modified": true}')


@pytest.fixture
def orchestrator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestrator]:
    """A real one, whose address the environment names."""
    with LoopThread("orchestrator") as loops:
        orchestrator = Orchestrator(db=":memory:")
        loops.run(orchestrator.start())
        monkeypatch.setenv("INNGEST_DEV", loops.serve(orchestrator.asgi))
        yield orchestrator
        loops.run(orchestrator.stop())


def test_registering_with_an_orchestrator(http: HttpEntry, orchestrator: Orchestrator) -> None:
    app = small_app([])
    first = http.http(app, "PUT", PATH)
    assert first.status == 200, first.body
    assert first.body == {"message": "Successfully registered", "modified": True}
    assert first.headers["x-inngest-sync-kind"] == "out_of_band"
    again = http.http(app, "PUT", PATH)
    assert again.body == {"message": "Successfully registered", "modified": False}


def test_registering_with_an_orchestrator_that_has_a_key(
    http: HttpEntry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with LoopThread("orchestrator") as loops:
        orchestrator = Orchestrator(db=":memory:", settings=Settings(signing_key=KEY))
        loops.run(orchestrator.start())
        monkeypatch.setenv("INNGEST_BASE_URL", loops.serve(orchestrator.asgi))
        refused = http.http(small_app([], signing_key=OTHER), "PUT", PATH)
        assert (refused.status, refused.body["modified"]) == (500, False)
        assert refused.body["message"].startswith("The orchestrator did not register the app: 401")
        assert "Is INNGEST_SIGNING_KEY that environment's key?" in caplog.text
        for options in ({}, {"signing_key": OTHER, "signing_key_fallback": KEY}):
            app = small_app([], **{"signing_key": KEY, **options})
            assert http.http(app, "PUT", PATH).status == 200
        loops.run(orchestrator.stop())


@pytest.fixture
def cloud(api: CheckpointApi, monkeypatch: pytest.MonkeyPatch) -> CheckpointApi:
    """The stand-in takes registrations of an app in cloud mode that has a key."""
    monkeypatch.delenv("INNGEST_DEV")
    monkeypatch.setenv("INNGEST_BASE_URL", api.url)
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    api.pages["/fn/register"] = OK
    return api


def put(
    http: HttpEntry,
    api: CheckpointApi,
    *,
    path: str = PATH,
    body: object = None,
    key: str = "",
    headers: dict[str, str] | None = None,
    **options: Any,
) -> Seen:
    """What the orchestrator was sent for one PUT."""
    text = b"" if body is None else json.dumps(body).encode()
    fields = {**(headers or {}), **(signature(key, text) if key else {})}
    answer = http.http(small_app([], **options), "PUT", path, text, fields)
    assert answer.status == 200, answer.body
    return api.others[-1]


def origin(http: HttpEntry) -> str:
    return f"http://127.0.0.1:{http.server.port}"


def targets(sent: dict[str, Any]) -> list[str]:
    return [function["steps"]["step"]["runtime"]["url"] for function in sent["functions"]]


def test_what_is_posted(http: HttpEntry, cloud: CheckpointApi) -> None:
    seen = put(http, cloud, env="branch")
    sent, url = seen.json(), origin(http) + PATH
    assert (seen.method, seen.path) == ("POST", "/fn/register")
    assert {name: sent[name] for name in ("url", "deployType", "appName", "v", "sdk")} == {
        "url": url,
        "deployType": "ping",
        "appName": "shop",
        "v": "0.1",
        "sdk": f"onward:v{onward.__version__}",
    }
    assert sent["capabilities"] == CAPABILITIES
    assert targets(sent) == [f"{url}?fnId=shop-{name}&stepId=step" for name in ("sell", "refund")]
    expected = {
        "authorization": f"Bearer {bearer_token(KEY)}",
        "content-type": "application/json",
        "x-inngest-env": "branch",
        "x-inngest-framework": http.name,
        "x-inngest-req-version": "2",
        "x-inngest-sdk": f"onward:v{onward.__version__}",
        "x-inngest-sync-kind": "out_of_band",
    }
    assert {name: seen.headers.get(name) for name in expected} == expected
    assert "x-inngest-expected-server-kind" not in seen.headers


def test_what_of_the_request_is_passed_on(http: HttpEntry, cloud: CheckpointApi) -> None:
    """The deployment's id goes to the orchestrator and never into the address."""
    wanted = "/fn/register?deployId=a%20b%26c%3Dd%0D%0Ax%3A%20y"
    cloud.pages[wanted] = OK
    query = "deployId=a%20b%26c%3Dd%0d%0ax:%20y&fnId=x&stepId=y&token=se%20cret"
    kind = {"x-inngest-server-kind": "cloud"}
    seen = put(http, cloud, path=f"{PATH}?{query}", headers=kind)
    assert seen.path == wanted
    assert seen.json()["url"] == f"{origin(http)}{PATH}?token=se+cret"
    assert targets(seen.json())[0].endswith("?token=se+cret&fnId=shop-sell&stepId=step")
    assert seen.headers["x-inngest-expected-server-kind"] == "cloud"


def test_a_server_kind_that_does_not_exist_is_not_passed_on(
    http: HttpEntry, cloud: CheckpointApi
) -> None:
    seen = put(http, cloud, headers={"x-inngest-server-kind": "evil"})
    assert "x-inngest-expected-server-kind" not in seen.headers


def test_a_dev_server_does_not_register_an_app_in_cloud_mode(
    http: HttpEntry, cloud: CheckpointApi
) -> None:
    """What it would get is a registration in the cloud."""
    fields = {"x-inngest-server-kind": "dev"}
    answer = http.http(small_app([]), "PUT", PATH, headers=fields)
    assert (answer.status, answer.body["modified"]) == (403, False)
    assert "Start the app with INNGEST_DEV=1" in answer.body["message"]
    assert cloud.others == []
    # A signed request is whose it says it is.
    assert put(http, cloud, key=KEY, headers=fields).headers["x-inngest-expected-server-kind"] == (
        "dev"
    )
    assert put(http, cloud, dev=cloud.url, headers=fields).path == "/fn/register"


# ---------------------------------------------------------------------- the address

FORWARDED = {"x-forwarded-proto": "https", "x-forwarded-host": "forwarded.test, inner.test"}
TOLD = {"url": "https://told.test/other/path?token=1&deployId=2&fnId=3"}

#: Headers, body, options, whether it is signed, and the address that is registered. `{own}` is
#: where the request really went.
ADDRESSES: dict[str, tuple[dict[str, str], object, dict[str, Any], bool, str]] = {
    "nothing said": ({}, None, {}, False, f"{{own}}{PATH}"),
    "host": ({"host": "shop.test"}, None, {}, False, f"http://shop.test{PATH}"),
    "host with a port": ({"host": "[::1]:80"}, None, {}, False, f"http://[::1]:80{PATH}"),
    "unsigned, forwarded": (FORWARDED, None, {}, False, f"https:{{host}}{PATH}"),
    "unsigned, downgraded": ({"x-forwarded-proto": "gopher"}, None, {}, False, f"{{own}}{PATH}"),
    "unsigned, told": ({}, TOLD, {}, False, f"{{own}}{PATH}"),
    "signed, told": ({}, TOLD, {}, True, "https://told.test/other/path?token=1"),
    "signed, forwarded": (FORWARDED, None, {}, True, f"https:{{host}}{PATH}"),
    "signed, told nonsense": ({}, {"url": "https://a b/"}, {}, True, f"{{own}}{PATH}"),
    "dev mode, forwarded": (
        FORWARDED,
        None,
        {"dev": True},
        False,
        f"https://forwarded.test{PATH}",
    ),
    "dev mode, told": ({}, TOLD, {"dev": True}, False, "https://told.test/other/path?token=1"),
    "origin": (
        {**FORWARDED, "host": "a b"},
        TOLD,
        {"serve_origin": "https://shop.test/"},
        False,
        f"https://shop.test{PATH}",
    ),
    "origin, signed": (
        {},
        TOLD,
        {"serve_origin": "https://shop.test"},
        True,
        "https://shop.test/other/path?token=1",
    ),
    "origin and path": (
        {},
        TOLD,
        {"serve_origin": "https://shop.test", "serve_path": "/x"},
        True,
        "https://shop.test/x?token=1",
    ),
    "path": ({"host": "shop.test"}, None, {"serve_path": "/x"}, False, "http://shop.test/x"),
}


@pytest.mark.parametrize("kind", ADDRESSES)
def test_the_address_that_is_registered(http: HttpEntry, kind: str, cloud: CheckpointApi) -> None:
    headers, body, options, signed, expected = ADDRESSES[kind]
    if options.get("dev"):
        options = {**options, "dev": cloud.url}
    key = KEY if signed else ""
    seen = put(http, cloud, body=body, key=key, headers=headers, **options)
    own = origin(http)
    wanted = expected.format(own=own, host=own.removeprefix("http:"))
    assert seen.json()["url"] == wanted


@pytest.mark.parametrize("host", ["a b", "evil.test/x?", "evil.test#", "u@evil.test", "a, b"])
def test_a_host_that_is_none(http: HttpEntry, host: str, cloud: CheckpointApi) -> None:
    answer = http.http(small_app([]), "PUT", PATH, headers={"host": host})
    assert answer.status in {400, 500}
    assert "Set INNGEST_SERVE_ORIGIN" in answer.body["message"]
    assert cloud.others == []


# ---------------------------------------------------------------------- the orchestrator's answer


def test_an_orchestrator_that_is_not_there(http: HttpEntry, api: CheckpointApi) -> None:
    api.down()
    answer = http.http(small_app([]), "PUT", PATH)
    assert answer.status == 500
    assert answer.body["modified"] is False
    assert f"POST {api.url}/fn/register got no answer" in answer.body["message"]
    assert "Is the orchestrator running?" in answer.body["message"]


@pytest.mark.parametrize(
    ("status", "page", "message"),
    [
        (401, b'{"error": "unauthorized"}', "answered 401"),
        (400, b'{"error": "At least one function is required"}', "At least one function"),
        (500, b"oops", "answered 500: oops"),
        (200, b"<html>", "answered no object: is it an orchestrator? <html>"),
        (200, b"[1]", "answered no object"),
        (200, b"", "answered no object"),
    ],
)
def test_an_orchestrator_that_refuses(
    *, http: HttpEntry, status: int, page: bytes, message: str, api: CheckpointApi
) -> None:
    api.pages["/fn/register"] = (status, page)
    answer = http.http(small_app([]), "PUT", PATH)
    assert answer.status == 500
    assert answer.body["modified"] is False
    assert message in answer.body["message"]
    assert answer.headers["x-inngest-sync-kind"] == "out_of_band"


@pytest.mark.parametrize(
    ("status", "page", "message"),
    [
        (
            400,
            b'{"error": "bad cron in shop-sell"}',
            "app: 400 bad cron in shop-sell. The app's log",
        ),
        (500, b"<html>proxy.internal</html>", "did not register the app: 500. The app's log"),
        (0, b"", "did not register the app. The app's log"),
    ],
)
def test_what_a_stranger_is_told_of_a_failure(
    *,
    http: HttpEntry,
    status: int,
    page: bytes,
    message: str,
    cloud: CheckpointApi,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the orchestrator says of the app, and not where it is. The log has everything."""
    cloud.pages["/fn/register"] = (status, page)
    if not status:
        cloud.down()
    answer = http.http(small_app([]), "PUT", PATH)
    assert (answer.status, answer.body["modified"]) == (500, False)
    assert message in answer.body["message"]
    assert str(cloud.port) not in answer.body["message"]
    assert f"{cloud.url}/fn/register" in caplog.text
    # Whoever has the key is told as well.
    signed = http.http(small_app([]), "PUT", PATH, headers=signature(KEY))
    assert f"{cloud.url}/fn/register" in signed.body["message"]


def test_a_key_that_is_refused_gives_way_to_the_fallback_for_good(
    http: HttpEntry, cloud: CheckpointApi
) -> None:
    app = small_app([], signing_key=OTHER, signing_key_fallback=KEY)
    cloud.pages["/fn/register"] = (401, b"{}")
    assert http.http(app, "PUT", PATH).status == 500
    tried = [seen.headers["authorization"] for seen in cloud.others]
    assert tried == [f"Bearer {bearer_token(key)}" for key in (OTHER, KEY)]
    cloud.pages["/fn/register"] = OK
    assert http.http(app, "PUT", PATH).status == 200
    assert cloud.others[-1].headers["authorization"] == f"Bearer {bearer_token(KEY)}"
    assert len(cloud.others) == 3


# ---------------------------------------------------------------------- in band


def in_band(
    http: HttpEntry, body: object, *, key: str = KEY, kind: str = "in_band", **options: Any
) -> Answer:
    text = json.dumps(body).encode()
    fields = {"x-inngest-sync-kind": kind, **(signature(key, text) if key else {})}
    return http.http(small_app([], **options), "PUT", PATH, text, fields)


@pytest.mark.parametrize("kind", ["in_band", "in-band"])
def test_an_in_band_sync(http: HttpEntry, kind: str, cloud: CheckpointApi) -> None:
    answer = in_band(http, TOLD, kind=kind, env="branch")
    assert answer.status == 200
    assert answer.headers["x-inngest-sync-kind"] == "in_band"
    body = answer.body
    url = "https://told.test/other/path?token=1"
    assert body.pop("functions") == small_app([]).registration(url)["functions"]
    inspection = body.pop("inspection")
    assert inspection["authentication_succeeded"] is True
    assert inspection["app_id"] == "shop"
    assert body == {
        "app_id": "shop",
        "capabilities": CAPABILITIES,
        "env": "branch",
        "framework": http.name,
        "platform": "vercel",
        "sdk": f"onward:v{onward.__version__}",
        "sdk_author": "onward",
        "sdk_language": "py",
        "sdk_version": onward.__version__,
        "url": url,
    }
    assert cloud.others == []


def test_the_answer_to_an_in_band_sync_is_signed(http: HttpEntry, cloud: CheckpointApi) -> None:
    answer = in_band(http, TOLD)
    text = json.dumps(answer.body).encode()
    assert verify(text, answer.headers["x-inngest-signature"], KEY, now=time.time())


@pytest.mark.parametrize("key", ["", OTHER])
def test_an_in_band_sync_has_to_be_signed(http: HttpEntry, key: str, cloud: CheckpointApi) -> None:
    answer = in_band(http, TOLD, key=key)
    assert answer.status == 401
    assert list(answer.body) == ["message"]
    assert "x-inngest-signature" not in answer.headers


def test_in_dev_mode_it_need_not_be(http: HttpEntry, api: CheckpointApi) -> None:
    answer = in_band(http, TOLD, key="")
    assert (answer.status, answer.body["app_id"]) == (200, "shop")
    assert answer.body["inspection"]["mode"] == "dev"
    assert "api_origin" not in answer.body["inspection"]


@pytest.mark.parametrize("body", [None, [], {}, {"url": 1}, {"url": "ftp://a"}, {"url": "x"}])
def test_an_in_band_sync_that_does_not_say_where(
    http: HttpEntry, body: object, cloud: CheckpointApi
) -> None:
    answer = in_band(http, body)
    assert answer.status == 400
    assert '{"url": "https://…"}' in answer.body["message"]


def test_in_band_syncs_can_be_turned_off(
    http: HttpEntry, cloud: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNGEST_ALLOW_IN_BAND_SYNC", "0")
    answer = in_band(http, TOLD)
    assert answer.body == {"message": "Successfully registered", "modified": True}
    assert answer.headers["x-inngest-sync-kind"] == "out_of_band"
    assert [seen.path for seen in cloud.others] == ["/fn/register"]


# ---------------------------------------------------------------------- Lambda


def test_a_lambda_function_tells_its_registration() -> None:
    from onward.aws_lambda import handler

    app = small_app([])
    told = handler(app)({"onward": "functions"}, LambdaContext(10))
    assert told == app.registration("lambda://demo")
