"""Signatures: the recorded vectors, and calls that are refused without one."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from onward.protocol.signature import TOLERANCE, bearer_token, sign, verify
from tests.entries.app import small_app
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import PATH, Answer, AsgiEntry, LambdaEntry, call_request
from tests.support.project import ROOT

GOLDEN = ROOT / "tests" / "golden" / "data"

#: Made for the recordings.
KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
OTHER = "signkey-prod-00000000000000000000000000000000000000000000000000000000000000ff"


def recorded(name: str) -> list[dict[str, Any]]:
    """The exchanges of a recording."""
    loaded: list[dict[str, Any]] = json.loads(Path(GOLDEN / f"{name}.json").read_text("utf-8"))[
        "exchanges"
    ]
    return loaded


def signed_calls() -> list[tuple[bytes, str]]:
    """Raw bodies and the signatures that the server sent with them."""
    return [
        (e["request"]["raw_body"].encode(), e["request"]["headers"]["x-inngest-signature"])
        for e in recorded("signed-run")
        if "raw_body" in e["request"]
    ]


def stamp_of(signature: str) -> int:
    return int(signature.partition("&")[0].removeprefix("t="))


def test_the_recorded_signatures() -> None:
    assert signed_calls()
    for body, signature in signed_calls():
        stamp = stamp_of(signature)
        assert sign(body, KEY, stamp) == signature
        assert verify(body, signature, KEY, now=stamp + 1)
        assert not verify(body, signature, OTHER, now=stamp + 1)
        assert not verify(body + b" ", signature, KEY, now=stamp + 1)
        assert not verify(body.replace(b"ctx", b"ctX", 1), signature, KEY, now=stamp + 1)


def test_the_recorded_bearer_tokens() -> None:
    tokens = {
        e["request"]["headers"]["authorization"]
        for name in ("signed-run", "signed-sync")
        for e in recorded(name)
        if "authorization" in e["request"]["headers"]
    }
    assert tokens == {f"Bearer {bearer_token(KEY)}"}


def test_a_signature_has_its_time() -> None:
    body, signature = signed_calls()[0]
    stamp = stamp_of(signature)
    for age in (-TOLERANCE, 0, TOLERANCE):
        assert verify(body, signature, KEY, now=stamp + age)
    for age in (-TOLERANCE - 1, TOLERANCE + 1, 86400):
        assert not verify(body, signature, KEY, now=stamp + age)


BODY = b'{"ctx": {}}'


def _good(body: bytes = BODY, key: str = KEY) -> str:
    return sign(body, key, int(time.time()))


BAD = {
    "empty": "",
    "no fields": "x",
    "no digest": "t=1",
    "no time": "s=00",
    "empty fields": "t=&s=",
    "a word for the time": "t=now&s=00",
    "a negative time": "t=-5&s=00",
    "other digits": "t=١٢٣&s=00",
    "a time of many digits": f"t={'9' * 400}&s=00",
    "a time of very many digits": f"t={'9' * 5000}&s=00",
    "twice": "t=1&t=2&s=0&s=1",
    "not ascii": "t=1&s=żółw",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_malformed_signature_is_none(kind: str) -> None:
    assert not verify(BODY, BAD[kind], KEY, now=time.time())


# ---------------------------------------------------------------------- over HTTP


def _post(
    asgi: AsgiEntry, ran: list[str], request: object, headers: dict[str, str]
) -> tuple[Answer, bytes]:
    body = json.dumps(request).encode()
    return asgi.http(
        small_app(ran), "POST", f"{PATH}?fnId=shop-sell&stepId=step", body, headers
    ), body


@pytest.mark.parametrize("platform", ["AWS_LAMBDA_FUNCTION_NAME", "VERCEL"])
@pytest.mark.parametrize("keyed", [True, False])
def test_a_deployed_app_refuses_unsigned_calls(
    *,
    asgi: AsgiEntry,
    platform: str,
    keyed: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("VERCEL")
    monkeypatch.setenv(platform, "1")
    if keyed:
        monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    ran: list[str] = []
    with caplog.at_level(logging.ERROR, "onward"):
        answers = [
            _post(asgi, ran, call_request(), headers)[0]
            for headers in (
                {},
                {"x-inngest-signature": ""},
                {"x-inngest-signature": _good()},
                {"x-inngest-signature": f"t={'9' * 5000}&s=00"},
                {"x-inngest-signature": "t=1&s=\xff"},
                {"authorization": f"Bearer {bearer_token(KEY)}"},
            )
        ]
    for answer in answers:
        assert answer.status == 401
        # Whoever calls learns nothing of keys, environment or functions.
        assert answer.body == {
            "message": "The request is not signed, or not as this app expects it."
        }
    assert ran == []
    # Whoever deployed it is told what is missing.
    assert ("no signing key" in caplog.text) is not keyed
    assert ("Set INNGEST_SIGNING_KEY" in caplog.text) is not keyed


def test_refusals_come_before_anything_else(
    asgi: AsgiEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unsigned body is not even parsed, and no function is looked up for it."""
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    for path, body in ((f"{PATH}?fnId=unknown", b"{}"), (PATH, b"not json")):
        assert asgi.http(small_app([]), "POST", path, body).status == 401


@pytest.mark.parametrize("fallback", [False, True])
def test_a_signed_call_runs(
    asgi: AsgiEntry, fallback: bool, monkeypatch: pytest.MonkeyPatch, api: CheckpointApi
) -> None:
    monkeypatch.delenv("INNGEST_DEV")
    monkeypatch.setenv("INNGEST_BASE_URL", api.url)
    monkeypatch.setenv("INNGEST_SIGNING_KEY", OTHER if fallback else KEY)
    monkeypatch.setenv("INNGEST_SIGNING_KEY_FALLBACK", KEY if fallback else OTHER)
    ran: list[str] = []
    request = call_request()
    signature = _good(json.dumps(request).encode())
    answer, _ = _post(asgi, ran, request, {"x-inngest-signature": signature})
    assert answer.ops[-1]["op"] == "RunComplete"
    assert ran == ["charge"]
    # The same signature opens nothing else.
    request["ctx"]["attempt"] = 1
    answer, _ = _post(asgi, ran, request, {"x-inngest-signature": signature})
    assert answer.status == 401
    assert ran == ["charge"]


def test_dev_mode_takes_unsigned_calls(
    asgi: AsgiEntry, monkeypatch: pytest.MonkeyPatch, api: CheckpointApi
) -> None:
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    ran: list[str] = []
    answer, _ = _post(asgi, ran, call_request(), {})
    assert answer.ops[-1]["op"] == "RunComplete"


def test_direct_invocations_rely_on_the_platform(
    api: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop")
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    ran: list[str] = []
    assert LambdaEntry().call(small_app(ran), call_request()).ops[-1]["op"] == "RunComplete"
