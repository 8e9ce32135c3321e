"""Large payloads are kept in a store; the orchestrator keeps references to them."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeGuard

from onward.core.values import decode, encode
from onward.errors import ConfigurationError, OffloadError
from onward.middleware.base import Call, Middleware, Outcome
from onward.middleware.stores import Store

if TYPE_CHECKING:
    from onward.context import InboundEvent
    from onward.middleware.encryption import EncryptionMiddleware

#: Marks a reference; its value is the format's version.
MARKER = "__ONWARD_OFFLOADED__"

VERSION = 1

#: Keys that a reference may name: no other file or object can be asked for by one.
_KEY = re.compile(r"(?:runs/[\w-]+/[\w-]+|events)/([0-9a-f]{64})\.json", re.ASCII)

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "KIB": 2**10, "MIB": 2**20}


class OffloadMiddleware(Middleware):
    """Keeps what is larger than `threshold` in `store`, and gives the orchestrator a reference.

    Put it before an `EncryptionMiddleware`, so that what is stored is encrypted; in the other order
    it encrypts objects itself, with that middleware's key. Objects are never deleted: give the
    store a lifecycle rule that outlasts your longest run. A key holds the SHA-256 of its object,
    which is checked: what a retry finds was not overwritten by another try.

    Args:
        store: `S3Store(bucket, prefix)`, `DirectoryStore(path)`, or a `Store` of your own.
        threshold: Bytes as JSON, or text such as `"256KB"` (1,000 bytes a KB, 1,024 a KiB).
        results: Whether functions' own results are offloaded too. Whoever reads one without this
            middleware gets the reference.
        events: Whether events' data is offloaded too. The orchestrator's expressions (`if_`, keys)
            do not see what is inside, nor do functions without this middleware.

    Raises ConfigurationError.
    """

    waits = True
    reversible = True

    def __init__(
        self,
        store: Store,
        threshold: int | str = "256KB",
        *,
        results: bool = True,
        events: bool = True,
    ) -> None:
        if not isinstance(store, Store):
            raise ConfigurationError(
                f"The store of the OffloadMiddleware is {store!r}. Give S3Store(…),"
                " DirectoryStore(…), or an instance of a subclass of onward.middleware.Store."
            )
        self.store = store
        self.threshold = _size(threshold)
        self.results = results
        self.events = events

    # ------------------------------------------------------------------ out

    def transform_output(self, call: Call, outcome: Outcome) -> Outcome:
        """Offload a large result."""
        if outcome.error is not None or (outcome.step is None and not self.results):
            return outcome
        if not self._leaves(outcome.text):
            return outcome
        step = outcome.step
        owner = step.hashed_id if step is not None else "result"
        name = step.id if step is not None else ""
        return outcome.with_data(self._put(call, f"runs/{call.run_id}/{owner}", outcome.text, name))

    def before_send_events(
        self, call: Call, events: tuple[dict[str, Any], ...]
    ) -> tuple[dict[str, Any], ...]:
        """Offload the data of large events."""
        if not self.events:
            return events
        going = []
        for event in events:
            text = encode(event.get("data"))
            if self._leaves(text):
                event = {**event, "data": self._put(call, "events", text, "")}  # noqa: PLW2901
            going.append(event)
        return tuple(going)

    def _leaves(self, text: str) -> bool:
        """Whether JSON is stored: what is large, and what would be taken for a reference."""
        if len(text) > self.threshold:
            return True
        return MARKER in text and _is_reference(decode(text))

    def _put(self, call: Call, folder: str, text: str, step: str) -> dict[str, Any]:
        sealing = self._sealing(call)
        body = text.encode() if sealing is None else encode(sealing.seal(text)).encode()
        digest = sha256(body).hexdigest()
        key = f"{folder}/{digest}.json"
        self.store.put(key, body)
        return {MARKER: VERSION, "key": key, "size": len(body), "sha256": digest, "step": step}

    def _sealing(self, call: Call) -> EncryptionMiddleware | None:
        """What encrypts after this, and so would encrypt the reference alone."""
        outer = call.middleware[: call.middleware.index(self)]
        ready = [m for m in outer if hasattr(m, "seal") and not getattr(m, "decrypt_only", False)]
        return ready[-1] if ready else None  # type: ignore[return-value]  # by what it can do

    # ------------------------------------------------------------------ in

    def transform_recorded(self, call: Call, outcome: Outcome) -> Outcome:
        """Read back a result."""
        if outcome.error is not None or not _is_reference(outcome.data):
            return outcome
        return outcome.with_data(self._get(call, outcome.data))

    def transform_event(self, call: Call, event: InboundEvent) -> InboundEvent:
        """Read back an event's data; what the orchestrator added to it stays."""
        data = event.data
        if not _is_reference(data):
            return event
        whole = self._get(call, data)
        added = {name: value for name, value in data.items() if name not in _FIELDS}
        return replace(event, data={**added, **whole} if isinstance(whole, dict) else whole)

    def _get(self, call: Call, reference: dict[str, Any]) -> Any:
        what = f"the result of step {reference['step']!r}" if reference.get("step") else "the data"
        if reference[MARKER] != VERSION:
            raise OffloadError(
                f"The reference to {what} has the format {reference[MARKER]!r}, and this version of"
                f" Onward knows {VERSION}. Deploy the version that wrote it, or a newer one."
            )
        key = reference.get("key")
        match = _KEY.fullmatch(key) if isinstance(key, str) else None
        if match is None or match[1] != reference.get("sha256"):
            raise OffloadError(f"The reference to {what} names {key!r}, which is no object's key.")
        body = self.store.get(match[0])
        if body is None:
            raise OffloadError(
                f"{_capital(what)} was offloaded to {key} in {self.store}, where there is no such"
                " object. Was it deleted before the run ended (a lifecycle rule), or has this"
                " process another bucket, prefix or directory than the one that wrote it? Restore"
                " it, or cancel the run."
            )
        if sha256(body).hexdigest() != match[1]:
            raise OffloadError(
                f"{_capital(what)} was offloaded to {key} in {self.store}, and the object there is"
                f" not what was written ({len(body):,} bytes instead of {reference.get('size')}, or"
                " other ones). Restore it, or cancel the run."
            )
        value = decode(body.decode())
        for item in call.middleware:
            if hasattr(item, "unseal") and call.middleware.index(self) > call.middleware.index(
                item
            ):
                value = item.unseal(value)
        return value


_FIELDS = frozenset({MARKER, "key", "size", "sha256", "step"})


def _is_reference(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and MARKER in value


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _size(value: object) -> int:
    """`value` in bytes. Raises ConfigurationError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = re.fullmatch(r"(\d+)\s*([KM]?I?B?)", value.upper()) if isinstance(value, str) else None
    if match is None or match[2] not in _UNITS:
        raise ConfigurationError(
            f"The threshold of the OffloadMiddleware is {value!r}. Write bytes, or text such as"
            " '256KB' or '1MiB'."
        )
    return int(match[1]) * _UNITS[match[2]]
