"""Step ids and their hashes."""

from __future__ import annotations

from hashlib import sha1

#: The id of the op that completes a run: what the TypeScript SDK sends (recorded).
RUN_COMPLETE_ID = "0737c22d3bfae812339732d14d8c7dbd6dc4e09c"

#: The step id of a call request that targets no step in particular.
NO_TARGET = "step"


def hash_id(text: str) -> str:
    """SHA-1 of `text` in hexadecimal: a step's id on the wire (SDK specification, 5.1.2)."""
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


def hash_step(user_id: str, index: int) -> str:
    """The wire id of the repeat `index` (from 0) of the step that the user calls `user_id`."""
    return hash_id(f"{user_id}:{index}" if index else user_id)


def continuation_id(request_id: str) -> str:
    """The id of a continuation. It differs for every call request: a repeated one hangs a run."""
    return hash_id(f"onward:continue:{request_id}")


def event_seed(run_id: str, step_hash: str, first: int) -> str:
    """What the ids of events that a step sends are made from: the same for every try of it.

    Milliseconds since the epoch, a comma, and ten bytes in base 64 (inngest, pkg/event/id.go). The
    time is that of the run's own id, a ULID; `first` tells the step's requests apart.
    """
    from binascii import b2a_base64

    bytes_ = sha1(f"{run_id}:{step_hash}:{first}".encode(), usedforsecurity=False).digest()
    entropy = b2a_base64(bytes_[:10], newline=False).decode()
    return f"{_ulid_ms(run_id)},{entropy}"


_BASE_32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def _ulid_ms(ulid: str) -> int:
    """The milliseconds since the epoch in a ULID; 1 for what is none."""
    digits = [_BASE_32.find(letter) for letter in ulid[:10].upper()]
    if len(ulid) != 26 or min(digits) < 0:  # noqa: PLR2004 - the length of a ULID
        return 1
    ms = 0
    for digit in digits:
        ms = ms * 32 + digit
    return ms or 1
