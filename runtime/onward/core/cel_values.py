"""CEL's values and what its operators and functions do with them.

The values are JSON's, as Python has them, with `bytes` and `Uint` beside them. Operators on two
kinds of number compare by value and calculate only within one kind, as the language defines.
https://github.com/google/cel-spec/blob/master/doc/langdef.md#list-of-standard-definitions
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from onward.core.cel_tokens import Uint

_LONG = 1 << 63
#: Below 10 to this power, Go writes a double with an exponent.
_LEAST_EXPONENT = -4
_NUMBERS = frozenset({"int", "uint", "double"})
_ORDERED = frozenset({"bool", "string", "bytes"})
_KINDS: dict[type, str] = {
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null",
    list: "list",
    tuple: "list",
    dict: "map",
}


class Problem(Exception):  # noqa: N818 - an evaluation's own way out; it never leaves the package
    """An expression has no value: a missing field, a type that does not fit, an overflow."""


def kind(value: object) -> str:
    """CEL's name for a value's type. Raises Problem for what is not JSON."""
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    if isinstance(value, Mapping):
        return "map"
    raise Problem(f"a {type(value).__name__} is no value of the language")


def equal(left: Any, right: Any) -> bool:
    """CEL's `==`: numbers by value, containers by element, different kinds never."""
    first, second = kind(left), kind(right)
    if first in _NUMBERS and second in _NUMBERS:
        return bool(left == right)
    if first != second:
        return False
    if first == "list":
        return len(left) == len(right) and all(map(equal, left, right))
    if first == "map":
        return len(left) == len(right) and all(
            key in right and equal(value, right[key]) for key, value in left.items()
        )
    return bool(left == right)


