"""Call requests that are wrong in every way we know: a clear answer, and nothing runs."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from onward import serving
from tests.entries.app import small_app
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import (
    PATH,
    Entry,
    HttpEntry,
    LambdaEntry,
    call_request,
    step_id,
)

pytestmark = pytest.mark.usefixtures("api")

FUNCTIONS = ["shop-sell", "shop-refund"]


@pytest.mark.parametrize("name", ["shop-unknown", "sell", "Shop-sell", "store-sell", "shop-"])
def test_an_unknown_function_or_app(entry: Entry, name: str) -> None:
    ran: list[str] = []
    answer = entry.call(small_app(ran), call_request(), function_id=name)
    # It may be there after the next deployment: the orchestrator tries again.
    assert (answer.status, answer.headers["x-inngest-no-retry"]) == (500, "false")
    assert answer.body["name"] == "UnknownFunctionError"
    for part in (repr(name), "'shop'", "shop-refund, shop-sell", "Register the app"):
        assert part in answer.body["message"]
    assert ran == []


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ("", "fnId and stepId"),
        ("?", "fnId and stepId"),
        ("?fnId=&stepId=step", "fnId"),
        ("?stepId=step", "fnId"),
        ("?fnid=shop-sell&stepId=step", "fnId"),
        ("?fnId=shop-sell", "stepId"),
        ("?fnId=shop-sell&stepId=", "stepId"),
    ],
)
def test_no_function_is_named(http: HttpEntry, query: str, missing: str) -> None:
    ran: list[str] = []
    answer = http.http(small_app(ran), "POST", PATH + query, json.dumps(call_request()).encode())
    assert (answer.status, answer.headers["x-inngest-no-retry"]) == (400, "true")
    assert answer.body["name"] == "MalformedCallRequestError"
    assert f"lacks {missing}. Nothing was run." in answer.body["message"]
    assert ran == []


def test_a_direct_invocation_that_names_no_function() -> None:
    ran: list[str] = []
    event = {"onward": "call", "request": call_request()}
    assert LambdaEntry().invoke(small_app(ran), event).body["name"] == "UnknownFunctionError"
    assert ran == []


@pytest.mark.parametrize("query", ["fnId=%FF%00", "fnId=shop-sell%0d%0a", "fnId=a&fnId=b"])
def test_a_query_of_nonsense(http: HttpEntry, query: str) -> None:
    ran: list[str] = []
    body = json.dumps(call_request()).encode()
    answer = http.http(small_app(ran), "POST", f"{PATH}?{query}&stepId=step", body)
    assert (answer.status, answer.body["name"]) == (500, "UnknownFunctionError")
    assert ran == []


REMOVED = object()

#: Where something else stands, what, and what the answer says about it.
WRONG: list[tuple[tuple[str, ...], Any, str]] = [
    (("ctx",), REMOVED, "ctx must be an object, not NoneType"),
    (("ctx",), [], "ctx must be an object, not list"),
    (("ctx",), "x", "ctx must be an object, not str"),
    (("ctx", "run_id"), REMOVED, "ctx.run_id must be a non-empty string, not None"),
    (("ctx", "run_id"), "", "ctx.run_id must be a non-empty string, not ''"),
    (("ctx", "run_id"), 7, "ctx.run_id must be a non-empty string, not 7"),
    (("ctx", "run_id"), {"a": 1}, "ctx.run_id must be a non-empty string"),
    (("ctx", "request_id"), 7, "ctx.request_id must be a non-empty string"),
    (("ctx", "fn_id"), 7, "ctx.fn_id must be a non-empty string"),
    (("ctx", "fn_id"), ["x"], "ctx.fn_id must be a non-empty string"),
    (("ctx", "qi_id"), 1.5, "ctx.qi_id must be a non-empty string"),
    (("ctx", "job_id"), True, "ctx.job_id must be a non-empty string"),
    (("ctx", "generation_id"), "1", "ctx.generation_id must be a whole number from 0, not '1'"),
    (("ctx", "generation_id"), -1, "ctx.generation_id must be a whole number from 0, not -1"),
    (("ctx", "attempt"), "0", "ctx.attempt must be a whole number from 0"),
    (("ctx", "attempt"), -1, "ctx.attempt must be a whole number from 0, not -1"),
    (("ctx", "attempt"), 1.5, "ctx.attempt must be a whole number from 0, not 1.5"),
    (("ctx", "attempt"), True, "ctx.attempt must be a whole number from 0, not True"),
    (("ctx", "attempt"), [], "ctx.attempt must be a whole number from 0"),
    (("ctx", "max_attempts"), "4", "ctx.max_attempts must be a whole number from 0"),
    (("ctx", "max_attempts"), -4, "ctx.max_attempts must be a whole number from 0"),
    (("ctx", "stack"), "x", "ctx.stack must be an object, not str"),
    (("ctx", "stack"), [1], "ctx.stack must be an object, not list"),
    (("ctx", "stack", "stack"), "x", "ctx.stack.stack must be a list of step ids"),
    (("ctx", "stack", "stack"), {"a": 1}, "ctx.stack.stack must be a list of step ids"),
    (("ctx", "stack", "stack"), [1], "ctx.stack.stack must be a list of step ids"),
    (("ctx", "stack", "stack"), ["gone"], "hole: the stack names 1 step(s) without a result"),
    (("steps",), [], "steps must be an object, not list"),
    (("steps",), "x", "steps must be an object, not str"),
    (("steps",), {"a": "x"}, "steps['a'] must be an object or null, not str"),
    (("steps",), {"a": [1]}, "steps['a'] must be an object or null, not list"),
    (("steps",), {"a": 1}, "steps['a'] must be an object or null, not int"),
    (("events",), {}, "events must be a list of objects"),
    (("events",), ["x"], "events must be a list of objects"),
    (("events",), [None], "events must be a list of objects"),
    (("event",), "x", "event must be an object, not str"),
    (("event",), [], "event must be an object, not list"),
    (("event", "ts"), "soon", "event.ts must be milliseconds since the epoch, not 'soon'"),
    (("event", "ts"), {}, "event.ts must be milliseconds since the epoch"),
    (("event", "ts"), float("nan"), "event.ts must be milliseconds since the epoch, not nan"),
    (("event", "name"), 7, "event.name must be a string, not 7"),
    (("event", "id"), ["x"], "event.id must be a string"),
    (("event", "v"), 2, "event.v must be a string, not 2"),
    (("event", "user"), "x", "event.user must be an object, not str"),
    (("events", "0", "ts"), "soon", "events[0].ts must be milliseconds since the epoch"),
]


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A call request with `value` at `path`."""
    request: Any = json.loads(json.dumps(call_request()))
    at = request
    for key in path[:-1]:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is REMOVED:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    found: dict[str, Any] = request
    return found


