"""Calling functions through every entry as platforms do: over a socket, or as Lambda does."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Protocol
from urllib.parse import urlsplit

import onward
import onward.asgi
import onward.wsgi
from onward.core.ids import NO_TARGET, hash_step
from tests.support.checkpoint_api import CheckpointApi
from tests.support.loops import LoopThread

RUN_ID = "01M837658RRCV6SWBF0FTT0DQW"
PATH = "/api/inngest"

_requests = count(1)


@dataclass(frozen=True)
class Answer:
    """What an entry answered."""

    status: int
    headers: dict[str, str]
    body: Any
    text: bytes = b""

    @property
    def ops(self) -> list[dict[str, Any]]:
        """The ops of a 206."""
        assert self.status == 206, self.body
        assert isinstance(self.body, list)
        return self.body

    @property
    def brief(self) -> list[tuple[str, str]]:
        """Kind and user's step id of each op."""
        return [(op["op"], op.get("userland", {}).get("id", "")) for op in self.ops]


def step_id(name: str, index: int = 0) -> str:
    """A step's id on the wire."""
    return hash_step(name, index)


def call_request(steps: Mapping[str, Any] | None = None, **ctx: Any) -> dict[str, Any]:
    """A call request with the results `steps` (by hashed id, in order), as recorded ones look."""
    steps = dict(steps or {})
    number = next(_requests)
    event = {"id": "01M", "name": "test/asked", "data": {"n": 1}, "ts": 1795403261855, "user": {}}
    return {
        "ctx": {
            "attempt": 0,
            "disable_immediate_execution": False,
            "env": "",
            "fn_id": "0c55e07c-3221-5277-85eb-961ead1b88df",
            "generation_id": 1,
            "job_id": f"job-{number}",
            "max_attempts": 4,
            "qi_id": "MXgyaHhxYjh0czR6ZTo6ZGVmYXVsdA==",
            "request_id": f"request-{number}",
            "run_id": RUN_ID,
            "stack": {"current": len(steps), "stack": list(steps)},
            "step_id": "step",
            "use_api": False,
            **ctx,
        },
        "event": event,
        "events": [event],
        "steps": steps,
        "use_api": False,
        "version": 2,
    }


def request_after(api: CheckpointApi, **ctx: Any) -> dict[str, Any]:
    """The call request that comes after what `api` has stored."""
    steps: dict[str, Any] = {}
    for id_, op in api.journal.items():
        steps[id_] = {"error": op["error"]} if "error" in op else {"data": op.get("data")}
    return call_request(steps, **ctx)


class LambdaContext:
    """Lambda's context: the remaining time counts down."""

    function_name = "demo"

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends_at - time.monotonic()) * 1000)


class Entry(Protocol):
    """One way into an app. `remaining` in seconds is what the platform tells; None: nothing."""

    name: str

    def call(
        self,
        app: onward.App,
        request: object,
        *,
        function_id: str = "",
        target: str = NO_TARGET,
        remaining: float | None = None,
    ) -> Answer: ...


def _only_function(app: onward.App) -> str:
    return next(iter(app.functions))


class LambdaEntry:
    """Invokes the handler as Lambda's runtime does: on the main thread, with JSON both ways."""

    name = "lambda"

    def call(
        self,
        app: onward.App,
        request: object,
        *,
        function_id: str = "",
        target: str = NO_TARGET,
        remaining: float | None = None,
    ) -> Answer:
        event = {
            "onward": "call",
            "function_id": function_id or _only_function(app),
            "step_id": target,
            "request": request,
        }
        return self.invoke(app, event, remaining=remaining)

    def invoke(self, app: onward.App, event: object, *, remaining: float | None = None) -> Answer:
        """Invoke with any event."""
        from onward.aws_lambda import handler

        context = LambdaContext(600.0 if remaining is None else remaining)
        answer = json.loads(json.dumps(handler(app)(json.loads(json.dumps(event)), context)))
        return Answer(answer["status"], answer["headers"], answer["body"])


class AsgiServer:
    """A real server for ASGI apps; what it serves may be changed between requests."""

    def __init__(self, loops: LoopThread) -> None:
        self.loops = loops
        self.serves: Any = None
        self.port = urlsplit(loops.serve(self._dispatch)).port
        self._own = self.loops.tasks()

    async def _dispatch(self, scope: Any, receive: Any, send: Any) -> None:
        await self.serves(scope, receive, send)

    def tasks(self) -> set[str]:
        """What the server's loop has under way, without the server itself."""
        found = {
            getattr(task.get_coro(), "__qualname__", "?") for task in self.loops.tasks() - self._own
        }
        return found - {"RequestResponseCycle.run_asgi"}


class Server(Protocol):
    """A real server; what it `serves` may be changed between requests."""

    serves: Any

    @property
    def port(self) -> int | None: ...

    def tasks(self) -> set[str]: ...


class HttpEntry:
    """Posts call requests to what `serve` makes of an app, over a real socket."""

    name = ""
    serve: Callable[[onward.App], Any]

    def __init__(self, server: Server) -> None:
        self.server = server
        self.headers: dict[str, str] = {}

    def call(
        self,
        app: onward.App,
        request: object,
        *,
        function_id: str = "",
        target: str = NO_TARGET,
        remaining: float | None = None,
    ) -> Answer:
        deadline = None
        if remaining is not None:
            deadline = datetime.now(UTC) + timedelta(seconds=remaining)
        if deadline is not None or "vercel_runtime" in sys.modules:
            # The stand-in, from where the fixture `vercel` has put it.
            sys.modules["vercel_runtime"].deadline = deadline  # type: ignore[attr-defined]
        query = f"?fnId={function_id or _only_function(app)}&stepId={target}"
        return self.http(app, "POST", PATH + query, json.dumps(request).encode())

    def http(
        self,
        app: onward.App,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Any request."""
        self.server.serves = self.serve(app)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, fields, json.loads(text) if text else None, text)


class AsgiEntry(HttpEntry):
    """Over `onward.asgi.serve(app)`."""

    name = "asgi"
    serve = staticmethod(onward.asgi.serve)


class WsgiEntry(HttpEntry):
    """Over `onward.wsgi.serve(app)`."""

    name = "wsgi"
    serve = staticmethod(onward.wsgi.serve)


def shape_of(answer: Answer, *, unconfirmable: bool = False) -> str:
    """Which of the allowed answers this is. Raises AssertionError for any other.

    `unconfirmable`: a checkpoint failed for good, so that several finished steps may be answered.
    """
    if answer.status in {400, 500}:
        assert answer.headers["x-inngest-no-retry"] == ("true" if answer.status == 400 else "false")
        assert {"name", "message"} <= set(answer.body)
        return "error"
    kinds = [op["op"] for op in answer.ops]
    assert all(op["id"] for op in answer.ops)
    assert len(json.dumps(answer.body)) < 3_100_000
    before, last = set(kinds[:-1]), kinds[-1]
    if last == "RunComplete" and before <= {"StepRun"}:
        return "complete"
    alone = {
        "StepError": "failed",
        "StepFailed": "failed",
        "DiscoveryRequest": "continue",
        "None": "over",
        "StepRun": "step",
    }
    if not before and last in alone:
        return alone[last]
    if {*before, last} <= {"StepPlanned", "Sleep"}:
        assert all(op["opts"]["parallelMode"] == "race" for op in answer.ops)
        return "plan"
    if unconfirmable and before == {"StepRun"} and last in {"StepRun", "StepPlanned"}:
        return "steps" if last == "StepRun" else "handover"
    raise AssertionError(f"no allowed answer: {kinds}")
