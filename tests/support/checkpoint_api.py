"""An orchestrator's HTTP API that fails as it is told to: a real server on the loopback.

It speaks HTTP/1.1 with keep-alive over plain sockets, so that it can also reset, truncate, hang up,
never answer, and refuse connections.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

#: Longer than anything here takes on a slow machine: what waits this long has hung.
HANGS_AFTER_S = 30.0

RESET, CLOSE, TRUNCATE, GARBAGE, HANG = "reset", "close", "truncate", "garbage", "hang"


@dataclass(frozen=True)
class Reply:
    """What one request gets.

    Args:
        status: The status of the answer.
        body: Its body.
        fault: Instead of a whole answer: RESET, CLOSE, TRUNCATE, GARBAGE or HANG (no answer until
            the server stops or `release` is called).
        stores: Whether the checkpoint is stored; by default when the answer is 200.
        closes: Whether the answer says that the connection ends with it, and it does.
        waits: Called before the answer, with the request.
        headers: Of the answer, beside the usual ones.
    """

    status: int = 200
    body: str = "null"
    fault: str = ""
    stores: bool | None = None
    closes: bool = False
    waits: Callable[[Seen], object] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def keeps(self) -> bool:
        """Whether the checkpoint is stored."""
        return self.stores if self.stores is not None else not self.fault and self.status == 200

    def stored(self) -> Reply:
        """The same, but what was checkpointed is kept: only the answer got lost."""
        return replace(self, stores=True)


OK = Reply()
UNAVAILABLE = Reply(503, '{"error": "unavailable"}')
NOT_FOUND = Reply(400, '{"error": "run not found in state store"}')


@dataclass(frozen=True)
class Seen:
    """A request as it arrived. `connection` counts from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def steps(self) -> list[str]:
        """The ids that user code gave the steps of this checkpoint."""
        return [op["userland"]["id"] for op in self.json()["steps"]]


