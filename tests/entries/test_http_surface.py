"""What is served where: paths, methods, bodies and headers, over every HTTP entry."""

from __future__ import annotations

import http.client
import json
import socket

import pytest

import onward
from onward import serving
from onward.errors import ConfigurationError
from tests.entries.app import small_app
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import PATH, HttpEntry, call_request

CALL = f"{PATH}?fnId=shop-sell&stepId=step"


@pytest.mark.parametrize("path", ["/", "/api", "/api/inngest/x", "/api/inngestx", "/API/inngest"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_another_path(http: HttpEntry, method: str, path: str) -> None:
    answer = http.http(small_app([], dev=True), method, path, b"{}")
    assert answer.status == 404
    assert answer.body["message"] == f"Nothing is served at {path}; try {PATH}."


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS"])
def test_another_method(http: HttpEntry, method: str) -> None:
    answer = http.http(small_app([], dev=True), method, PATH)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, PUT, POST"
    assert answer.body["message"] == f"{method} is not served here; GET, PUT and POST are."


def test_head_is_get_without_a_body(http: HttpEntry) -> None:
    app = small_app([], dev=True)
    whole, head = http.http(app, "GET", PATH), http.http(app, "HEAD", PATH)
    assert (head.status, head.body) == (200, None)
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_a_slash_at_the_end_is_no_other_path(http: HttpEntry) -> None:
    assert http.http(small_app([], dev=True), "GET", f"{PATH}/").status == 200


def test_a_path_of_its_own(http: HttpEntry) -> None:
    with pytest.raises(ConfigurationError, match="does not begin with '/'"):
        type(http).serve(small_app([]), path="api/inngest")  # type: ignore[call-arg]


def test_every_answer_names_its_sdk(http: HttpEntry, api: CheckpointApi) -> None:
    app = small_app([])
    answers = [
        http.http(app, "GET", PATH),
        http.http(app, "GET", "/nowhere"),
        http.http(app, "PATCH", PATH),
        http.http(app, "POST", PATH, b"{}"),
        http.http(app, "POST", CALL, b"not json"),
        http.http(app, "POST", f"{PATH}?fnId=shop-gone&stepId=step", b"{}"),
        http.call(app, call_request()),
    ]
    for answer in answers:
        # Servers take an answer without these for somebody else's.
        assert answer.headers["x-inngest-sdk"] == f"onward:v{onward.__version__}"
        assert answer.headers["x-inngest-req-version"] == "2"
        assert answer.headers["x-inngest-framework"] == http.name
        assert answer.headers["content-type"] == "application/json; charset=utf-8"


def test_an_environment_that_stops_making_sense(
    http: HttpEntry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It did when the app came up; whoever calls is told nothing of what is wrong."""
    app = small_app([])
    monkeypatch.setenv("INNGEST_DEV", "1")
    served = http.serve(app)
    monkeypatch.setenv("INNGEST_DEV", "localhost:8288")
    http.serve = lambda _: served
    for method in ("GET", "PUT", "POST"):
        answer = http.http(app, method, CALL, b"{}")
        assert answer.status == 500
        message = "This app is not configured; its log says what to do."
        assert answer.body == {"message": message}
    assert "INNGEST_DEV='localhost:8288' is not a URL" in caplog.text


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", None])
def test_whatever_the_content_type_says(
    http: HttpEntry, content_type: str | None, api: CheckpointApi
) -> None:
    fields = {} if content_type is None else {"content-type": content_type}
    body = json.dumps(call_request()).encode()
    answer = http.http(small_app([]), "POST", CALL, body, fields)
    assert answer.ops[-1]["op"] == "RunComplete"


def test_a_length_that_is_over_the_limit_is_refused_unread(
    http: HttpEntry, api: CheckpointApi
) -> None:
    http.server.serves = http.serve(small_app([]))
    with socket.create_connection(("127.0.0.1", http.server.port or 0), timeout=30) as connection:
        length = serving.BODY_LIMIT + 1
        head = f"POST {CALL} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"
        connection.sendall(head.encode())  # and never a body
        status = connection.makefile("rb").readline()
    assert b" 400 " in status


def test_a_body_in_chunks(asgi: HttpEntry, api: CheckpointApi) -> None:
    asgi.server.serves = asgi.serve(small_app([]))
    connection = http.client.HTTPConnection("127.0.0.1", asgi.server.port, timeout=30)
    text = json.dumps(call_request()).encode()
    parts = [text[n : n + 50] for n in range(0, len(text), 50)]
    connection.request("POST", CALL, iter(parts), encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())[-1]["op"]) == (206, "RunComplete")
    connection.close()


def test_a_server_that_does_not_say_where_a_body_ends(wsgi: HttpEntry, api: CheckpointApi) -> None:
    """The standard library's takes no chunks apart: better an answer than a caller that waits."""
    wsgi.server.serves = wsgi.serve(small_app([]))
    with socket.create_connection(("127.0.0.1", wsgi.server.port or 0), timeout=30) as connection:
        head = f"POST {CALL} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + b"2\r\n{}\r\n0\r\n\r\n")
        text = connection.makefile("rb").read()
    assert b" 400 " in text.partition(b"\r\n")[0]
    assert b"has no length" in text


@pytest.mark.parametrize(
    "query", ["fnId=shop-sell%0d%0ax-injected:1&stepId=step", "probe=x%0d%0ax-injected:1"]
)
def test_nothing_that_is_sent_becomes_a_header(
    http: HttpEntry, query: str, api: CheckpointApi
) -> None:
    answer = http.http(small_app([]), "POST", f"{PATH}?{query}", b"{}")
    assert answer.status in {400, 500}
    assert "x-injected" not in answer.headers


def test_fields_that_are_there_twice_are_one() -> None:
    pairs = [("X-A", "1"), ("x-b", "2"), ("x-a", "3")]
    assert serving.fields_of(pairs) == {"x-a": "1, 3", "x-b": "2"}
