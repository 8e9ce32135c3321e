"""Event ids made from a seed: a request that is sent again makes the same ones."""

from __future__ import annotations

import binascii
from base64 import b64decode

from onward_server.identifiers import encode_ulid

_ENTROPY_BYTES = 10
_WORD = 1 << 32
#: As many digits as the 48 bits of time in a ULID have.
_MOST_DIGITS = 15


def seeded_ids(seed: str | None, count: int) -> list[str] | None:
    """The internal ids of `count` events of one request; None for no seed, or a malformed one.

    The header `x-inngest-event-id-seed` holds milliseconds since the epoch, a comma, and ten bytes
    in base 64; the n-th event, from 1, adds n to their last four (inngest, pkg/event/id.go).
    """
    milliseconds, _, entropy = (seed or "").partition(",")
    if not milliseconds.isdecimal() or not milliseconds.isascii():
        return None
    if len(milliseconds) > _MOST_DIGITS or not int(milliseconds):
        return None
    try:
        randomness = b64decode(entropy, validate=True)
    except binascii.Error:
        return None
    if len(randomness) != _ENTROPY_BYTES:
        return None
    high, low = divmod(int.from_bytes(randomness, "big"), _WORD)
    return [
        encode_ulid(int(milliseconds), high * _WORD + (low + number) % _WORD)
        for number in range(1, count + 1)
    ]
