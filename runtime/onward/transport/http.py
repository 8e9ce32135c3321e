"""Requests other than checkpoints, by httpx: trimmed journals, events, runs, registration.

What is asked, and what follows from an answer, is decided by plans: generators that yield an `Ask`
and are sent its `Reply`, or yield a `Pause` or `Work`. `perform` carries one out on this thread.
`perform_async` does so for an event loop: what blocks is done on threads of Onward's, so nothing is
bound to a loop.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast
from urllib.parse import quote, urlsplit

from onward.errors import (
    BlockingCallError,
    JournalFetchError,
    OnwardError,
    OrchestratorUnavailableError,
)
from onward.transport.channel import Keys, is_loopback
from onward.transport.proxies import proxy_for

if TYPE_CHECKING:
    import ssl
    from logging import LogRecord

    import httpx

_T = TypeVar("_T")

#: Seconds for one request.
TIMEOUT = 30.0

#: How often the parts of a trimmed journal are asked for.
JOURNAL_TRIES = 3

#: The longest that a `Retry-After` is waited for, in seconds.
LONGEST_WAIT = 30.0

#: How many addresses have connections that are kept.
_MOST_CLIENTS = 8

#: Seconds after which a request is not tried again, however often it was.
BUDGET = 60.0

#: Seconds before the first retry; they double with each.
_FIRST_DELAY = 0.1

_OK, _REDIRECT, _UNAUTHORIZED, _TOO_MANY, _SERVER_ERROR = 200, 300, 401, 429, 500


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `body` is JSON text; `keys` gives it a bearer token. `timeout` in seconds."""

    base_url: str
    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    keys: Keys | None = None
    timeout: float = TIMEOUT

    @property
    def told(self) -> str:
        """How messages name it."""
        return f"{self.method} {self.base_url}{self.hidden(self.path)}"

    def hidden(self, text: str) -> str:
        """`text` without the event key that the address may hold: messages end up in logs."""
        return text.replace(self.path, "/e/…") if self.path.startswith("/e/") else text


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `status` 0: nothing did, and `text` says why."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None

    @property
    def good(self) -> bool:
        """Whether it is a success."""
        return _OK <= self.status < _REDIRECT

    @property
    def may_pass(self) -> bool:
        """Whether asking again can help: no answer, 429, 5xx."""
        return self.status in {0, _TOO_MANY} or self.status >= _SERVER_ERROR

    def retry_after(self) -> float:
        """Seconds that the `Retry-After` header asks to wait; 0 without one."""
        wished = self.headers.get("retry-after", "").strip()
        if wished.isdecimal():
            return float(wished)
        if not wished:
            return 0.0
        from datetime import UTC, datetime
        from email.utils import parsedate_to_datetime

        try:
            until = parsedate_to_datetime(wished)
        except ValueError:
            return 0.0
        aware = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
        return max(0.0, (aware - datetime.now(UTC)).total_seconds())

    def json(self) -> Any:
        """The answer as JSON, None for an empty one. Raises ValueError."""
        return json.loads(self.text) if self.text else None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Do something that may block; `job`'s result is sent back."""

    job: Callable[[], Any]


Plan: TypeAlias = Generator[Ask | Pause | Work, Any, _T]


# ---------------------------------------------------------------------- plans


def asking(ask: Ask, *, tries: int = 1) -> Plan[Reply]:
    """The reply to `ask`, which is tried `tries` times while the reply says that it may help.

    A `Retry-After` of up to 30 seconds is kept. A 401 is tried with the fallback key, once. After a
    minute, no other try begins.
    """
    until = time.monotonic() + BUDGET
    for attempt in range(tries):
        reply = yield from _keyed(ask)
        if not reply.may_pass or attempt + 1 == tries or time.monotonic() > until:
            return reply
        wished = reply.retry_after()
        if wished > LONGEST_WAIT:
            return reply
        jitter = 0.5 + random.random()  # noqa: S311 - it only spreads retries
        yield Pause(max(_FIRST_DELAY * 2**attempt * jitter, wished))
    raise AssertionError


def _keyed(ask: Ask) -> Plan[Reply]:
    reply = yield from asked(ask)
    if ask.keys is None or reply.status != _UNAUTHORIZED or not ask.keys.fall_back(reply.key):
        return reply
    return (yield from asked(ask))


def asked(ask: Ask) -> Plan[Reply]:
    """The reply to `ask`, asked once."""
    reply: Reply = yield ask
    return reply


def answered(ask: Ask, *, tries: int = 1) -> Plan[Any]:
    """The JSON answer to `ask`. Raises what `refused` gives."""
    reply = yield from asking(ask, tries=tries)
    if not reply.good:
        raise refused(ask, reply)
    try:
        return reply.json()
    except ValueError as error:
        message = f"{ask.told} answered {reply.status} without JSON: {reply.text[:500]}"
        raise OnwardError(message) from error


def refused(ask: Ask, reply: Reply) -> OnwardError:
    """The error for a reply that is no success: OrchestratorUnavailableError if it may pass."""
    if not reply.status:
        message = f"{ask.told} got no answer ({reply.text}). Is the orchestrator running?"
        return OrchestratorUnavailableError(message)
    message = f"{ask.told} answered {reply.status}: {reply.text[:500]}"
    return (OrchestratorUnavailableError if reply.may_pass else OnwardError)(message)


# ---------------------------------------------------------------------- carrying them out


@dataclass(slots=True)
class _Kept:
    """A client and how many requests it is making."""

    client: httpx.Client
    users: int = 0
    retired: bool = False


