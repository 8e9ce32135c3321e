"""Results on their way through JSON: what user code sees on a first run is what a replay gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder as json_encoder
from math import inf, isfinite
from types import FunctionType, MethodType, NoneType
from typing import Any

from onward.errors import ResultError

Encode = Callable[[Any], str]
Check = Callable[[Any], bool]

_IMMUTABLE = frozenset({NoneType, bool, int, float, str})
_DEEPEST = 900
_SHOWN = 80


def _encoder() -> Encode:
    """Compact ASCII JSON: the length of its text is its size in bytes."""

    def refuse(value: object) -> None:
        raise TypeError(type(value).__name__)

    make = getattr(json_encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the accelerator
        return json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
    # What JSONEncoder.encode builds anew for each value. Cycles end in a RecursionError.
    sort_keys = skip_keys = allow_nan = False
    text_of = json_encoder.encode_basestring_ascii
    chunks = make(None, refuse, text_of, None, ":", ",", sort_keys, skip_keys, allow_nan)

    def encode(value: Any) -> str:
        return "".join(chunks(value, 0))

    return encode


encode: Encode = _encoder()
decode: Callable[[str], Any] = json.JSONDecoder().decode


class Codec:
    """How one body's results become JSON text and values again.

    This one, `PLAIN`, is for bodies that do not say what they return: the value is what JSON makes
    of it (a tuple becomes a list).
    """

    __slots__ = ()

    def prepare(self, where: str) -> None:
        """Raise the ResultError that any result would meet, before the body runs."""

    def settle(self, value: Any, where: str) -> tuple[str, Any]:
        """A result's JSON text, and the value as a replay will rebuild it.

        Args:
            value: What the body returned.
            where: Whose result it is, such as `"step 'charge'"`; errors begin with it.

        Returns:
            ASCII JSON text, so that its length is its size in bytes, and the rebuilt value.

        Raises:
            ResultError: JSON cannot hold the value, or would give back another one.
        """
        try:
            text = encode(value)
            escaped = "\\ud" in text  # how surrogates look, alone or in pairs
            if type(value) in _IMMUTABLE and not escaped:
                return text, value
            rebuilt = decode(text)
            damaged = escaped or rebuilt != value
        except (TypeError, ValueError, RecursionError):
            raise unserializable(value, where) from None
        if damaged:
            refuse_damage(value, where)
        return text, rebuilt

    def load(self, data: Any, where: str) -> Any:  # noqa: ARG002 - subclasses name it
        """The value of a memoized result, from its parsed JSON.

        Raises:
            ResultError: It is not what the body's annotation says, for example because the code
                has changed since the result was recorded.
        """
        return data


#: For bodies without a return annotation.
PLAIN = Codec()


class CheckedCodec(Codec):
    """For annotations that JSON itself can hold: nothing is converted, but it must be true."""

    __slots__ = ("_annotation", "_check")

    def __init__(self, annotation: Any, check: Check) -> None:
        self._annotation = annotation
        self._check = check

    def settle(self, value: Any, where: str) -> tuple[str, Any]:
        """See `Codec.settle`."""
        if not self._check(value):
            if isinstance(value, (list, tuple, dict)):
                _LazyCodec(self._annotation).settle(value, where)  # tells the path inside
            raise mismatch(where, self._annotation, f"the body returned {shown(value)}")
        return Codec.settle(self, value, where)

    def load(self, data: Any, where: str) -> Any:
        """See `Codec.load`."""
        if not self._check(data):
            raise not_rebuilt(data, where, self._annotation, "it is of another type")
        return data


class _LazyCodec(Codec):
    """For every other annotation. pydantic is imported when the first result needs it."""

    __slots__ = ("_annotation", "_inner")

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._inner: Codec | None = None

    def prepare(self, where: str) -> None:
        """See `Codec.prepare`."""
        self._real(where)

    def settle(self, value: Any, where: str) -> tuple[str, Any]:
        """See `Codec.settle`."""
        return (self._inner or self._real(where)).settle(value, where)

    def load(self, data: Any, where: str) -> Any:
        """See `Codec.load`."""
        return (self._inner or self._real(where)).load(data, where)

    def _real(self, where: str) -> Codec:
        if self._inner is None:
            from onward.core.typed_values import TypedCodec

            self._inner = TypedCodec(self._annotation, where)
        return self._inner


class BrokenCodec(Codec):
    """For an annotation that cannot be resolved: an error, never silently as if untyped."""

    __slots__ = ("_problem",)

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def prepare(self, where: str) -> None:
        """See `Codec.prepare`."""
        raise ResultError(f"{where}: {self._problem}")

    def settle(self, value: Any, where: str) -> tuple[str, Any]:  # noqa: ARG002
        """See `Codec.settle`."""
        raise ResultError(f"{where}: {self._problem}")

    def load(self, data: Any, where: str) -> Any:  # noqa: ARG002
        """See `Codec.load`."""
        raise ResultError(f"{where}: {self._problem}")


def codec_of(body: Callable[..., Any]) -> Codec:
    """The codec for what `body` returns, by its return annotation.

    `body` may be a function (async or not), a bound method, a `functools.partial`, a callable
    object, or a class, which stands for itself. The codec is kept for each underlying function.
    An annotation that cannot be resolved gives a codec whose every use raises ResultError.
    """
    function = body.__func__ if type(body) is MethodType else body
    if type(function) is FunctionType and not _is_annotated(function):
        return PLAIN
    from onward.core.annotations import codec_of_annotated

    return codec_of_annotated(body)


def codec_for(annotation: Any) -> Codec:
    """The codec for values of the type `annotation`, a resolved annotation (no text in it).

    Equal annotations share one codec. pydantic is not imported before the codec is used.
    """
    from onward.core.annotations import codec_for_annotation

    return codec_for_annotation(annotation)


def _is_annotated(function: FunctionType) -> bool:
    if hasattr(function, "__wrapped__"):
        return True
    try:
        return bool(function.__annotations__)
    except Exception:  # noqa: BLE001 - Python 3.14 evaluates them here; told later, with its place
        return True


def lazy_codec(annotation: Any) -> Codec:
    """A codec that pydantic will do."""
    return _LazyCodec(annotation)


def annotation_text(annotation: Any) -> str:
    """`annotation` as its author would write it."""
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)


def shown(value: Any) -> str:
    """`value` and its type, short enough for a message."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - any object may be broken; the message still has its type
        text = "…"
    if len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}…"
    return f"{text} ({type_name(value)})"


