"""The checkpoint channel: a thread with a keep-alive connection, and more while it is busy.

Both drivers and the watchdog hand their checkpoints to it and are called back with the verdict.
Measured on loopback, a round trip of the standard library's client costs less than half of httpx's,
and needs no import of httpx in the function.
"""

from __future__ import annotations

import heapq
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onward.core.retry import RETRY_BUDGET, Verdict, backoff, classify
from onward.protocol.signature import bearer_token

if TYPE_CHECKING:
    from http.client import HTTPConnection

#: The longest that one try may take, in seconds.
TRY_TIMEOUT = 10.0

#: How many checkpoints are under way at a time.
LANES = 8

#: How much of a refusal's text is kept.
DETAIL_LENGTH = 500

#: The first Inngest server that has all that Onward uses: asynchronous checkpoints (1.13.5) and the
#: `DiscoveryRequest` by which a function continues (1.14.2).
MINIMUM_SERVER = "1.14.2"

#: What a server without the checkpoint API answers.
_NOT_THERE = (404, 405)

_LOOPBACK = ("localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine: no proxy is ever used for it."""
    if host in _LOOPBACK or host.endswith(".localhost"):
        return True
    return host.startswith("127.") and host.replace(".", "").isdecimal()


class Keys:
    """The signing key and its fallback: a 401 switches to the fallback, once and for good."""

    def __init__(self, key: str | None = None, fallback: str | None = None) -> None:
        self._keys = [each for each in (key, fallback) if each]
        self._lock = threading.Lock()

    def authorization(self) -> str | None:
        """The value of the authorization header, or None without keys."""
        return f"Bearer {bearer_token(self._keys[0])}" if self._keys else None

    def fall_back(self, refused: str | None) -> bool:
        """Whether there is another key to try after `refused` was refused."""
        with self._lock:
            if self._keys and self.authorization() != refused:
                return True
            if len(self._keys) < 2:  # noqa: PLR2004 - the key and its fallback
                return False
            del self._keys[0]
            return True


@dataclass(slots=True)
class _Job:
    path: str
    body: bytes | None
    give_up_at: float
    done: Callable[[Verdict, str], None]
    tries: int = 0
    wished: float = 0.0


@dataclass(order=True, slots=True)
class _Entry:
    due: float
    sequence: int
    job: _Job = field(compare=False)


class Channel:
    """Posts checkpoints to `base_url`, with retries.

    Each lane is a thread with a keep-alive connection. Jobs are taken in the order of their
    submission. A second lane is made only while the first is busy, so that no run waits behind a
    slow checkpoint of another. A run has one checkpoint in flight: lanes cannot reorder it.

    `headers` go with every checkpoint. `round_trip` is the smoothed time of a confirmed checkpoint,
    in seconds. `too_old` says that the server has no checkpoints: it answered 404.
    """

    def __init__(
        self,
        base_url: str,
        keys: Keys | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._base_url = base_url
        self._keys = keys or Keys()
        self._headers = dict(headers or {})
        self.too_old = False
        self.round_trip = 0.0
        self._begin()

    def _begin(self) -> None:
        """Have no lane, and nothing to do."""
        self._process = os.getpid()
        self._queue: list[_Entry] = []
        self._sequence = 0
        self._ready = threading.Condition()
        self._lanes: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def submit(
        self,
        path: str,
        body: bytes,
        done: Callable[[Verdict, str], None],
        *,
        give_up_at: float | None = None,
    ) -> None:
        """Post `body` (JSON) to `path`; `done(verdict, detail)` is called on a lane's thread.

        `detail` is the text of a confirmation, or why there is none.
        `give_up_at` is an instant of `time.monotonic()`; by default retries end after 30 seconds.
        A `Retry-After` that ends later makes the verdict `UNCONFIRMED` at once.
        """
        self._push(_Job(path, body, _until(give_up_at), done), 0.0)

    def read(
        self, path: str, done: Callable[[Verdict, str], None], *, give_up_at: float | None = None
    ) -> None:
        """GET `path` in the same way; `done` gets the answer's text where it is `CONFIRMED`."""
        self._push(_Job(path, None, _until(give_up_at), done), 0.0)

    def close(self) -> None:
        """End the lanes and their connections, after what is queued."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
            lanes = list(self._lanes)
        for lane in lanes:
            lane.join(TRY_TIMEOUT)

    def _push(self, job: _Job, due: float) -> None:
        if self._process != os.getpid():  # a forked child has none of these threads
            self._begin()
        with self._ready:
            self._sequence += 1
            heapq.heappush(self._queue, _Entry(due, self._sequence, job))
            self._lanes = [lane for lane in self._lanes if lane.is_alive()]
            if self._idle < len(self._queue) and len(self._lanes) < LANES:
                lane = threading.Thread(target=self._work, name="onward-checkpoints", daemon=True)
                try:
                    lane.start()
                except RuntimeError:  # no thread is to be had: those that are there do it
                    if not self._lanes:
                        self._queue.clear()
                        raise
                else:
                    self._lanes.append(lane)
                    self._idle += 1
            self._ready.notify()

    def _next(self) -> _Job | None:
        with self._ready:
            while True:
                now = time.monotonic()
                if self._queue and self._queue[0].due <= now:
                    self._idle -= 1
                    return heapq.heappop(self._queue).job
                if self._closed and not self._queue:
                    return None
                self._ready.wait(self._queue[0].due - now if self._queue else None)

    def _work(self) -> None:
        post = Post(self._base_url, self._keys, self._headers)
        while (job := self._next()) is not None:
            status, detail, key = post.attempt(job)
            if status is not None:
                self.round_trip = smoothed(self.round_trip, post.spent)
            with self._ready:
                self._idle += 1  # before what follows submits the next job, which needs no new lane
            self._settle(job, status, detail, key)
        post.drop()

    def _settle(self, job: _Job, status: int | None, detail: str, key: str | None) -> None:
        """What follows from one try."""
        verdict = classify(status, detail)
        if status in _NOT_THERE and job.body is not None:
            self._note_old_server()
        delay = backoff(job.tries, random.random())  # noqa: S311 - jitter
        if verdict is Verdict.BAD_KEY:
            verdict = Verdict.TRY_AGAIN if self._keys.fall_back(key) else Verdict.REFUSED
            delay = 0.0
        job.tries += 1
        again = time.monotonic() + max(delay, job.wished)
        if verdict is Verdict.TRY_AGAIN:
            if again < job.give_up_at:
                self._push(job, again if delay or job.wished else 0.0)
                return
            verdict = Verdict.UNCONFIRMED
        try:
            job.done(verdict, detail)
        except Exception as error:  # noqa: BLE001 - a defect there must not end the lane
            from onward.logs import runtime

            runtime.error("Onward failed after a checkpoint", exc_info=error)

    def _note_old_server(self) -> None:
        """404: nothing is there that takes checkpoints. From now on each step is a call."""
        if self.too_old:
            return
        self.too_old = True
        from onward.logs import runtime

        runtime.warning(
            "The orchestrator at %s takes no checkpoints (404). Onward answers call by call from"
            " now on, which is slower. Checkpoints need an Inngest server of version %s or later;"
            " if it is one, check INNGEST_API_BASE_URL.",
            self._base_url,
            MINIMUM_SERVER,
        )


def _until(give_up_at: float | None) -> float:
    """When the last try may begin."""
    budget = time.monotonic() + RETRY_BUDGET
    return budget if give_up_at is None else min(give_up_at, budget)


def retry_after(header: str | None) -> float:
    """Seconds that a `Retry-After` header asks to wait (RFC 9110, 10.2.3); 0 if it does not."""
    wished = (header or "").strip()
    if wished.isascii() and wished.isdecimal():
        return float(wished)
    if not wished:
        return 0.0
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(wished).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def smoothed(old: float, new: float) -> float:
    """A round trip from the ones before and the last one."""
    return 0.8 * old + 0.2 * new if old else new


class Post:
    """A keep-alive connection and its requests. `spent`: how long the last took, in seconds."""

    def __init__(self, base_url: str, keys: Keys, headers: Mapping[str, str]) -> None:
        self._base_url = base_url
        self._keys = keys
        self._headers = {**headers, "content-type": "application/json"}
        self._connection: HTTPConnection | None = None
        self._prefix = ""
        self.spent = 0.0

    def attempt(self, job: _Job) -> tuple[int | None, str, str | None]:
        """One try: its status (None: no answer), the answer's text, and the key it used.

        The text of a refusal names the status.
        """
        key = self._keys.authorization()
        fields = dict(self._headers)
        if key is not None:
            fields["authorization"] = key
        reused, job.wished = self._connection is not None, 0.0
        begun = time.monotonic()
        try:
            status, text = self._post(job, fields)
        except Exception as error:  # noqa: BLE001 - whatever the network does, the verdict is the same
            self.drop()
            if reused and time.monotonic() < job.give_up_at:
                return self.attempt(job)
            return None, f"{type(error).__name__}: {error}"[:DETAIL_LENGTH], key
        self.spent = time.monotonic() - begun
        refused = status >= 300  # noqa: PLR2004 - not confirmed
        return status, f"status {status}: {text}"[:DETAIL_LENGTH] if refused else text, key

    def _post(self, job: _Job, fields: dict[str, str]) -> tuple[int, str]:
        left = max(job.give_up_at - time.monotonic(), 0.05)
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        connection.timeout = min(TRY_TIMEOUT, left)
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
        method = "GET" if job.body is None else "POST"
        connection.request(method, self._prefix + job.path, job.body, fields)
        answer = connection.getresponse()
        job.wished = retry_after(answer.headers.get("retry-after"))
        text = answer.read().decode("utf-8", "replace")
        if answer.will_close:
            self.drop()
        return answer.status, text

    def _connect(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection
        from urllib.parse import urlsplit

        from onward.transport.proxies import authorization_of, proxy_for

        url = urlsplit(self._base_url)
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        self._prefix = url.path.rstrip("/")
        host = url.hostname or ""
        proxy = None if is_loopback(host) else proxy_for(url.scheme, host)
        if proxy is None:
            return kind(host, url.port, timeout=TRY_TIMEOUT)
        through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = kind(through.hostname or "", through.port, timeout=TRY_TIMEOUT)
        connection.set_tunnel(host, url.port, authorization_of(through))
        return connection

    def drop(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
