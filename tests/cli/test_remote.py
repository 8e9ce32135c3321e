"""`onward runs` and `onward send` against an Inngest server, as its answers were recorded."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from onward_deploy.client import ANY_KEY, resolve_address
from onward_deploy.errors import UsageError
from tests.cli.command import onward

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = {
    "run_id": "01M837658RRCV6SWBF0FTT0DQW",
    "run_started_at": "2026-11-23T03:28:55.064Z",
    "function_id": "d8235469-cccd-56ad-9a1b-16ea4c34b91a",
    "event_id": "01M837655ZJEDCYZWV8RQ96DYC",
    "status": "Completed",
    "ended_at": "2026-11-23T03:28:55.183433493Z",
    "output": '{"nested": [1, 2]}',
}
EVENT = {"internal_id": "01M837655ZJEDCYZWV8RQ96DYC", "id": "my-id", "name": "extra/errs"}
UNKNOWN = "01M835KW7QN227YFS04ACG1WRZ"

#: Recorded: the reference server has no list of runs, and refuses some things with HTTP 200.
ANSWERS: dict[tuple[str, str], tuple[int, Any]] = {
    ("GET", "/v1/runs?limit=20"): (404, "404 page not found"),
    ("GET", "/v1/events?limit=20"): (200, {"data": [EVENT]}),
    ("GET", f"/v1/events/{EVENT['internal_id']}/runs"): (200, {"data": [RUN]}),
    ("GET", f"/v1/runs/{RUN['run_id']}"): (200, {"data": RUN}),
    ("GET", f"/v1/runs/{UNKNOWN}"): (
        200,
        {"error": f"Unable to load function run: {UNKNOWN}", "data": None, "status": 500},
    ),
    ("DELETE", f"/v1/runs/{RUN['run_id']}"): (200, None),
    ("POST", "/e/wrong"): (401, {"error": "Event key not found"}),
    ("POST", "/e/a%2Fkey"): (200, {"ids": [EVENT["internal_id"]], "status": 200}),
    ("POST", "/e/html"): (200, "<html>"),
}


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers as recorded: its URL, and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            asked.append(
                {
                    "method": self.command,
                    "path": self.path,
                    "headers": {key.lower(): value for key, value in self.headers.items()},
                    "body": self.rfile.read(size).decode(),
                }
            )
            status, value = ANSWERS.get((self.command, self.path), (404, "404 page not found"))
            text = value if isinstance(value, str) else json.dumps(value)
            body = b"" if value is None else text.encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", asked
        http.shutdown()


def test_runs_are_listed_through_their_events(server: tuple[str, list[dict[str, Any]]]) -> None:
    done = onward("runs", "list", "--url", server[0], "--json")
    assert done.status == 0, done
    assert done.json == {"runs": [RUN]}


def test_an_output_that_is_text_of_json_is_shown_as_json(
    server: tuple[str, list[dict[str, Any]]],
) -> None:
    done = onward("runs", "show", RUN["run_id"], "--url", server[0])
    assert done.status == 0, done
    assert '"nested": [' in done.out
    assert "0.12 s" in done.out


def test_a_refusal_with_status_200_is_a_refusal(
    server: tuple[str, list[dict[str, Any]]],
) -> None:
    done = onward("runs", "show", UNKNOWN, "--url", server[0])
    assert done.status == 1, done
    assert "Unable to load function run" in done.err


def test_a_cancel_is_a_delete(server: tuple[str, list[dict[str, Any]]]) -> None:
    done = onward("runs", "cancel", RUN["run_id"], "--url", server[0])
    assert done.status == 0, done
    path = f"/v1/runs/{RUN['run_id']}"
    assert [(one["method"], one["path"]) for one in server[1]] == [("DELETE", path), ("GET", path)]


def test_a_run_that_is_over_is_not_called_cancelled(
    server: tuple[str, list[dict[str, Any]]],
) -> None:
    done = onward("runs", "cancel", RUN["run_id"], "--url", server[0])
    assert done.out == f"{RUN['run_id']} had completed already\n"
    done = onward("runs", "cancel", RUN["run_id"], "--url", server[0], "--json")
    assert done.json == {"status": "completed", "run_id": RUN["run_id"]}


def test_keys_go_where_the_server_looks_for_them(
    server: tuple[str, list[dict[str, Any]]],
) -> None:
    url, asked = server
    key = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
    sent = onward("send", "a/b", "--id", "x", "--data", '{"n": 1}', "--key", "a/key", "--url", url)
    assert sent.status == 0, sent
    assert json.loads(asked[0]["body"]) == {"name": "a/b", "data": {"n": 1}, "id": "x"}
    onward("runs", "list", "--url", url, INNGEST_SIGNING_KEY=key, INNGEST_ENV="branch")
    bearer = asked[1]["headers"]["authorization"]
    assert bearer.startswith("Bearer signkey-test-")
    assert key not in bearer
    assert asked[1]["headers"]["x-inngest-env"] == "branch"


def test_a_wrong_key_says_which_one_to_set(server: tuple[str, list[dict[str, Any]]]) -> None:
    done = onward("send", "a/b", "--key", "wrong", "--url", server[0])
    assert done.status == 1, done
    assert "Event key not found. Set INNGEST_EVENT_KEY to" in " ".join(done.err.split())


def test_something_else_at_that_address_is_recognized(
    server: tuple[str, list[dict[str, Any]]],
) -> None:
    done = onward("send", "a/b", "--key", "html", "--url", server[0])
    assert done.status == 1, done
    assert "does not speak the protocol" in done.err


def test_a_proxy_is_never_asked_for_loopback(
    server: tuple[str, list[dict[str, Any]]],
) -> None:
    dead = "http://127.0.0.1:9"
    done = onward("runs", "list", "--url", server[0], HTTP_PROXY=dead, http_proxy=dead)
    assert done.status == 0, done


def test_where_the_orchestrator_is() -> None:
    assert resolve_address({}).api_url == "http://127.0.0.1:8288"
    assert resolve_address({}).event_key == ANY_KEY
    assert resolve_address({"INNGEST_DEV": "1"}).api_url == "http://127.0.0.1:8288"
    assert resolve_address({"INNGEST_DEV": "http://127.0.0.1:1"}).api_url == "http://127.0.0.1:1"
    own = resolve_address(
        {
            "INNGEST_BASE_URL": "https://own.example",
            "INNGEST_EVENT_API_BASE_URL": "https://e.example",
        }
    )
    assert (own.api_url, own.events_url) == ("https://own.example", "https://e.example")
    given = resolve_address(
        {"INNGEST_API_BASE_URL": "https://own.example", "INNGEST_EVENT_KEY": "k"},
        url="http://127.0.0.1:2/",
    )
    assert (given.api_url, given.events_url) == ("http://127.0.0.1:2", "http://127.0.0.1:2")
    assert given.event_key == "k"
    assert resolve_address({"INNGEST_DEV": "0"}).api_url == "https://api.inngest.com"
    with pytest.raises(UsageError, match="no URL"):
        resolve_address({}, url="127.0.0.1:8288")