class _Clients:
    """The connections of this process, by address; a forked child begins without any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str | None], _Kept] = {}
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._kept = {}

    @contextmanager
    def of(self, base_url: str) -> Iterator[httpx.Client]:
        """The client for `base_url`, which several threads may use at once."""
        url = urlsplit(base_url)
        host = url.hostname or ""
        proxy = None if is_loopback(host) else proxy_for(url.scheme, host)
        place = f"{url.scheme}://{url.netloc}", proxy
        with self._lock:
            kept = self._kept.pop(place, None) or _Kept(_client(proxy))
            self._kept[place] = kept  # the latest is the last
            kept.users += 1
            while len(self._kept) > _MOST_CLIENTS:
                self._retire(next(iter(self._kept)))
        try:
            yield kept.client
        finally:
            with self._lock:
                kept.users -= 1
                if kept.retired and not kept.users:
                    kept.client.close()

    def _retire(self, place: tuple[str, str | None]) -> None:
        kept = self._kept.pop(place)
        kept.retired = True
        if not kept.users:
            kept.client.close()

    def close(self) -> None:
        """Close the connections; the next request opens another."""
        with self._lock:
            for place in list(self._kept):
                self._retire(place)


def _client(proxy: str | None) -> httpx.Client:
    import logging

    import httpx

    logging.getLogger("httpx").addFilter(_without_key)
    through = proxy if proxy is None or "://" in proxy else f"http://{proxy}"
    return httpx.Client(timeout=TIMEOUT, proxy=through, trust_env=False, verify=_trusted())


_asking = threading.local()


def _without_key(record: LogRecord) -> bool:
    """For httpx's logger, which writes the whole address of each request."""
    ask: Ask | None = getattr(_asking, "now", None)
    if ask is not None and isinstance(record.args, tuple):
        told = ((arg, ask.hidden(str(arg))) for arg in record.args)
        record.args = tuple(arg if text == str(arg) else text for arg, text in told)
    return True


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    """The authorities that are trusted: `SSL_CERT_FILE` and `SSL_CERT_DIR` go before httpx's."""
    import httpx

    return httpx.create_ssl_context()


clients = _Clients()


def perform(plan: Plan[_T]) -> _T:
    """Carry out `plan` on this thread."""
    reply: Any = None
    while True:
        try:
            action = plan.send(reply)
        except StopIteration as done:
            return cast("_T", done.value)
        if isinstance(action, Pause):
            time.sleep(action.seconds)
            reply = None
        elif isinstance(action, Work):
            reply = action.job()
        else:
            reply = exchange(action)


def blocking(called: str, plan: Plan[_T]) -> _T:
    """Carry out `plan` on this thread, unless that would block an event loop.

    Raises BlockingCallError, naming the twin of `called`.
    """
    if _on_a_loop():
        plan.close()
        raise BlockingCallError(
            f"{called}() blocks, and this thread runs an event loop, which would stand still."
            f" Nothing was done. Write: await ….{called}_async(…)."
        )
    return perform(plan)


def _on_a_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001


async def perform_async(plan: Plan[_T]) -> _T:
    """Carry out `plan` without blocking the running event loop, whichever that is.

    Cancelling it lets go of a request under way, which may still be made, and makes no other.
    """
    import asyncio

    from onward.transport.lanes import lanes

    reply: Any = None
    while True:
        try:
            action = plan.send(reply)
        except StopIteration as done:
            return cast("_T", done.value)
        if isinstance(action, Pause):
            await asyncio.sleep(action.seconds)
            reply = None
        elif isinstance(action, Work):
            reply = await lanes.call(action.job)
        else:
            reply = await lanes.call(partial(exchange, action))


def exchange(ask: Ask) -> Reply:
    """Make one request."""
    import httpx

    key = ask.keys.authorization() if ask.keys is not None else None
    fields = {"authorization": key, **ask.headers} if key is not None else dict(ask.headers)
    if ask.body is not None:
        fields.setdefault("content-type", "application/json")
    _asking.now = ask
    try:
        with clients.of(ask.base_url) as client:
            url = f"{ask.base_url.rstrip('/')}{ask.path}"
            answer = client.request(
                ask.method, url, content=ask.body, headers=fields, timeout=ask.timeout
            )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Reply(0, ask.hidden(str(error)) or type(error).__name__, key=key)
    finally:
        del _asking.now
    return Reply(answer.status_code, ask.hidden(answer.text), answer.headers, key)


# ---------------------------------------------------------------------- for the runtime


def request(
    base_url: str, method: str, path: str, *, keys: Keys | None = None, body: object = None
) -> Any:
    """The JSON answer to one request.

    Raises OrchestratorUnavailableError for no answer, 429 or 5xx, and OnwardError for any other
    that is not 2xx.
    """
    content = None if body is None else json.dumps(body).encode()
    return perform(answered(Ask(base_url, method, path, content, keys=keys)))


def fetch_journal(
    base_url: str,
    run_id: str,
    keys: Keys | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> tuple[Mapping[str, Any], list[Any]]:
    """Steps and events of a run whose call request was too large to carry them.

    Raises JournalFetchError (SDK specification, 4.4.2).
    """
    path = f"/v0/runs/{quote(run_id, safe='')}"
    ask = Ask(base_url, "GET", path, headers=headers or {}, keys=keys)
    try:
        steps, events = (
            perform(answered(replace(ask, path=f"{path}/{part}"), tries=JOURNAL_TRIES))
            for part in ("actions", "batch")
        )
    except OnwardError as error:
        message = (
            f"The trimmed journal of run {run_id} could not be fetched: {error} Nothing was run."
        )
        raise JournalFetchError(message) from error
    steps = {} if steps is None else steps
    if not isinstance(steps, dict) or not _are_events(events):
        message = (
            f"The trimmed journal of run {run_id} is not what the protocol says: an object of steps"
            " and a list of events. Nothing was run."
        )
        raise JournalFetchError(message)
    return steps, events


def _are_events(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