@pytest.mark.parametrize(
    ("path", "value", "message"), WRONG, ids=[f"{'.'.join(w[0])}={w[1]!r:.16}" for w in WRONG]
)
@pytest.mark.parametrize("function_id", FUNCTIONS)
def test_a_field_of_the_wrong_type(
    *, entry: Entry, function_id: str, path: tuple[str, ...], value: Any, message: str
) -> None:
    ran: list[str] = []
    answer = entry.call(small_app(ran), changed(path, value), function_id=function_id)
    # The orchestrator may have been in the middle of something: it tries again.
    assert (answer.status, answer.headers["x-inngest-no-retry"]) == (500, "false")
    assert answer.body["name"] == "MalformedCallRequestError"
    assert message in answer.body["message"]
    assert "Nothing was run." in answer.body["message"]
    assert ran == []


#: What other servers leave out or send in another form, and what is taken for it.
HARMLESS: list[tuple[tuple[str, ...], Any]] = [
    (("ctx", "stack"), REMOVED),
    (("ctx", "stack"), None),
    (("ctx", "stack", "stack"), None),
    (("ctx", "max_attempts"), None),
    (("ctx", "max_attempts"), 0),
    (("ctx", "attempt"), None),
    (("ctx", "fn_id"), None),
    (("ctx", "request_id"), REMOVED),
    (("ctx", "generation_id"), REMOVED),
    (("steps",), None),
    (("steps",), REMOVED),
    (("steps",), {step_id("unknown"): None}),
    (("events",), REMOVED),
    (("event",), REMOVED),
    (("event", "data"), None),
    (("event", "ts"), 1.5e12),
    (("event", "user"), None),
    (("version",), "new"),
    (("version",), REMOVED),
    (("ctx", "unheard_of"), {"x": 1}),
    (("unheard_of",), [1]),
]


@pytest.mark.parametrize(
    ("path", "value"), HARMLESS, ids=[f"{'.'.join(w[0])}={w[1]!r:.16}" for w in HARMLESS]
)
@pytest.mark.parametrize("function_id", FUNCTIONS)
def test_a_field_that_may_be_missing(
    *, entry: Entry, function_id: str, path: tuple[str, ...], value: Any
) -> None:
    ran: list[str] = []
    answer = entry.call(small_app(ran), changed(path, value), function_id=function_id)
    assert answer.ops[-1]["op"] == "RunComplete"
    assert len(ran) == 1


@pytest.mark.parametrize("request_body", [None, [], "text", 7, True])
def test_a_request_that_is_no_object(entry: Entry, request_body: Any) -> None:
    ran: list[str] = []
    answer = entry.call(small_app(ran), request_body)
    assert answer.body["name"] == "MalformedCallRequestError"
    assert ran == []