@dataclass(eq=False)
class CheckpointApi:
    """The server; a context manager. It answers from `script`, then always with `default`.

    `journal` holds what was stored, by hashed step id, the first result of each. `accepts` are the
    bearer tokens that are let in; None: anybody. Checkpoints over `refuses_over` bytes get a 413.
    `pages` answer other paths. `conflicts` names checkpoints that the recorded server would have
    refused, or that contradicts an earlier one.
    """

    default: Reply = OK
    accepts: frozenset[str] | None = None
    refuses_over: int | None = None
    pages: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    checkpoints: list[Seen] = field(default_factory=list, init=False)
    others: list[Seen] = field(default_factory=list, init=False)
    journal: dict[str, Any] = field(default_factory=dict, init=False)
    conflicts: list[str] = field(default_factory=list, init=False)
    connections: int = field(default=0, init=False)
    port: int = field(default=0, init=False)
    _script: deque[Reply] = field(default_factory=deque, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _released: threading.Event = field(default_factory=threading.Event, init=False)
    _open: set[socket.socket] = field(default_factory=set, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)
    _listener: socket.socket | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
        self.down()
        for thread in self._threads:
            thread.join(HANGS_AFTER_S)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    # ------------------------------------------------------------------ what the test says

    def script(self, *replies: Reply) -> None:
        """The next checkpoints get these, one each, then `default` again."""
        with self._lock:
            self._script.extend(replies)

    def release(self) -> None:
        """Let go of what hangs: those connections are closed without an answer."""
        self._released.set()

    def up(self) -> None:
        """Listen, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(16)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._spawn(self._accept, listener)

    def down(self) -> None:
        """Hang up on everybody, and refuse connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        """Hang up on everybody."""
        with self._lock:
            dropped, self._open = self._open, set()
        for connection in dropped:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def wait_for(self, count: int) -> None:
        """Wait until that many checkpoints have arrived."""
        self.wait_until(lambda: len(self.checkpoints) >= count, f"{count} checkpoint(s)")

    def wait_until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something about the requests holds; a body that does so can be interrupted."""
        until = time.monotonic() + HANGS_AFTER_S
        while not true():
            if time.monotonic() > until:
                seen = [checkpoint.steps for checkpoint in self.checkpoints]
                raise AssertionError(f"waited in vain for {what}; checkpoints: {seen}")
            time.sleep(0.001)

    def stored(self) -> list[str]:
        """The user's ids of the steps that were stored, in that order."""
        return [op["userland"]["id"] for op in self.journal.values()]

    def keep(self, ops: Iterable[dict[str, Any]]) -> None:
        """Store finished steps, whether they were checkpointed or answered."""
        for op in ops:
            if op["op"] not in {"StepRun", "StepFailed"}:
                self.conflicts.append(f"{op['op']} in a checkpoint")
                continue
            known = self.journal.setdefault(op["id"], op)
            if (known.get("data"), known["op"]) != (op.get("data"), op["op"]):
                self.conflicts.append(f"{op['userland']['id']} has two outcomes")

    # ------------------------------------------------------------------ the server

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="checkpoint-api", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
                self._open.add(connection)
            self._spawn(self._serve, connection, number)

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError):
            while (seen := _read(stream, number)) is not None:
                if not self._answer(connection, seen):
                    break
        with self._lock:
            self._open.discard(connection)

    def _answer(self, connection: socket.socket, seen: Seen) -> bool:
        """Answer one request; whether the connection stays open."""
        if not (seen.method == "POST" and seen.path.startswith("/v1/checkpoint/")):
            with self._lock:
                self.others.append(seen)
            status, page = self.pages.get(seen.path) or self._page(seen.path)
            return _send(connection, status, page)
        with self._lock:
            reply = self._reply_to(seen)
            self.checkpoints.append(seen)
            if reply.keeps:
                self.keep(seen.json()["steps"])
        if reply.waits is not None:
            reply.waits(seen)
        return self._fail(connection, reply) if reply.fault else _send_reply(connection, reply)

    def _page(self, path: str) -> tuple[int, bytes]:
        """The journal as it is now, and nothing else."""
        if not (path.startswith("/v0/runs/") and path.endswith("/actions")):
            return 404, b'{"error": "no such page"}'
        keys = ("data", "error")
        steps = {
            id_: {key: op[key] for key in keys if key in op} for id_, op in self.journal.items()
        }
        return 200, json.dumps(steps).encode()

    def _reply_to(self, seen: Seen) -> Reply:
        token = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if self.accepts is not None and token not in self.accepts:
            return Reply(401, '{"error": "unauthorized"}')
        if self.refuses_over is not None and len(seen.body) > self.refuses_over:
            return Reply(413, '{"error": "request is too large"}')
        return self._script.popleft() if self._script else self.default

    def _fail(self, connection: socket.socket, reply: Reply) -> bool:
        if reply.fault == HANG:
            self._released.wait(HANGS_AFTER_S)
        elif reply.fault == TRUNCATE:
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnul")
        elif reply.fault == GARBAGE:
            connection.sendall(b"\x15\x03\x01\x00\x02\x02\x16\r\n\r\n")
        elif reply.fault == RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


def _read(stream: Any, number: int) -> Seen | None:
    """The next whole request of a connection, or None at its end."""
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    body = stream.read(length)
    if len(body) < length:  # the connection was dropped in the middle of the request
        return None
    return Seen(first[0], first[1], headers, body, number)


def _send_reply(connection: socket.socket, reply: Reply) -> bool:
    fields = {**reply.headers, "connection": "close"} if reply.closes else reply.headers
    _send(connection, reply.status, reply.body.encode(), fields)
    return not reply.closes


def _send(
    connection: socket.socket, status: int, body: bytes, fields: dict[str, str] | None = None
) -> bool:
    head = f"HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (fields or {}).items())
    connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return True
