"""The checkpoint channel: one thread with one keep-alive connection a process.

Both drivers and the watchdog hand their checkpoints to it and are called back with the verdict.
Measured on loopback, a round trip of the standard library's client costs less than half of httpx's,
and needs no import of httpx in the function.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onward.core.retry import RETRY_BUDGET, Verdict, backoff, classify
from onward.protocol.signature import bearer_token

if TYPE_CHECKING:
    from http.client import HTTPConnection

#: The longest that one try may take, in seconds.
TRY_TIMEOUT = 10.0

#: How much of a refusal's text is kept.
DETAIL_LENGTH = 500

_LOOPBACK = ("127.", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine: no proxy is ever used for it."""
    return host.startswith(_LOOPBACK)


class Keys:
    """The signing key and its fallback: a 401 switches to the fallback, once and for good."""

    def __init__(self, key: str | None = None, fallback: str | None = None) -> None:
        self._keys = [each for each in (key, fallback) if each]

    def authorization(self) -> str | None:
        """The value of the authorization header, or None without keys."""
        return f"Bearer {bearer_token(self._keys[0])}" if self._keys else None

    def fall_back(self, refused: str | None) -> bool:
        """Whether there is another key to try after `refused` was refused."""
        if self._keys and self.authorization() != refused:
            return True
        if len(self._keys) < 2:  # noqa: PLR2004 - the key and its fallback
            return False
        del self._keys[0]
        return True


@dataclass(slots=True)
class _Job:
    path: str
    body: bytes
    give_up_at: float
    done: Callable[[Verdict, str], None]
    tries: int = 0


@dataclass(order=True, slots=True)
class _Entry:
    due: float
    sequence: int
    job: _Job = field(compare=False)


class Channel:
    """Posts checkpoints to `base_url` in the order of their submission, with retries.

    `round_trip` is the smoothed time of a confirmed checkpoint, in seconds.
    """

    def __init__(self, base_url: str, keys: Keys | None = None, *, sdk: str = "onward") -> None:
        self._base_url = base_url
        self._keys = keys or Keys()
        self._sdk = sdk
        self._queue: list[_Entry] = []
        self._sequence = 0
        self._ready = threading.Condition()
        self._thread: threading.Thread | None = None
        self._connection: HTTPConnection | None = None
        self._prefix = ""
        self._closed = False
        self.round_trip = 0.0

    def submit(
        self,
        path: str,
        body: bytes,
        done: Callable[[Verdict, str], None],
        *,
        give_up_at: float | None = None,
    ) -> None:
        """Post `body` (JSON) to `path`; `done(verdict, detail)` is called on the channel's thread.

        `give_up_at` is an instant of `time.monotonic()`; by default retries end after 30 seconds.
        """
        budget = time.monotonic() + RETRY_BUDGET
        until = budget if give_up_at is None else min(give_up_at, budget)
        self._push(_Job(path, body, until, done), 0.0)

    def close(self) -> None:
        """End the thread and the connection, after what is queued."""
        with self._ready:
            self._closed = True
            self._ready.notify()
            thread = self._thread
        if thread is not None:
            thread.join(TRY_TIMEOUT)

    def _push(self, job: _Job, due: float) -> None:
        with self._ready:
            self._sequence += 1
            heapq.heappush(self._queue, _Entry(due, self._sequence, job))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._work, name="onward-checkpoints", daemon=True
                )
                self._thread.start()
            self._ready.notify()

    def _next(self) -> _Job | None:
        with self._ready:
            while True:
                now = time.monotonic()
                if self._queue and self._queue[0].due <= now:
                    return heapq.heappop(self._queue).job
                if self._closed and not self._queue:
                    return None
                self._ready.wait(self._queue[0].due - now if self._queue else None)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            status, detail, key = self._try(job)
            verdict = classify(status, detail)
            if verdict is Verdict.BAD_KEY:
                verdict = Verdict.TRY_AGAIN if self._keys.fall_back(key) else Verdict.REFUSED
                delay = 0.0
            else:
                delay = backoff(job.tries, random.random())  # noqa: S311 - jitter
            job.tries += 1
            again = time.monotonic() + delay
            if verdict is Verdict.TRY_AGAIN and again < job.give_up_at:
                self._push(job, again if delay else 0.0)
                continue
            if verdict is Verdict.TRY_AGAIN:
                verdict = Verdict.UNCONFIRMED
            job.done(verdict, detail)
        self._drop()

    def _try(self, job: _Job) -> tuple[int | None, str, str | None]:
        """One try: its status (None: no answer), the answer's text, and the key it used."""
        key = self._keys.authorization()
        fields = {"content-type": "application/json", "x-inngest-sdk": self._sdk}
        fields["user-agent"] = self._sdk
        if key is not None:
            fields["authorization"] = key
        reused = self._connection is not None
        begun = time.monotonic()
        try:
            status, text = self._post(job, fields)
        except Exception as error:  # noqa: BLE001 - whatever the network does, the verdict is the same
            self._drop()
            if reused and time.monotonic() < job.give_up_at:
                return self._try(job)
            return None, f"{type(error).__name__}: {error}"[:DETAIL_LENGTH], key
        spent = time.monotonic() - begun
        self.round_trip = spent if not self.round_trip else 0.8 * self.round_trip + 0.2 * spent
        detail = f"status {status}: {text}" if status >= 300 else ""  # noqa: PLR2004 - not confirmed
        return status, detail[:DETAIL_LENGTH], key

    def _post(self, job: _Job, fields: dict[str, str]) -> tuple[int, str]:
        left = max(job.give_up_at - time.monotonic(), 0.05)
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        connection.timeout = min(TRY_TIMEOUT, left)
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
        connection.request("POST", self._prefix + job.path, job.body, fields)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        if answer.will_close:
            self._drop()
        return answer.status, text

    def _connect(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection
        from urllib.parse import urlsplit

        from onward.transport.proxies import proxy_for

        url = urlsplit(self._base_url)
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        self._prefix = url.path.rstrip("/")
        host = url.hostname or ""
        proxy = None if is_loopback(host) else proxy_for(url.scheme, host)
        if proxy is None:
            return kind(host, url.port, timeout=TRY_TIMEOUT)
        through = urlsplit(proxy)
        connection = kind(through.hostname or "", through.port, timeout=TRY_TIMEOUT)
        connection.set_tunnel(host, url.port)
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