def type_name(value: Any) -> str:
    """The name of the type of `value`, with its module unless it is built in."""
    kind = type(value)
    if kind.__module__ in {"builtins", "__main__"}:
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def mismatch(where: str, annotation: Any, what: str) -> ResultError:
    """The error for a result that is not what the annotation promises; `what` says how."""
    return ResultError(
        f"{where}: {what}, so the result cannot be rebuilt from JSON as the body's return "
        f"annotation {annotation_text(annotation)} says. Return what the annotation promises, or "
        "correct the annotation; where several types have the same JSON, tell them apart by a "
        "field of their own."
    )


def not_rebuilt(data: Any, where: str, annotation: Any, why: str) -> ResultError:
    """The error for a memoized result that is not what the annotation says."""
    return ResultError(
        f"{where}: its recorded result {shown(data)} cannot be rebuilt as the body's return "
        f"annotation {annotation_text(annotation)} says: {why}. If the code has changed since "
        "this run started, let the annotation accept the old shape too, or give the step a new id."
    )


def refuse_damage(value: Any, where: str) -> None:
    """Raise ResultError if JSON would give back more than tuples turned into lists."""
    found = _first_problem(value, inf)
    if found:
        raise _impossible(where, *found)


def unserializable(value: Any, where: str) -> ResultError:
    """The error for a value that JSON cannot hold: the type, the path inside it, and the fix."""
    return _impossible(where, *(_first_problem(value, _DEEPEST) or ("result", value, _TOO_DEEP)))


def _impossible(where: str, path: str, item: Any, problem: str) -> ResultError:
    return ResultError(f"{where}: {path} is {shown(item)}, {problem}")


def _first_problem(value: Any, deepest: float) -> tuple[str, Any, str] | None:
    """What plain JSON cannot hold: where it is, what it is, and why with the fix."""
    stack: list[tuple[Any, _Place, int]] = [(value, _Place(None, "result"), 0)]
    while stack:
        item, place, depth = stack.pop()
        if depth > deepest:
            return str(place.top()), value, _TOO_DEEP
        if isinstance(item, dict):
            for key in item:
                problem = _key_problem(key)
                if problem:
                    return str(place), item, problem
            stack += [
                (inner, _Place(place, member(key)), depth + 1)
                for key, inner in reversed(item.items())
            ]
        elif isinstance(item, (list, tuple)):
            stack += [
                (item[n], _Place(place, f"[{n}]"), depth + 1) for n in reversed(range(len(item)))
            ]
        else:
            problem = _leaf_problem(item)
            if problem:
                return str(place), item, problem
    return None


class _Place:
    """A path inside a value, put together only when it is told."""

    __slots__ = ("parent", "part")

    def __init__(self, parent: _Place | None, part: str) -> None:
        self.parent = parent
        self.part = part

    def top(self) -> _Place:
        place = self
        while place.parent is not None:
            place = place.parent
        return place

    def __str__(self) -> str:
        parts = []
        place: _Place | None = self
        while place is not None:
            parts.append(place.part)
            place = place.parent
        return "".join(reversed(parts))


def _leaf_problem(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _SURROGATES if _has_surrogates(value) else None
    if isinstance(value, float):
        return None if isfinite(value) else _NOT_FINITE
    if isinstance(value, int):
        try:
            int.__repr__(value)
        except ValueError:  # over sys.get_int_max_str_digits()
            return _TOO_MANY_DIGITS
        return None
    return f"which JSON cannot hold. {_FIX_TYPE}"


def _key_problem(key: Any) -> str | None:
    if not isinstance(key, str):
        return (
            f"which has the key {shown(key)}, and JSON keys are strings. Make it a string, or "
            "annotate the body's return type, for example dict[int, str]."
        )
    return f"which has the key {key!r}, {_SURROGATES}" if _has_surrogates(key) else None


_FIX_TYPE = (
    "Annotate the body's return type so that Onward can rebuild it, or return plain JSON values "
    "(None, bool, int, float, str, list, dict)."
)
_NOT_FINITE = "which JSON cannot hold. Return None or a text in its place."
_TOO_DEEP = "which contains itself, or is nested too deeply for JSON. Return a flatter value."
_TOO_MANY_DIGITS = "which has too many digits for JSON. Return it as text, such as hex(n)."
_SURROGATES = (
    "which contains a lone surrogate and has no UTF-8 form. Clean the text where it is read, for "
    "example with text.encode('utf-8', 'replace').decode()."
)


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def member(key: Any) -> str:
    """The part of a path that leads to the member `key`."""
    if isinstance(key, str) and key.isidentifier():
        return f".{key}"
    return f"[{shown_key(key)}]"


def shown_key(key: Any) -> str:
    """A dict's key, short enough for a path."""
    text = repr(key)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