def _comparison(holds: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        first, second = kind(left), kind(right)
        if (first in _NUMBERS and second in _NUMBERS) or (first == second and first in _ORDERED):
            return bool(holds(left, right))
        return _no("ordering", left, right)

    return compare


def _no(what: str, *values: Any) -> NoReturn:
    raise Problem(f"there is no {what} of " + " and ".join(map(kind, values)))


def _whole(value: int, like: str) -> int:
    if like == "uint":
        if not 0 <= value < 2 * _LONG:
            raise Problem("an unsigned number leaves its 64 bits")
        return Uint(value)
    if not -_LONG <= value < _LONG:
        raise Problem("a number leaves its 64 bits")
    return value


def _one_kind(what: str, left: Any, right: Any, *allowed: str) -> str:
    first = kind(left)
    if first != kind(right) or first not in allowed:
        _no(what, left, right)
    return first


def _add(left: Any, right: Any) -> Any:
    like = _one_kind("sum", left, right, "int", "uint", "double", "string", "bytes", "list")
    if like == "list":
        return [*left, *right]
    return _whole(int(left) + int(right), like) if like in {"int", "uint"} else left + right


def _subtract(left: Any, right: Any) -> Any:
    like = _one_kind("difference", left, right, "int", "uint", "double")
    return left - right if like == "double" else _whole(int(left) - int(right), like)


def _multiply(left: Any, right: Any) -> Any:
    like = _one_kind("product", left, right, "int", "uint", "double")
    return left * right if like == "double" else _whole(int(left) * int(right), like)


def _quotient(left: int, right: int) -> int:
    if right == 0:
        raise Problem("a division by zero")
    size = abs(left) // abs(right)
    return size if (left < 0) == (right < 0) else -size


def _divide(left: Any, right: Any) -> Any:
    like = _one_kind("quotient", left, right, "int", "uint", "double")
    if like != "double":
        return _whole(_quotient(int(left), int(right)), like)
    if right == 0:
        sign = math.copysign(1.0, left) * math.copysign(1.0, right)
        return math.nan if left == 0 or math.isnan(left) else sign * math.inf
    return left / right


def _modulo(left: Any, right: Any) -> Any:
    like = _one_kind("remainder", left, right, "int", "uint")
    return _whole(int(left) - int(right) * _quotient(int(left), int(right)), like)


def _not(value: Any) -> bool:
    if not isinstance(value, bool):
        _no("negation", value)
    return not value


def _negate(value: Any) -> Any:
    if kind(value) not in {"int", "double"}:
        _no("negative", value)
    return -value if isinstance(value, float) else _whole(-value, "int")


def _contains(item: Any, container: Any) -> bool:
    found = kind(container)
    if found == "list":
        return any(equal(item, element) for element in container)
    if found == "map":
        return key_of(item) in container
    return _no("membership", item, container)


def key_of(value: Any) -> Any:
    """A value as a map's key. Raises Problem for what is none."""
    found = kind(value)
    if found == "double" and value.is_integer():
        return int(value)
    if found not in {"string", "int", "uint", "bool"}:
        _no("map key", value)
    return value


def index(container: Any, key: Any) -> Any:
    """`container[key]`. Raises Problem where nothing is."""
    found = kind(container)
    if found == "map":
        wanted = key_of(key)
        if wanted in container:
            return container[wanted]
        raise Problem(f"there is no key {key!r}")
    if found == "list" and kind(key) in _NUMBERS:
        if key == int(key) and 0 <= key < len(container):
            return container[int(key)]
        raise Problem(f"there is no element {key!r} in a list of {len(container)}")
    return _no("index", container, key)


def _size(value: Any) -> int:
    if kind(value) not in {"string", "bytes", "list", "map"}:
        _no("size", value)
    return len(value)


def _to_whole(value: Any, like: str) -> int:
    match kind(value):
        case "int" | "uint":
            return _whole(int(value), like)
        case "double" if math.isfinite(value):
            return _whole(int(value), like)
        case "string" if value.removeprefix("-").isdecimal() and value.isascii():
            return _whole(int(value), like)
    return _no(like, value)


def _to_double(value: Any) -> float:
    if kind(value) in _NUMBERS:
        return float(value)
    if isinstance(value, str) and value == value.strip() and "_" not in value:
        try:
            return float(value)
        except ValueError:
            pass
    return _no("double", value)


_TRUTHS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in _TRUTHS:
        return _TRUTHS[value]
    return _no("bool", value)


def _to_text(value: Any) -> str:
    match kind(value):
        case "string":
            return str(value)
        case "bytes":
            try:
                return bytes(value).decode()
            except UnicodeDecodeError as error:
                raise Problem("the bytes are not UTF-8") from error
        case "bool":
            return "true" if value else "false"
        case "int" | "uint":
            return str(int(value))
        case "double":
            return number_text(value)
    return _no("string", value)


def number_text(value: float, most: int = 21) -> str:
    """A double as Go writes it: the shortest digits, with an exponent from `10 ** most` on."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, part = mantissa.partition(".")
    point = len(whole) + int(power or 0)  # how many digits stand before the decimal point
    digits = (whole + part).lstrip("0")
    point -= len(whole + part) - len(digits)
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0"
    if not _LEAST_EXPONENT <= point - 1 < most:
        tail = f".{digits[1:]}" if digits[1:] else ""
        return f"{sign}{digits[0]}{tail}e{'-' if point < 1 else '+'}{abs(point - 1):02d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    padded = digits.ljust(point, "0")
    return sign + padded[:point] + (f".{padded[point:]}" if padded[point:] else "")


def any_text(value: Any) -> str:
    """A value in a text, as the Inngest server joins values of different kinds with `+`."""
    match kind(value):
        case "null":
            return "NULL_VALUE"
        case "double":
            return number_text(value)
        case "list":
            return "[" + " ".join(map(any_text, value)) + "]"
        case "map":
            return "map[" + " ".join(f"{k}:{any_text(value[k])}" for k in sorted(value)) + "]"
    return _to_text(value)


def _text_test(test: Callable[[str, str], bool], what: str) -> Callable[[Any, Any], bool]:
    def check(text: Any, other: Any) -> bool:
        if not isinstance(text, str) or not isinstance(other, str):
            _no(what, text, other)
        return test(text, other)

    return check


def _matches(text: str, pattern: str) -> bool:
    from onward.core.cel_patterns import search

    return search(text, pattern)


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else _no("bytes", value)


def _cased(change: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: change(value) if isinstance(value, str) else ""


def _decoded(value: Any) -> str:
    import binascii

    try:
        return binascii.a2b_base64(value, strict_mode=True).decode() if value else ""
    except (TypeError, ValueError):
        return ""


def _from_json(value: Any) -> Any:
    import json

    try:
        parsed = json.loads(value)
    except (TypeError, ValueError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


_startswith = _text_test(str.startswith, "start")
_endswith = _text_test(str.endswith, "end")
_includes = _text_test(lambda text, other: other in text, "containment")
_fits = _text_test(_matches, "match")

#: What operators and functions do, by name, with the number of their arguments.
FUNCTIONS: dict[tuple[str, int], Callable[..., Any]] = {
    ("==", 2): equal,
    ("!=", 2): lambda left, right: not equal(left, right),
    ("<", 2): _comparison(lambda left, right: left < right),
    ("<=", 2): _comparison(lambda left, right: left <= right),
    (">", 2): _comparison(lambda left, right: left > right),
    (">=", 2): _comparison(lambda left, right: left >= right),
    ("in", 2): _contains,
    ("+", 2): _add,
    ("-", 2): _subtract,
    ("*", 2): _multiply,
    ("/", 2): _divide,
    ("%", 2): _modulo,
    ("!", 1): _not,
    ("-_", 1): _negate,
    ("size", 1): _size,
    ("int", 1): lambda value: _to_whole(value, "int"),
    ("uint", 1): lambda value: _to_whole(value, "uint"),
    ("double", 1): _to_double,
    ("string", 1): _to_text,
    ("bool", 1): _to_bool,
    ("bytes", 1): _to_bytes,
    ("dyn", 1): lambda value: value,
    ("matches", 2): _fits,
    # Of the Inngest server's own.
    ("lowercase", 1): _cased(str.lower),
    ("uppercase", 1): _cased(str.upper),
    ("b64decode", 1): _decoded,
    ("json_parse", 1): _from_json,
}

#: What can be called on a value, as in `text.contains('a')`; the target counts as an argument.
METHODS: dict[tuple[str, int], Callable[..., Any]] = {
    ("size", 1): _size,
    ("contains", 2): _includes,
    ("startsWith", 2): _startswith,
    ("endsWith", 2): _endswith,
    ("matches", 2): _fits,
}


def apply(
    table: Mapping[tuple[str, int], Callable[..., Any]], name: str, values: Sequence[Any]
) -> Any:
    """The function's value. Raises Problem where it has none."""
    function = table.get((name, len(values)))
    if function is None:
        raise Problem(f"there is no function {name}() of {len(values)} arguments")
    return function(*values)
