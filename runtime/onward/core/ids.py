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
