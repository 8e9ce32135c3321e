"""Outside dev mode anybody may send a first request, and only the orchestrator sends one again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from onward.protocol import headers as names
from onward.protocol.signature import sign, verify
from tests.endpoints import shop
from tests.endpoints.conftest import Shop

KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
OTHER = "signkey-test-00087aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2900"
BODY = b'{"items": ["a"]}'


@pytest.fixture
def cloud(the_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop in cloud mode."""
    monkeypatch.delenv("INNGEST_DEV")
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    the_shop.open()
    return the_shop


def again(the_shop: Shop, run_id: str, signature: str, driver: str) -> Any:
    fields = {
        names.RUN_ID: run_id,
        names.SIGNATURE: signature,
        "content-type": "application/json",
        "authorization": "me",
    }
    path = f"/{driver}/checkout/paris?nap=30"
    return the_shop.ask("POST", path, content=BODY, headers=fields, follow=False)


def test_a_first_request_needs_no_signature(cloud: Shop, driver: str) -> None:
    answer = cloud.ask("GET", f"/{driver}/go")
    assert answer.json() == {"value": 2}
    proxied = cloud.ask("GET", f"/{driver}/go", headers={names.RUN_ID: "somebody's own"})
    assert proxied.json() == {"value": 2}
    assert shop.done["first"] == 2


def test_a_request_that_is_sent_again_needs_one(cloud: Shop, driver: str) -> None:
    fields = {"authorization": "me", "content-type": "application/json"}
    path = f"/{driver}/checkout/paris?nap=30"
    first = cloud.ask("POST", path, content=BODY, headers=fields, follow=False)
    assert first.status_code == 302
    run_id, now = first.headers[names.RUN_ID], int(time.time())
    shop.done.clear()
    for signature in (
        "",
        "t=1&s=00",
        sign(BODY, OTHER, now),
        sign(BODY + b" ", KEY, now),
        sign(BODY, KEY, now - 600),
    ):
        answer = again(cloud, run_id, signature, driver)
        assert answer.status_code == 401, signature
        assert run_id not in answer.text
    assert shop.done == {}
    answer = again(cloud, run_id, sign(BODY, KEY, now), driver)
    assert answer.status_code == 206
    assert verify(answer.content, answer.headers[names.SIGNATURE], KEY, now=time.time())


def test_without_a_key_nothing_is_sent_again(
    cloud: Shop, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INNGEST_SIGNING_KEY")
    cloud.open()
    assert again(cloud, "01M835XSJTXBEM9XBN4SE8NXXC", sign(BODY, KEY, 1), driver).status_code == 401
    assert shop.done == {}


@pytest.mark.parametrize(
    ("name", "value"), [(names.RUN_ID, "no/run"), (names.ATTEMPT, "-1"), (names.ATTEMPT, "x")]
)
def test_a_call_that_makes_no_sense_runs_nothing(
    the_shop: Shop, driver: str, name: str, value: str
) -> None:
    fields = {names.RUN_ID: "01M835XSJTXBEM9XBN4SE8NXXC", names.SIGNATURE: "", name: value}
    answer = the_shop.ask("GET", f"/{driver}/go", headers=fields)
    assert answer.status_code == 500
    assert answer.json()["name"] == "MalformedCallRequestError"
    assert name in answer.json()["message"]
    assert shop.done == {}


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:80",
        "127.0.0.1@evil.test",
        "evil.test#.localhost",
        "[::1",
        "10.0.0.1",
    ],
)
def test_no_caller_chooses_where_signed_calls_go(
    cloud: Shop, driver: str, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever got one could call any function: its body is the caller's."""
    answer = cloud.ask("GET", f"/{driver}/go", headers={"host": host})
    assert answer.status_code == 500
    assert "INNGEST" not in answer.text
    assert host not in answer.text
    assert "INNGEST_SERVE_ORIGIN" in caplog.text
    assert shop.done == {}
    assert cloud.run_ids() == []


def test_a_platform_that_routes_by_host_settles_it(
    cloud: Shop, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDER", "true")
    cloud.open()
    answer = cloud.ask("GET", f"/{driver}/go", headers={"host": "shop.test"})
    assert answer.json() == {"value": 2}


class TestWithAnOrchestratorThatSigns:
    """The orchestrator has the key too: checkpoints, reads, calls and answers are all checked."""

    @pytest.fixture
    def signing_key(self) -> str:
        return KEY

    @pytest.mark.parametrize("how", ["", "mixed"])
    def test_runs_end(self, cloud: Shop, driver: str, how: str) -> None:
        answer = cloud.ask("GET", f"/{driver}/go?how={how}")
        assert (answer.status_code, answer.json()) == (200, {"value": 2})
        assert len(answer.history) == bool(how)
        assert shop.done["first"] == shop.done["second"] == 1

    def test_nobody_else_is_let_in(self, cloud: Shop) -> None:
        for path in ("/v1/checkpoint", "/v1/checkpoint/01M835XSJTXBEM9XBN4SE8NXXC/steps"):
            assert cloud.ask("POST", cloud.api_url + path, json={}).status_code == 401

    def test_where_the_app_is_reached_settles_it(
        self, cloud: Shop, driver: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("INNGEST_SERVE_ORIGIN", cloud.url)
        cloud.open()
        answer = cloud.ask("GET", f"/{driver}/go?how=mixed", headers={"host": "evil.test"})
        assert [hop.status_code for hop in answer.history] == [302]
        assert (answer.status_code, answer.json()) == (200, {"value": 2})
