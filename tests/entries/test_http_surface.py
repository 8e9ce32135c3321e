"""What the ASGI entry serves beside call requests: introspection, registration, and refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import onward
from onward import asgi as asgi_module
from onward.errors import ConfigurationError
from onward.protocol.signature import bearer_token
from onward_server import Orchestrator
from tests.entries.app import small_app
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import PATH, AsgiEntry, LambdaEntry
from tests.support.loops import LoopThread

KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"


@pytest.mark.parametrize("path", ["/", "/api", "/api/inngest/x", "/api/inngestx", "/API/inngest"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_another_path(asgi: AsgiEntry, method: str, path: str) -> None:
    answer = asgi.http(small_app([]), method, path, b"{}")
    assert answer.status == 404
    assert answer.body["message"] == f"Nothing is served at {path}; try {PATH}."


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS"])
def test_another_method(asgi: AsgiEntry, method: str) -> None:
    answer = asgi.http(small_app([]), method, PATH)
    assert answer.status == 405
    assert answer.body["message"] == f"{method} is not served here; GET, PUT and POST are."


def test_a_slash_at_the_end_is_no_other_path(asgi: AsgiEntry) -> None:
    assert asgi.http(small_app([]), "GET", f"{PATH}/").status == 200


def test_a_path_of_its_own() -> None:
    with pytest.raises(ConfigurationError, match="does not begin with '/'"):
        asgi_module.serve(small_app([]), path="api/inngest")


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, {"mode": "cloud", "has_event_key": False, "has_signing_key": False}),
        ({"INNGEST_DEV": "1"}, {"mode": "dev", "has_event_key": False, "has_signing_key": False}),
        (
            {"INNGEST_SIGNING_KEY": KEY, "INNGEST_EVENT_KEY": "e"},
            {"mode": "cloud", "has_event_key": True, "has_signing_key": True},
        ),
    ],
)
def test_introspection(
    asgi: AsgiEntry,
    env: dict[str, str],
    expected: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    answer = asgi.http(small_app([]), "GET", PATH)
    assert answer.status == 200
    fixed = {"extra": {"native_crypto": True}, "schema_version": "2024-05-24"}
    assert answer.body == {**fixed, "function_count": 2, **expected}
    assert answer.headers["x-inngest-sdk"] == f"onward:v{onward.__version__}"
    assert KEY not in json.dumps(answer.body)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_an_environment_that_makes_no_sense(
    asgi: AsgiEntry, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNGEST_DEV", "localhost:8288")
    answer = asgi.http(small_app([]), method, f"{PATH}?fnId=shop-sell", b"{}")
    assert answer.status in {400, 500}
    assert "INNGEST_DEV='localhost:8288' is not a URL" in answer.body["message"]


# ---------------------------------------------------------------------- registration


@pytest.fixture
def orchestrator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestrator]:
    """A real one, whose address the environment names."""
    with LoopThread("orchestrator") as loops:
        orchestrator = Orchestrator(db=":memory:")
        loops.run(orchestrator.start())
        monkeypatch.setenv("INNGEST_DEV", loops.serve(orchestrator.asgi))
        yield orchestrator
        loops.run(orchestrator.stop())


def test_registering_with_an_orchestrator(asgi: AsgiEntry, orchestrator: Orchestrator) -> None:
    app = small_app([])
    first = asgi.http(app, "PUT", PATH)
    assert first.status == 200
    assert first.body == {"message": "Successfully registered", "modified": True}
    assert first.headers["x-inngest-sync-kind"] == "out_of_band"
    again = asgi.http(app, "PUT", PATH)
    assert again.body == {"message": "Successfully registered", "modified": False}


@pytest.mark.parametrize(
    ("headers", "env", "url"),
    [
        ({}, {}, None),
        ({"host": "shop.test"}, {}, f"http://shop.test{PATH}"),
        (
            {"x-forwarded-proto": "https", "x-forwarded-host": "shop.test"},
            {},
            f"https://shop.test{PATH}",
        ),
        (
            {"x-forwarded-host": "attacker.test"},
            {"INNGEST_SERVE_ORIGIN": "https://shop.test/"},
            f"https://shop.test{PATH}",
        ),
    ],
)
def test_the_address_that_is_registered(
    *,
    asgi: AsgiEntry,
    headers: dict[str, str],
    env: dict[str, str],
    url: str | None,
    api: CheckpointApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    api.pages["/fn/register"] = (200, b'{"ok": true, "modified": true}')
    assert asgi.http(small_app([]), "PUT", PATH, headers=headers).status == 200
    (seen,) = api.others
    wanted = url or f"http://127.0.0.1:{asgi.server.port}{PATH}"
    sent = seen.json()
    assert sent["url"] == wanted
    targets = [f["steps"]["step"]["runtime"]["url"] for f in sent["functions"]]
    ids = ("shop-sell", "shop-refund")
    assert targets == [f"{wanted}?fnId={id_}&stepId=step" for id_ in ids]
    assert seen.headers["authorization"] == f"Bearer {bearer_token(KEY)}"


def test_an_orchestrator_that_is_not_there(asgi: AsgiEntry, api: CheckpointApi) -> None:
    api.down()
    answer = asgi.http(small_app([]), "PUT", PATH)
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
        (200, b"<html>", "answered 200 without JSON"),
        (200, b"[1]", "answered with no object"),
    ],
)
def test_an_orchestrator_that_refuses(
    asgi: AsgiEntry, status: int, page: bytes, message: str, api: CheckpointApi
) -> None:
    api.pages["/fn/register"] = (status, page)
    answer = asgi.http(small_app([]), "PUT", PATH)
    assert answer.status == 500
    assert message in answer.body["message"]


def test_a_lambda_function_tells_its_registration() -> None:
    from onward.aws_lambda import handler
    from tests.support.entries import LambdaContext

    app = small_app([])
    told = handler(app)({"onward": "functions"}, LambdaContext(10))
    assert told == app.registration("lambda://demo")
    assert LambdaEntry.name == "lambda"
