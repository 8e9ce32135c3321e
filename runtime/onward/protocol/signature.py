"""Request signatures and bearer tokens (SDK specification, 4.1; details as recorded)."""

from __future__ import annotations

import hmac
from hashlib import sha256

#: How old, or how far ahead, a signature may be, in seconds (SDK specification, 4.1.3).
TOLERANCE = 300

#: A timestamp in seconds has no more digits for the next thirty thousand years.
MOST_DIGITS = 12


def _split(key: str) -> tuple[str, str]:
    """The `signkey-…-` prefix of a signing key, and the rest."""
    parts = key.split("-", 2)
    if len(parts) == 3 and parts[0] == "signkey":  # noqa: PLR2004 - the two parts of the prefix
        return f"{parts[0]}-{parts[1]}-", parts[2]
    return "", key


def bearer_token(key: str) -> str:
    """The token for a signing key: the prefix, and SHA-256 of the hex-decoded rest."""
    prefix, rest = _split(key)
    try:
        raw = bytes.fromhex(rest)
    except ValueError:
        raw = rest.encode()
    return prefix + sha256(raw).hexdigest()


def sign(body: bytes, key: str, timestamp: int) -> str:
    """The value of the signature header. `timestamp` in seconds since the epoch."""
    secret = _split(key)[1].encode()
    digest = hmac.new(secret, body + str(timestamp).encode(), sha256).hexdigest()
    return f"t={timestamp}&s={digest}"


def verify(body: bytes, header: str, key: str, *, now: float) -> bool:
    """Whether `header` signs `body` with `key` within five minutes of `now` (epoch seconds)."""
    fields = dict(part.partition("=")[::2] for part in header.split("&"))
    stamp = fields.get("t", "")
    if not stamp.isascii() or not stamp.isdigit() or len(stamp) > MOST_DIGITS:
        return False
    if abs(now - int(stamp)) > TOLERANCE:
        return False
    expected = sign(body, key, int(stamp)).partition("&s=")[2]
    return hmac.compare_digest(expected.encode(), fields.get("s", "").encode())
