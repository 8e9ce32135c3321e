"""Signatures: the recorded vectors, and calls that are refused without one."""

from __future__ import annotations

import http.client
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import onward
from onward.protocol.signature import TOLERANCE, bearer_token, sign, verify
from tests.entries.app import small_app
from tests.support.checkpoint_api import NOT_FOUND, CheckpointApi
from tests.support.entries import PATH, Answer, HttpEntry, LambdaEntry, call_request
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

REFUSED = {"message": "The request is not signed, or not as this app expects it."}
CALL = f"{PATH}?fnId=shop-sell&stepId=step"


@pytest.fixture
def cloud(api: CheckpointApi, monkeypatch: pytest.MonkeyPatch) -> CheckpointApi:
    """The app is in cloud mode, and has a key."""
    monkeypatch.delenv("INNGEST_DEV")
    monkeypatch.setenv("INNGEST_BASE_URL", api.url)
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    return api


def _post(
    http: HttpEntry, ran: list[str], body: bytes, headers: dict[str, str], **options: Any
) -> Answer:
    return http.http(small_app(ran, **options), "POST", CALL, body, headers)


def _call() -> bytes:
    return json.dumps(call_request()).encode()


def _signed(body: bytes, key: str = KEY, at: float = 0.0) -> dict[str, str]:
    return {"x-inngest-signature": sign(body, key, int(time.time() + at))}


