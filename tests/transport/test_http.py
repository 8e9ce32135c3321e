"""Requests other than checkpoints, and trimmed journals."""

from __future__ import annotations

import json

import pytest

from onward.errors import JournalFetchError, OnwardError, OrchestratorUnavailableError
from onward.protocol.signature import bearer_token
from onward.transport.channel import Keys
from onward.transport.http import fetch_journal, request
from tests.support.checkpoint_api import CheckpointApi

KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
OTHER = "signkey-prod-00000000000000000000000000000000000000000000000000000000000000ff"


def test_an_answer(api: CheckpointApi) -> None:
    api.pages["/page"] = (200, '{"text": "żółw"}'.encode())
    assert request(api.url, "POST", "/page", body={"a": 1}) == {"text": "żółw"}
    (seen,) = api.others
    assert seen.json() == {"a": 1}
    assert "authorization" not in seen.headers


def test_an_empty_answer(api: CheckpointApi) -> None:
    api.pages["/page"] = (204, b"")
    assert request(api.url, "DELETE", "/page") is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 302])
def test_a_refusal(status: int, api: CheckpointApi) -> None:
    api.pages["/page"] = (status, b'{"error": "no"}')
    with pytest.raises(OnwardError, match=rf"GET {api.url}/page answered {status}: .*no") as info:
        request(api.url, "GET", "/page")
    assert not info.value.retriable


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass(status: int, api: CheckpointApi) -> None:
    api.pages["/page"] = (status, b"")
    with pytest.raises(OrchestratorUnavailableError, match=f"answered {status}"):
        request(api.url, "GET", "/page")


def test_nobody_listens(api: CheckpointApi) -> None:
    api.down()
    with pytest.raises(OrchestratorUnavailableError, match="Is the orchestrator running"):
        request(api.url, "GET", "/page")


def test_an_answer_that_is_not_json(api: CheckpointApi) -> None:
    api.pages["/page"] = (200, b"<html>a captive portal</html>")
    with pytest.raises(OnwardError, match=r"/page answered 200 without JSON: <html>a captive"):
        request(api.url, "GET", "/page")


def test_keys(api: CheckpointApi) -> None:
    api.pages["/page"] = (200, b"1")
    assert request(api.url, "GET", "/page", keys=Keys(KEY)) == 1
    assert api.others[0].headers["authorization"] == f"Bearer {bearer_token(KEY)}"


def test_the_fallback_key(api: CheckpointApi) -> None:
    api.pages["/page"] = (401, b"{}")
    keys = Keys(OTHER, KEY)
    with pytest.raises(OnwardError, match="answered 401"):
        request(api.url, "GET", "/page", keys=keys)
    sent = [seen.headers["authorization"].removeprefix("Bearer ") for seen in api.others]
    assert sent == [bearer_token(OTHER), bearer_token(KEY)]


# ---------------------------------------------------------------------- trimmed journals


def _pages(api: CheckpointApi, steps: object, events: object) -> None:
    api.pages["/v0/runs/01M/actions"] = (200, json.dumps(steps).encode())
    api.pages["/v0/runs/01M/batch"] = (200, json.dumps(events).encode())


def test_a_trimmed_journal_is_fetched(api: CheckpointApi) -> None:
    _pages(api, {"id": {"data": 1}}, [{"name": "test/asked"}])
    steps, events = fetch_journal(api.url, "01M", Keys(KEY))
    assert steps == {"id": {"data": 1}}
    assert events == [{"name": "test/asked"}]
    assert len(api.others) == 2
    assert all("authorization" in seen.headers for seen in api.others)


@pytest.mark.parametrize(
    ("steps", "events"),
    [([], []), (1, []), ("x", []), ({}, None), ({}, {}), ({}, ["x"]), ({}, [1])],
)
def test_a_trimmed_journal_of_unknown_shape(
    steps: object, events: object, api: CheckpointApi
) -> None:
    _pages(api, steps, events)
    with pytest.raises(JournalFetchError, match=r"run 01M .*Nothing was run") as info:
        fetch_journal(api.url, "01M")
    assert info.value.retriable


@pytest.mark.parametrize("status", [401, 404, 410, 500])
def test_a_trimmed_journal_that_is_refused(status: int, api: CheckpointApi) -> None:
    _pages(api, {}, [])
    api.pages["/v0/runs/01M/batch"] = (status, b"{}")
    with pytest.raises(JournalFetchError, match=rf"answered {status}.* Nothing was run"):
        fetch_journal(api.url, "01M")
