"""The orchestrator's process with crash points around it, put there from outside.

| name | the process is |
|---|---|
| `commit.before`, `commit.after` | about to commit a transaction that wrote; past that |
| `answer.before`, `answer.after` | about to answer a request of its API; past that |
| `dispatch.before`, `dispatch.sent` | about to send a call request; past that |
| `process.before`, `process.after` | given a call's answer; past all that follows from it |
| `ended` | past the end of a run |
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx

import onward_server.__main__ as command
from onward.testing.crash import CrashPoints, Message, Receive, Send, step_names
from onward_server import Orchestrator, Settings, TraceEvent
from onward_server.answers import Reported
from onward_server.dispatcher import Call, Dispatcher

WRITE = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)")
CHECKPOINT = re.compile(r"/v1/checkpoint/\w+/async")
SENT = "http11.send_request_body.complete"

#: Short delays; nothing else differs from the command's own settings.
SETTINGS = partial(Settings, retry_base_s=0.01, refused_delay_s=0.02)


def main(points: CrashPoints, tell: Callable[..., None], arguments: list[str]) -> int:
    """`python -m onward_server ARGUMENTS` with `points`; `tell(...)` hears of what happens."""
    _watch_commits(points)
    _watch_answers(points)
    _watch_calls(points)
    _watch_runs(points, tell)
    vars(command).update(Settings=SETTINGS, print=partial(_told, tell))
    sys.argv = ["onward_server", *arguments]
    return command.main()


def _told(tell: Callable[..., None], line: str, **_: Any) -> None:
    """What the command prints when it is ready."""
    tell(ready=json.loads(line)["url"], pid=os.getpid())


def _watch_commits(points: CrashPoints) -> None:
    """Around COMMIT of every transaction that wrote; labels are the steps, or else the tables."""

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql.startswith("BEGIN"):
                self.tables: list[str] = []
                self.steps: list[str] = []
            if sql.lstrip().startswith("CREATE TABLE"):
                self.tables.append("schema")
            elif written := WRITE.match(sql):
                self.tables.append(written.group(1))
                if written.group(1) == "steps":
                    self.steps.append(parameters[3] or "sleep")
            if sql != "COMMIT" or not self.tables:
                return super().execute(sql, parameters)
            labels = self.steps or ["+".join(sorted(set(self.tables)))]
            points.reach("commit.before", *labels)
            cursor = super().execute(sql)
            points.reach("commit.after", *labels)
            return cursor

    vars(sqlite3).update(connect=partial(sqlite3.connect, factory=Connection))


def _watch_answers(points: CrashPoints) -> None:
    asgi = vars(Orchestrator)["asgi"].fget

    def watched(self: Orchestrator) -> Any:
        served = asgi(self)

        async def answering(scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["method"] != "POST":
                await served(scope, receive, send)
                return
            body = bytearray()
            held: list[Message] = []

            async def receiving() -> Message:
                message = await receive()
                body.extend(message.get("body", b""))
                return message

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    held.append(message)  # it leaves with the body
                    return
                labels = _asked(scope["path"], bytes(body))
                points.reach("answer.before", *labels)
                for part in (*held, message):
                    await send(part)
                points.reach("answer.after", *labels)

            await served(scope, receiving, sending)

        return answering

    Orchestrator.asgi = property(watched)  # type: ignore[method-assign, assignment]


def _asked(path: str, body: bytes) -> list[str]:
    """What a request was about: a checkpoint's steps, or the address."""
    if CHECKPOINT.fullmatch(path):
        return step_names(json.loads(body)["steps"])
    return [path.strip("/").partition("/")[0]]


def _watch_calls(points: CrashPoints) -> None:
    send, called = httpx.AsyncClient.send, Dispatcher._outcome
    delivered = Dispatcher._delivered

    async def sending(
        self: httpx.AsyncClient, request: httpx.Request, **options: Any
    ) -> httpx.Response:
        async def tracing(event: str, _info: object) -> None:
            if event == SENT:
                points.reach("dispatch.sent", "call")

        request.extensions = {**request.extensions, "trace": tracing}
        return await send(self, request, **options)

    async def calling(self: Dispatcher, invoker: Any, call: Call) -> Any:
        points.reach("dispatch.before", "call")
        return await called(self, invoker, call)

    async def processing(self: Dispatcher, call: Call, outcome: Any) -> Any:
        ops = outcome.ops if isinstance(outcome, Reported) else ()
        label = str(ops[-1].code) if ops else type(outcome).__name__
        points.reach("process.before", label)
        effects = await delivered(self, call, outcome)
        points.reach("process.after", label)
        return effects

    httpx.AsyncClient.send = sending  # type: ignore[method-assign]
    Dispatcher._outcome = calling  # type: ignore[method-assign]
    Dispatcher._delivered = processing  # type: ignore[method-assign]


def _watch_runs(points: CrashPoints, tell: Callable[..., None]) -> None:
    start = Orchestrator.start

    def heard(event: TraceEvent) -> None:
        if event.kind == "run.ended":
            points.reach("ended", "run")
            tell(ended=event.run_id, pid=os.getpid())

    async def starting(self: Orchestrator) -> None:
        self.subscribe(heard)
        await start(self)

    Orchestrator.start = starting  # type: ignore[method-assign]
