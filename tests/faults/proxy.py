"""A TCP proxy for HTTP that spoils what passes, as a network, a balancer or a crash would."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.loops import HANGS_AFTER_S

#: Where a request that is held back waits for another one to pass it, at most so long.
HELD_S = 0.05

#: What may happen to a request. `before` and `after`: whether the other side got it.
FAULTS = (
    "delay",
    "drop before",
    "drop after",
    "reset before",
    "reset after",
    "503 before",
    "503 after",
    "truncate",
    "slow request",
    "slow answer",
    "hold",
    "duplicate",
    "late copy",
)

#: The other side gets the request again, though the one that sent it does not know. A call that is
#: made twice runs twice, until a checkpoint of the older one is refused.
REPEATED = frozenset({"duplicate", "late copy"})


@dataclass(frozen=True)
class Passed:
    """A request, and the answer of the other side: a status of 0 before there is one."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    answer_headers: tuple[tuple[str, str], ...] = ()
    answer: bytes = b""


class FaultProxy:
    """Stands before `target`; a context manager.

    `choose` names what happens to the request with this number, from 0; "" for nothing. `seen` is
    called with each answer of the target before it goes on, and whether it goes on whole.
    """

    def __init__(
        self,
        target: str,
        choose: Callable[[int], str],
        seen: Callable[[Passed, bool], None] = lambda _passed, _whole: None,
    ) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port)
        self._choose, self._seen = choose, seen
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._passing = threading.Condition()
        self._forwarded = 0
        self.requests = 0
        self.happened: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(HANGS_AFTER_S)

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="fault-proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError):
            while (request := _read(stream)) is not None:
                with self._lock:
                    number = self.requests
                    self.requests += 1
                fault = self._choose(number)
                self.happened.append(fault)
                if not self._pass(connection, request, fault):
                    break
        with self._lock:
            self._open.discard(connection)

    def _pass(self, connection: socket.socket, request: Passed, fault: str) -> bool:
        """Pass one request on; whether the connection stays open."""
        name, _, when = fault.partition(" ")
        if fault == "late copy":
            self._spawn(self._after_the_next, request)
            return False
        if when == "before":
            return _fail(connection, name)
        if name in {"delay", "hold"}:
            self._wait_for_another() if name == "hold" else time.sleep(HELD_S / 2)
        passed = self._forward(request, slowly=fault == "slow request")
        if fault == "duplicate":
            self._forward(request)
        if when == "after" or name == "truncate":
            self._seen(passed, False)
            if when == "after":
                return _fail(connection, name)
            whole = _rendered(passed)
            connection.sendall(whole[: len(whole) - len(passed.answer) // 2 - 1])
            return False
        self._seen(passed, True)
        _send(connection, _rendered(passed), slowly=fault == "slow answer")
        return True

    def _wait_for_another(self) -> None:
        """Until another request has been passed on."""
        with self._passing:
            before = self._forwarded
            self._passing.wait_for(lambda: self._forwarded > before, HELD_S)

    def _after_the_next(self, request: Passed) -> None:
        """Whoever sent it has given up on it; it arrives after what came later."""
        self._wait_for_another()
        with suppress(OSError, http.client.HTTPException):
            self._seen(self._forward(request), False)

    def _forward(self, request: Passed, *, slowly: bool = False) -> Passed:
        connection = http.client.HTTPConnection(*self._target, timeout=HANGS_AFTER_S)
        body: Any = _in_pieces(request.body) if slowly else request.body
        try:
            connection.request(request.method, request.path, body, request.headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        with self._passing:
            self._forwarded += 1
            self._passing.notify_all()
        head = (request.method, request.path, request.headers, request.body)
        return Passed(*head, answer.status, tuple(answer.getheaders()), text)


def _read(stream: Any) -> Passed | None:
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
    for name in ("host", "connection"):
        headers.pop(name, None)
    return Passed(first[0], first[1], headers, body) if len(body) == length else None


def _fail(connection: socket.socket, name: str) -> bool:
    if name == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif name == "503":
        body = b'{"error": "unavailable"}'
        fields = (("content-type", "application/json"),)
        connection.sendall(_rendered(Passed("", "", {}, b"", 503, fields, body)))
        return True
    return False


def _rendered(passed: Passed) -> bytes:
    """The answer as bytes, with its length."""
    dropped = {"content-length", "transfer-encoding", "connection"}
    fields = [(n, v) for n, v in passed.answer_headers if n.lower() not in dropped]
    fields.append(("content-length", str(len(passed.answer))))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {passed.status} Status\r\n{head}\r\n".encode("latin-1") + passed.answer


def _send(connection: socket.socket, data: bytes, *, slowly: bool) -> None:
    for piece in _in_pieces(data) if slowly else [data]:
        connection.sendall(piece)


def _in_pieces(data: bytes) -> Iterator[bytes]:
    """A slow sender's pieces: sixteen, with a pause after each."""
    size = len(data) // 16 + 1
    for start in range(0, len(data), size):
        yield data[start : start + size]
        time.sleep(0.002)
