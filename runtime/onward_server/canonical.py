"""Canonical JSON (RFC 8785): what an Inngest server sends and signs, and what SDKs make again.

The published SDKs verify a signature over the canonical form of what they have parsed, not over
what came. So whatever is signed must be canonical already.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from json.encoder import encode_basestring
from math import isfinite
from typing import Any

_HALVES = re.compile("[\ud800-\udfff]")
#: Outside of these powers of ten a number is written with an exponent (RFC 8785, 3.2.2.3).
_LARGEST, _SMALLEST = 21, -6


def canonical(body: bytes) -> bytes:
    """The JSON text `body` in canonical form, in UTF-8.

    Whole numbers keep all their digits, where RFC 8785 would round those beyond 2**53: an Onward
    app reads them exactly. Raises ValueError for what is no JSON.
    """
    return _HALVES.sub(_escaped, _text(json.loads(body))).encode()


def _escaped(half: re.Match[str]) -> str:
    """Half of a character, which UTF-8 cannot hold."""
    return f"\\u{ord(half[0]):04x}"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, dict):
        keys = sorted(value, key=_units)
        return "{" + ",".join(f"{encode_basestring(k)}:{_text(value[k])}" for k in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    return json.dumps(value)


def _units(key: str) -> bytes:
    """Keys are in the order of their UTF-16 units."""
    return key.encode("utf-16-be", "surrogatepass")


def _number(value: float) -> str:
    """A number as ECMAScript writes it: the shortest digits that read as the same number."""
    if not isfinite(value):
        raise ValueError(f"{value} is no number in JSON")
    if value == 0:
        return "0"
    parts = Decimal(repr(value)).normalize().as_tuple()
    digits = "".join(map(str, parts.digits))
    point = len(digits) + int(parts.exponent)
    if len(digits) <= point <= _LARGEST:
        text = digits + "0" * (point - len(digits))
    elif 0 < point <= _LARGEST:
        text = f"{digits[:point]}.{digits[point:]}"
    elif _SMALLEST < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{rest}e{point - 1:+d}"
    return f"-{text}" if parts.sign else text
