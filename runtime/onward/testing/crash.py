"""Crash points: named places at which a test ends the process with SIGKILL.

A test process calls `watch_function` when it starts. It wraps what it watches from outside: nothing
in the runtime knows of it, and a process that does not call it has no crash points.

Two environment variables say what a place does. `ONWARD_CRASH_AT=NAME/LABEL:COUNT` kills the
process when it reaches that place for the COUNT-th time. `ONWARD_CRASH_TRACE=FILE` appends a line
for each place that is reached, which is how a test learns what places there are.

Places of a function's process, with the step, the step called for, or the op as their label:

| name | the process is |
|---|---|
| `call.received` | given a call request |
| `body.start`, `body.end` | about to run a body; past it, its result not looked at yet |
| `checkpoint.submit`, `checkpoint.submitted` | about to hand a checkpoint over; past that |
| `checkpoint.sent` | past sending one, its answer not read |
| `checkpoint.confirmed`, `checkpoint.refused` | past the answer, nothing done about it |
| `checkpoint.taken` | past everything that follows from the answer |
| `response.before`, `response.after` | about to send its response; past that |
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from onward.app import App, BodyEvent
from onward.core.retry import Verdict

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from onward.transport.channel import Channel

CRASH_AT = "ONWARD_CRASH_AT"
CRASH_TRACE = "ONWARD_CRASH_TRACE"

#: What the addresses of checkpoints have in common (recorded).
_CHECKPOINTS = "/v1/checkpoint/"

#: The status of an answer that has ops; one with 200 has the function's result.
_OPS = 206

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Reached:
    """A line of the trace: the process `pid` came to `name` for the `count`-th time.

    `labels` are what the place was about then; `count` is that of the last one.
    """

    pid: int
    name: str
    labels: tuple[str, ...]
    count: int

    @property
    def place(self) -> str:
        """What `ONWARD_CRASH_AT` has to be for a kill here.

        Of several labels it names the last: in another run, a batch that holds it may be another.
        """
        return f"{self.name}/{self.labels[-1]}:{self.count}"


class CrashPoints:
    """The places of one process, counted for each name and label.

    Args:
        at: `NAME/LABEL:COUNT`, the place of the kill; None for no kill.
        trace: The file that a line is appended to at each place; None for none.

    Raises ValueError for an `at` of another form.
    """

    def __init__(self, at: str | None = None, trace: str | Path | None = None) -> None:
        place, _, count = (at or "").rpartition(":")
        if at and (not count.isdigit() or int(count) < 1 or "/" not in place):
            raise ValueError(f"{CRASH_AT}={at!r} is not NAME/LABEL:COUNT, such as body.end/load:1")
        self._place, self._count = place, int(count) if at else 0
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._trace = os.open(trace, flags, 0o600) if trace else None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> CrashPoints:
        """The places as the environment asks for them. Raises ValueError, OSError."""
        return cls(environ.get(CRASH_AT), environ.get(CRASH_TRACE))

    def reach(self, name: str, *labels: str) -> None:
        """Say that the process is at `name` now, about `labels`; called from any thread.

        Where `ONWARD_CRASH_AT` says so, it does not return.
        """
        named = labels or ("-",)
        with self._lock:
            places = [f"{name}/{label}" for label in named]
            self._seen.update(places)
            if self._trace is not None:
                line = json.dumps([os.getpid(), name, named, self._seen[places[-1]]])
                os.write(self._trace, f"{line}\n".encode())
            if self._place in places and self._seen[self._place] == self._count:
                os.kill(os.getpid(), signal.SIGKILL)
                threading.Event().wait()  # nothing of this process runs past the kill


def read_trace(path: str | Path) -> list[Reached]:
    """The places that processes reached, in order; none where the file is missing."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    rows = (json.loads(line) for line in text.splitlines())
    return [Reached(pid, name, tuple(labels), count) for pid, name, labels, count in rows]


def watch_function(app: App, served: Asgi, points: CrashPoints) -> Asgi:
    """`served`, the ASGI entry of `app`, with crash points around what this process does.

    It wraps the checkpoint channel and HTTP client of the whole process, so call it once.
    """
    app.body_observers.append(lambda event: _at_body(points, event))
    _watch_channel(points)
    return _watch_calls(served, points)


def _at_body(points: CrashPoints, event: BodyEvent) -> None:
    points.reach(f"body.{event.phase}", event.step_id)


def step_names(ops: Iterable[Mapping[str, Any]]) -> list[str]:
    """What ops on the wire call their steps."""
    return [str(op.get("displayName") or op.get("name") or op["id"]) for op in ops]


def _watch_channel(points: CrashPoints) -> None:
    from onward.transport.channel import Channel

    submit = Channel.submit

    def submitting(
        self: Channel,
        path: str,
        body: bytes,
        done: Callable[[Verdict, str], None],
        *,
        give_up_at: float | None = None,
    ) -> None:
        names = step_names(json.loads(body)["steps"])

        def told(verdict: Verdict, detail: str) -> None:
            confirmed = verdict is Verdict.CONFIRMED
            points.reach("checkpoint.confirmed" if confirmed else "checkpoint.refused", *names)
            done(verdict, detail)
            points.reach("checkpoint.taken", *names)

        points.reach("checkpoint.submit", *names)
        submit(self, path, body, told, give_up_at=give_up_at)
        points.reach("checkpoint.submitted", *names)

    Channel.submit = submitting  # type: ignore[method-assign]
    _watch_connections(points)


def _watch_connections(points: CrashPoints) -> None:
    """Between a checkpoint's request and its answer, on whichever connection it is made."""
    from http.client import HTTPConnection

    request, read = HTTPConnection.request, HTTPConnection.getresponse
    on_its_way: WeakKeyDictionary[HTTPConnection, list[str]] = WeakKeyDictionary()

    def requesting(
        self: HTTPConnection, method: str, url: str, body: Any = None, *args: Any, **options: Any
    ) -> None:
        on_its_way.pop(self, None)
        if _CHECKPOINTS in url:
            on_its_way[self] = step_names(json.loads(body)["steps"])
        request(self, method, url, body, *args, **options)

    def reading(self: HTTPConnection) -> HTTPResponse:
        if self in on_its_way:
            points.reach("checkpoint.sent", *on_its_way[self])
        return read(self)

    HTTPConnection.request = requesting  # type: ignore[method-assign]
    HTTPConnection.getresponse = reading  # type: ignore[method-assign]


def _watch_calls(served: Asgi, points: CrashPoints) -> Asgi:
    async def watched(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await served(scope, receive, send)
            return
        held: list[Message] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                held.append(message)  # it leaves with the body
                return
            label = _answered(held[0]["status"], message["body"])
            points.reach("response.before", label)
            for part in (*held, message):
                await send(part)
            points.reach("response.after", label)

        points.reach("call.received", "call")
        await served(scope, receive, sending)

    return watched


def _answered(status: int, body: bytes) -> str:
    """What a response is about: the kind of its last op, its error, or the function's result."""
    value = json.loads(body)
    if status == _OPS and value:
        return str(value[-1]["op"])
    return str(value.get("name", "value")) if isinstance(value, dict) else "value"
