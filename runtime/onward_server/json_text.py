"""JSON as text: results are kept as they came and are never encoded twice."""

from __future__ import annotations

import json
from typing import Any, NoReturn

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode


class JsonError(ValueError):
    """A text is not JSON; the message is worded as the recorded server words it."""


def _constant(name: str) -> NoReturn:
    raise JsonError(f"invalid character {name[0]!r} looking for beginning of value")


def loads(text: bytes | str) -> Any:
    """The value of `text`. Raises JsonError; `NaN` and `Infinity` are not JSON."""
    try:
        return json.loads(text, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise JsonError(_explain(error)) from None
    except JsonError:
        raise
    except (ValueError, RecursionError) as error:  # no UTF-8, thousands of digits, too deep
        raise JsonError(f"invalid JSON: {error}") from None


def _explain(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc):
        return "unexpected end of JSON input"
    found = repr(error.doc[error.pos])
    if error.msg.startswith("Expecting property name"):
        return f"invalid character {found} looking for beginning of object key string"
    if error.msg == "Expecting value":
        return f"invalid character {found} looking for beginning of value"
    return f"invalid character {found} at position {error.pos}: {error.msg}"


def dumps(value: Any) -> str:
    """`value` as compact JSON text that can always be encoded as UTF-8."""
    text = _encode(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate: it only travels escaped
            return _encode_ascii(value)
    return text
