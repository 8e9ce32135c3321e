"""Canonical JSON, with the examples of RFC 8785."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward_server.canonical import canonical

#: RFC 8785, appendix B: the bits of a double, and its text.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "becbf647612f3696": "-0.0000033333333333333333",
}


@pytest.mark.parametrize("bits", NUMBERS)
def test_numbers_are_those_of_the_rfc(bits: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(json.dumps([number]).encode()) == f"[{NUMBERS[bits]}]".encode()


def test_keys_strings_and_literals_are_those_of_the_rfc() -> None:
    body = rb"""{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }"""
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(body).decode() == expected


def test_keys_are_in_the_order_of_their_utf_16_units() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "ö"]
    ordered = list(json.loads(canonical(json.dumps(dict.fromkeys(keys)).encode())))
    assert ordered == ["\r", "1", "\x80", "ö", "\u20ac", "\U0001f600", "\ufb33"]


def test_large_whole_numbers_and_halves_of_characters_are_kept() -> None:
    assert canonical(b"[12345678901234567891]") == b"[12345678901234567891]"
    assert canonical(b'["\\uDEAD"]') == b'["\\udead"]'


def as_ecmascript(value: object) -> object:
    """Numbers as what they are there: doubles."""
    if isinstance(value, dict):
        return {key: as_ecmascript(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(as_ecmascript, value))
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64) | DOUBLES | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@given(VALUES)
def test_it_says_the_same_and_is_its_own_canonical_form(value: object) -> None:
    text = canonical(json.dumps(value).encode())
    assert as_ecmascript(json.loads(text)) == as_ecmascript(value)
    assert canonical(text) == text