#: How a request is not as it should be: the headers that are sent with it.
WRONG: dict[str, Callable[[bytes], dict[str, str]]] = {
    "unsigned": lambda _: {},
    "empty": lambda _: {"x-inngest-signature": ""},
    "of another body": lambda _: _signed(b"{}"),
    "with another key": lambda body: _signed(body, OTHER),
    "with no key": lambda body: _signed(body, ""),
    "with the token for a key": lambda body: _signed(body, bearer_token(KEY)),
    "too old": lambda body: _signed(body, at=-TOLERANCE - 5),
    "from the future": lambda body: _signed(body, at=TOLERANCE + 5),
    "a time of many digits": lambda _: {"x-inngest-signature": f"t={'9' * 5000}&s=00"},
    "not ascii": lambda _: {"x-inngest-signature": "t=1&s=\xff"},
    "another time": lambda body: {
        "x-inngest-signature": f"t={int(time.time()) + 1}&s="
        + sign(body, KEY, int(time.time())).partition("&s=")[2]
    },
    "a token instead": lambda _: {"authorization": f"Bearer {bearer_token(KEY)}"},
    "a server that says it is a dev server": lambda _: {"x-inngest-server-kind": "dev"},
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("keyed", [True, False])
def test_cloud_mode_refuses_what_is_not_signed(
    *,
    http: HttpEntry,
    keyed: bool,
    wrong: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if keyed:
        monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    ran: list[str] = []
    body = _call()
    with caplog.at_level(logging.ERROR, "onward"):
        answer = _post(http, ran, body, WRONG[wrong](body))
    # Whoever calls learns nothing of keys, environment or functions.
    assert (answer.status, answer.body) == (401, REFUSED)
    assert "x-inngest-signature" not in answer.headers
    assert ran == []
    # Whoever deployed it is told what is missing: when it comes up, and at each call.
    said = [record for record in caplog.records if "no signing key" in record.getMessage()]
    assert len(said) == (0 if keyed else 2)
    assert all("Set INNGEST_SIGNING_KEY" in record.getMessage() for record in said)


def test_two_signatures_are_none(asgi: HttpEntry, cloud: CheckpointApi) -> None:
    """Which one counts would depend on who reads them."""
    ran: list[str] = []
    asgi.server.serves = asgi.serve(small_app(ran))
    body = _call()
    connection = http.client.HTTPConnection("127.0.0.1", asgi.server.port, timeout=30)
    connection.putrequest("POST", CALL)
    connection.putheader("content-length", str(len(body)))
    connection.putheader("x-inngest-signature", _signed(body)["x-inngest-signature"])
    connection.putheader("x-inngest-signature", "t=1&s=00")
    connection.endheaders(body)
    assert connection.getresponse().status == 401
    connection.close()
    assert ran == []


def test_refusals_come_before_anything_else(http: HttpEntry, cloud: CheckpointApi) -> None:
    """An unsigned body is not even parsed, and no function is looked up for it."""
    for query, body in (
        ("?fnId=gone&stepId=step", b"{}"),
        ("", b"not json"),
        ("?probe=trust", b""),
    ):
        answer = http.http(small_app([]), "POST", PATH + query, body)
        assert (answer.status, answer.body) == (401, REFUSED)


@pytest.mark.parametrize(
    ("keys", "signs"),
    [
        ({"signing_key": KEY}, KEY),
        ({"signing_key": KEY, "signing_key_fallback": OTHER}, KEY),
        # The orchestrator is ahead of the app, and behind it.
        ({"signing_key": OTHER, "signing_key_fallback": KEY}, KEY),
        ({"signing_key": KEY, "signing_key_fallback": OTHER}, OTHER),
    ],
)
def test_a_signed_call_runs_and_is_answered_with_the_same_key(
    *, http: HttpEntry, keys: dict[str, str], signs: str, cloud: CheckpointApi
) -> None:
    ran: list[str] = []
    body = _call()
    answer = _post(http, ran, body, _signed(body, signs), **keys)
    assert answer.ops[-1]["op"] == "RunComplete"
    assert ran == ["charge"]
    signature = answer.headers["x-inngest-signature"]
    assert verify(answer.text, signature, signs, now=time.time())
    assert abs(stamp_of(signature) - time.time()) < 60


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [
        (b"not json", "?fnId=shop-sell&stepId=step", 500),
        (b"{}", "?fnId=shop-gone&stepId=step", 500),
        (b"{}", "", 400),
        (b"", "?probe=trust", 200),
        (b"", "?probe=else", 400),
    ],
)
def test_whatever_is_answered_to_a_signed_call_is_signed(
    *, http: HttpEntry, body: bytes, query: str, status: int, cloud: CheckpointApi
) -> None:
    answer = http.http(small_app([]), "POST", PATH + query, body, _signed(body))
    assert answer.status == status
    assert verify(answer.text, answer.headers["x-inngest-signature"], KEY, now=time.time())


def test_a_signature_opens_nothing_else(http: HttpEntry, cloud: CheckpointApi) -> None:
    """Not the same call with one character changed, nor with its parts in another order."""
    ran: list[str] = []
    body = _call()
    tampered = [
        body.replace(b'"attempt": 0', b'"attempt": 1'),
        body + b" ",
        json.dumps(json.loads(body), sort_keys=True).encode(),
        b"",
    ]
    for other in tampered:
        assert _post(http, ran, other, _signed(body)).status == 401
    assert ran == []


def test_a_replayed_call_repeats_no_confirmed_step(
    http: HttpEntry, driver: str, cloud: CheckpointApi
) -> None:
    """Within its five minutes a signature is good. The journal is what makes that harmless.

    What is replayed has the journal of its time, so a step that was confirmed since runs again,
    with its idempotency key; its first result stays. A run that is over takes nothing more.
    """
    keys: list[str] = []
    shipped: list[str] = []
    app = onward.App("shop")

    def charge(ctx: Any) -> str:
        keys.append(ctx.step.idempotency_key)
        return f"charge {len(keys)}"

    def ship() -> None:
        shipped.append("ship")

    async def in_async(ctx: onward.Context) -> str:
        charged = await ctx.step.run("charge", charge, ctx)
        await ctx.step.run("ship", ship)
        return charged

    def in_blocking(ctx: onward.BlockingContext) -> str:
        charged = ctx.step.run("charge", charge, ctx)
        ctx.step.run("ship", ship)
        return charged

    handler = in_async if driver == "async" else in_blocking
    app.function("sell", trigger=onward.Event("test/asked"))(handler)
    body = _call()
    first = http.http(app, "POST", CALL, body, _signed(body))
    assert first.ops[-1]["data"] == "charge 1"
    stored = dict(cloud.journal)
    again = http.http(app, "POST", CALL, body, _signed(body))
    assert again.status == 206
    # The orchestrator keeps the first result of each step, and the outside world saw one key.
    assert cloud.journal == stored
    assert len(keys) == 2
    assert len(set(keys)) == 1
    cloud.conflicts.clear()
    # Once the run is over its first checkpoint is refused, and nothing follows.
    cloud.default = NOT_FOUND
    shipped.clear()
    late = http.http(app, "POST", CALL, body, _signed(body))
    assert [op["op"] for op in late.ops] == ["None"]
    assert shipped == []


# ---------------------------------------------------------------------- dev mode


def test_dev_mode_takes_unsigned_calls(
    http: HttpEntry, monkeypatch: pytest.MonkeyPatch, api: CheckpointApi
) -> None:
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    body = _call()
    answer = _post(http, [], body, {})
    assert answer.ops[-1]["op"] == "RunComplete"
    assert "x-inngest-signature" not in answer.headers
    # One that is signed is answered signed.
    answer = _post(http, [], body, _signed(body))
    assert verify(answer.text, answer.headers["x-inngest-signature"], KEY, now=time.time())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (_signed(b"another", OTHER), "signed with a key that it does not have"),
        ({"x-inngest-server-kind": "cloud"}, "a cloud server called"),
    ],
)
def test_dev_mode_that_looks_like_a_mistake_is_said_once(
    *,
    http: HttpEntry,
    fields: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    api: CheckpointApi,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    served = http.serve(small_app([]))
    monkeypatch.setattr(http, "serve", lambda _: served)
    for _ in range(2):
        answer = http.http(small_app([]), "POST", CALL, _call(), fields)
        assert answer.ops[-1]["op"] == "RunComplete"
    (record,) = caplog.records
    assert said in record.getMessage()
    assert "Unset INNGEST_DEV" in record.getMessage()


def test_direct_invocations_rely_on_the_platform(
    api: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop")
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    ran: list[str] = []
    assert LambdaEntry().call(small_app(ran), call_request()).ops[-1]["op"] == "RunComplete"


# ---------------------------------------------------------------------- probes


def test_the_trust_probe(http: HttpEntry, cloud: CheckpointApi) -> None:
    """Whether both sides have the same key is what the two signatures say."""
    answer = http.http(small_app([]), "POST", f"{PATH}?probe=trust", b"", _signed(b""))
    assert (answer.status, answer.text) == (200, b"")
    assert verify(b"", answer.headers["x-inngest-signature"], KEY, now=time.time())
    refused = http.http(small_app([]), "POST", f"{PATH}?probe=trust", b"", _signed(b"", OTHER))
    assert refused.status == 401


def test_an_unknown_probe(http: HttpEntry, cloud: CheckpointApi) -> None:
    answer = http.http(small_app([]), "POST", f"{PATH}?probe=x", b"", _signed(b""))
    assert answer.status == 400
    assert answer.body["message"] == "The probe 'x' is not known here; 'trust' is."
