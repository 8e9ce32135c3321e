"""GET: what an app tells anybody, and what it tells an orchestrator that has its key."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from typing import Any

import pytest

import onward
from onward.protocol.signature import sign, verify
from tests.entries.app import small_app
from tests.support.entries import PATH, HttpEntry

SECRET = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
KEY = f"signkey-test-{SECRET}"
OTHER_SECRET = "00000000000000000000000000000000000000000000000000000000000000ff"
OTHER = f"signkey-prod-{OTHER_SECRET}"

CAPABILITIES = {"in_band_sync": "v1", "trust_probe": "v1"}


def signature(key: str, body: bytes = b"", ago: int = 0) -> dict[str, str]:
    """The header that signs a request."""
    return {"x-inngest-signature": sign(body, key, int(time.time()) - ago)}


def hash_of(secret: str) -> str:
    return sha256(bytes.fromhex(secret)).hexdigest()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"mode": "cloud"}),
        ({"dev": True}, {"mode": "dev"}),
        (
            {"signing_key": KEY, "signing_key_fallback": OTHER, "event_key": "an-event-key"},
            {
                "mode": "cloud",
                "has_event_key": True,
                "has_signing_key": True,
                "has_signing_key_fallback": True,
            },
        ),
    ],
)
def test_what_anybody_is_told(
    http: HttpEntry, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    answer = http.http(small_app([], **options), "GET", PATH)
    assert answer.status == 200
    assert answer.body == {
        "authentication_succeeded": None,
        "capabilities": CAPABILITIES,
        "extra": {"native_crypto": True},
        "function_count": 2,
        "has_event_key": False,
        "has_signing_key": False,
        "has_signing_key_fallback": False,
        "schema_version": "2024-05-24",
        **expected,
    }
    told = json.dumps(answer.body) + json.dumps(answer.headers)
    for secret in (SECRET, OTHER_SECRET, "an-event-key", hash_of(SECRET), hash_of(OTHER_SECRET)):
        assert secret not in told
    assert "x-inngest-signature" not in answer.headers


@pytest.mark.parametrize("key", [KEY, OTHER])
@pytest.mark.parametrize("dev", [False, True])
def test_what_an_orchestrator_with_the_key_is_told(
    http: HttpEntry, key: str, dev: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNGEST_BASE_URL", "http://127.0.0.1:8288")
    monkeypatch.setenv("INNGEST_SERVE_PATH", "/served")
    app = small_app(
        [],
        dev=dev,
        signing_key=KEY,
        signing_key_fallback=OTHER,
        event_key="an-event-key",
        env="branch",
        serve_origin="https://shop.test",
    )
    answer = http.http(app, "GET", PATH, headers=signature(key))
    assert answer.body == {
        "api_origin": "http://127.0.0.1:8288",
        "app_id": "shop",
        "authentication_succeeded": True,
        "capabilities": CAPABILITIES,
        "env": "branch",
        "event_api_origin": "http://127.0.0.1:8288",
        "event_key_hash": sha256(b"an-event-key").hexdigest(),
        "extra": {"is_streaming": False, "native_crypto": True},
        "framework": http.name,
        "function_count": 2,
        "has_event_key": True,
        "has_signing_key": True,
        "has_signing_key_fallback": True,
        "mode": "dev" if dev else "cloud",
        "schema_version": "2024-05-24",
        "sdk_language": "py",
        "sdk_version": onward.__version__,
        "serve_origin": "https://shop.test",
        "serve_path": "/served",
        "signing_key_fallback_hash": hash_of(OTHER_SECRET),
        "signing_key_hash": hash_of(SECRET),
    }
    # The answer is signed with the key that signed the request.
    text = json.dumps(answer.body).encode()
    assert verify(text, answer.headers["x-inngest-signature"], key, now=time.time())


@pytest.mark.parametrize(
    "fields",
    [
        signature("signkey-prod-ff"),
        signature(KEY, b"another body"),
        {"x-inngest-signature": "t=1&s=00"},
        {"x-inngest-signature": "nonsense"},
    ],
)
def test_a_wrong_signature_is_told_no_more_than_anybody(
    http: HttpEntry, fields: dict[str, str]
) -> None:
    answer = http.http(small_app([], signing_key=KEY), "GET", PATH, headers=fields)
    assert answer.status == 200
    assert answer.body["authentication_succeeded"] is False
    assert "signing_key_hash" not in answer.body
    assert "x-inngest-signature" not in answer.headers


def test_an_old_signature(http: HttpEntry) -> None:
    fields = signature(KEY, ago=301)
    answer = http.http(small_app([], signing_key=KEY), "GET", PATH, headers=fields)
    assert answer.body["authentication_succeeded"] is False


def test_without_keys_nothing_is_hashed(http: HttpEntry) -> None:
    app = small_app([], signing_key_fallback=KEY)
    body = http.http(app, "GET", PATH, headers=signature(KEY)).body
    assert body["authentication_succeeded"] is True
    hashes = ("event_key_hash", "signing_key_hash", "env", "serve_origin", "serve_path")
    assert [body[name] for name in hashes] == [None] * 5
    assert body["signing_key_fallback_hash"] == hash_of(SECRET)


def test_a_dev_server_that_looks_for_apps_leaves_one_in_cloud_mode_alone(http: HttpEntry) -> None:
    fields = {"x-inngest-server-kind": "dev"}
    answer = http.http(small_app([], signing_key=KEY), "GET", PATH, headers=fields)
    assert answer.status == 403
    assert "Start the app with INNGEST_DEV=1" in answer.body["message"]
    assert http.http(small_app([], dev=True), "GET", PATH, headers=fields).status == 200
    signed = {**fields, **signature(KEY)}
    app = small_app([], signing_key=KEY)
    assert http.http(app, "GET", PATH, headers=signed).body["authentication_succeeded"] is True
