"""Ids that the orchestrator gives: ULIDs, job ids, queue item references, function ids."""

from __future__ import annotations

import base64
import secrets
import threading
import time
import uuid

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://onward.invalid/")


def encode_ulid(milliseconds: int, randomness: int) -> str:
    """The 26 characters of a ULID: 48 bits of time, 80 of randomness (ULID specification)."""
    value = (milliseconds & ((1 << 48) - 1)) << 80 | randomness & ((1 << 80) - 1)
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


class UlidSource:
    """ULIDs that grow: two of one millisecond differ by one (ULID specification, monotonicity)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = 0
        self._randomness = 0

    def __call__(self) -> str:
        """A new one."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._last_ms:
                self._last_ms, self._randomness = now, secrets.randbits(79)
            else:
                self._randomness += 1
            return encode_ulid(self._last_ms, self._randomness)


def new_job_id() -> str:
    """A job id as the recorded server makes them: a 64-bit number in base 36."""
    number, digits = secrets.randbits(64), []
    while number:
        number, digit = divmod(number, 36)
        digits.append(_BASE36[digit])
    return "".join(reversed(digits)) or "0"


def queue_item_ref(job_id: str) -> str:
    """The `qi_id` of a job: base 64 of `JOB::default` (recorded)."""
    return base64.b64encode(f"{job_id}::default".encode()).decode()


def stable_uuid(kind: str, name: str) -> str:
    """The UUID of the `kind` ("function", "app") called `name`: the same on every machine."""
    return str(uuid.uuid5(_NAMESPACE, f"{kind}:{name}"))


def new_traceparent() -> str:
    """A W3C trace context header (version 00, sampled)."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