NOT_JSON = {
    "nothing": b"",
    "text": b"hello",
    "truncated": json.dumps(call_request()).encode()[:-40],
    "trailing": json.dumps(call_request()).encode() + b"]",
    "not utf-8": b'{"ctx": "\xff\xfe"}',
    "a form": b"fnId=shop-sell&stepId=step",
    "deep": b"[" * 200_000,
    "a number of many digits": b'{"ctx": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("kind", NOT_JSON)
def test_a_body_that_is_not_json(http: HttpEntry, kind: str) -> None:
    ran: list[str] = []
    body = NOT_JSON[kind]
    answer = http.http(small_app(ran), "POST", f"{PATH}?fnId=shop-sell&stepId=step", body)
    assert (answer.status, answer.body["name"]) == (500, "MalformedCallRequestError")
    assert f"its body of {len(body):,} bytes is not JSON" in answer.body["message"]
    assert ran == []


def test_a_body_over_the_limit(http: HttpEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "BODY_LIMIT", 100_000)
    ran: list[str] = []
    request = call_request({"x": {"data": "x" * 100_000}})
    answer = http.call(small_app(ran), request)
    assert answer.status == 400
    assert answer.headers["x-inngest-no-retry"] == "true"
    assert "over 100,000 bytes. Nothing was run." in answer.body["message"]
    assert ran == []
    # One that is not over it is served.
    answer = http.call(small_app(ran), call_request({"x": {"data": "x" * 90_000}}))
    assert answer.ops[-1]["op"] == "RunComplete"


def test_a_caller_that_hangs_up_before_its_request_is_complete(http: HttpEntry) -> None:
    ran: list[str] = []
    http.server.serves = http.serve(small_app(ran))
    with socket.create_connection(("127.0.0.1", http.server.port or 0), timeout=30) as connection:
        head = f"POST {PATH}?fnId=shop-sell&stepId=step HTTP/1.1\r\nhost: a\r\n"
        head += "content-length: 1000\r\n\r\n"
        connection.sendall(head.encode() + b'{"ctx": {')
    # The server goes on serving.
    assert http.call(small_app(ran), call_request()).ops[-1]["op"] == "RunComplete"
    assert ran == ["charge"]


@pytest.mark.parametrize("function_id", FUNCTIONS)
def test_a_step_that_the_function_does_not_reach(entry: Entry, function_id: str) -> None:
    ran: list[str] = []
    answer = entry.call(
        small_app(ran), call_request(), function_id=function_id, target=step_id("removed")
    )
    assert answer.status == 500
    assert answer.body["name"] == "StepNotFoundError"
    assert f"asked for the step {step_id('removed')}" in answer.body["message"]
    assert "'charge'" in answer.body["message"] or "'pay back'" in answer.body["message"]
    assert ran == []


@pytest.mark.parametrize("status", [404, 500])
def test_a_trimmed_journal_that_cannot_be_fetched(
    entry: Entry, status: int, api: CheckpointApi
) -> None:
    ran: list[str] = []
    run = call_request()["ctx"]["run_id"]
    api.pages[f"/v0/runs/{run}/actions"] = (status, b"{}")
    answer = entry.call(small_app(ran), call_request(use_api=True))
    assert (answer.status, answer.headers["x-inngest-no-retry"]) == (500, "false")
    assert answer.body["name"] == "JournalFetchError"
    assert f"answered {status}" in answer.body["message"]
    assert ran == []


@pytest.mark.parametrize(
    ("steps", "events", "name"),
    [
        ([], [], "JournalFetchError"),
        ({}, None, "JournalFetchError"),
        ({"a": 1}, [{}], "MalformedCallRequestError"),
        ({}, [{"name": 1}], "MalformedCallRequestError"),
    ],
)
def test_a_trimmed_journal_of_unknown_shape(
    *, entry: Entry, steps: Any, events: Any, name: str, api: CheckpointApi
) -> None:
    ran: list[str] = []
    run = call_request()["ctx"]["run_id"]
    api.pages[f"/v0/runs/{run}/actions"] = (200, json.dumps(steps).encode())
    api.pages[f"/v0/runs/{run}/batch"] = (200, json.dumps(events).encode())
    answer = entry.call(small_app(ran), call_request(use_api=True))
    assert (answer.status, answer.body["name"]) == (500, name)
    assert ran == []


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "text",
        7,
        {},
        {"Records": [{"body": "x"}]},
        {"version": "2.0", "rawPath": "/api/inngest", "requestContext": {}, "body": "{}"},
        {"onward": "cal", "request": {}},
        {"onward": ["call"]},
        {"onward": "call"},
        {"onward": "call", "function_id": "shop-sell"},
        {"onward": "call", "function_id": "shop-sell", "request": "{}"},
        {"onward": "call", "function_id": "shop-sell", "request": [1]},
    ],
)
def test_a_lambda_event_of_unknown_shape(event: Any) -> None:
    ran: list[str] = []
    answer = LambdaEntry().invoke(small_app(ran), event)
    assert answer.status == 500
    assert answer.body["name"] == "MalformedCallRequestError"
    assert "This event is not a call request for Onward; it has: " in answer.body["message"]
    assert "lambda://FUNCTION_NAME" in answer.body["message"]
    assert ran == []
