"""From a callable to the codec of its results: annotations, resolved. Imported when one is met."""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from functools import lru_cache, partial
from importlib import import_module
from inspect import isclass, unwrap
from types import FunctionType, MethodType, NoneType, UnionType
from typing import Any
from weakref import WeakKeyDictionary

from onward.core.values import (
    PLAIN,
    BrokenCodec,
    Check,
    CheckedCodec,
    Codec,
    annotation_text,
    lazy_codec,
)

#: Annotations that say nothing about the value.
_UNTYPED = frozenset({Any, object, typing.NoReturn, typing.Never})

#: What a function returns whose result is awaited: the annotation's last argument counts.
_AWAITABLE = (Awaitable, Coroutine)

_MISSING = object()

_codecs: WeakKeyDictionary[Any, Codec] = WeakKeyDictionary()


def codec_of_annotated(body: Any) -> Codec:
    """The codec for what `body` returns; see `onward.core.values.codec_of`."""
    owner: type | None = None
    while isinstance(body, partial):
        body = body.func
    if isclass(body) or typing.get_origin(body) is not None:
        return codec_for_annotation(body)
    if isinstance(body, MethodType):
        owner = body.__self__ if isclass(body.__self__) else type(body.__self__)
        body = body.__func__
    elif not hasattr(body, "__wrapped__") and not isinstance(body, FunctionType):
        owner, body = type(body), type(body).__call__
    try:
        known = _codecs.get(body)
    except TypeError:  # no weak references to it
        known = None
    if known is not None:
        return known
    codec, lasting = _resolve(body, owner)
    if lasting:
        with suppress(TypeError):
            _codecs[body] = codec
    return codec


def codec_for_annotation(annotation: Any) -> Codec:
    """The codec for a resolved annotation; see `onward.core.values.codec_for`."""
    try:
        # int | str equals str | int, but a union's order can decide what a JSON value becomes.
        return _kept(annotation, repr(annotation))
    except TypeError:  # not hashable, such as Annotated with a list
        return _make(annotation)


@lru_cache(maxsize=1024)
def _kept(annotation: Any, _text: str) -> Codec:
    return _make(annotation)


def _make(annotation: Any) -> Codec:
    check = _check_for(_plain(annotation))
    if check is _anything:
        return PLAIN
    return lazy_codec(annotation) if check is None else CheckedCodec(annotation, check)


def _resolve(body: Any, owner: type | None) -> tuple[Codec, bool]:
    """The codec, and whether it is the same for every later use."""
    function = unwrap(body)
    try:
        written = _written(function)
        if written is _MISSING:
            return PLAIN, True
        annotation = _evaluated(written, function)
    except Exception as error:  # noqa: BLE001 - evaluating an annotation may raise anything
        return BrokenCodec(_unresolved(function, error)), False
    if annotation in _AWAITABLE or typing.get_origin(annotation) in _AWAITABLE:
        annotation = (typing.get_args(annotation) or (Any,))[-1]
    if annotation is typing.Self and owner is not None:
        return codec_for_annotation(owner), False
    return codec_for_annotation(annotation), True


def _written(function: Any) -> Any:
    """The return annotation as it stands, or `_MISSING`."""
    try:
        annotations = getattr(function, "__annotations__", None) or {}
    except Exception:  # noqa: BLE001 - Python 3.14: another annotation may be the one that fails
        lib = import_module("annotationlib")
        annotations = lib.get_annotations(function, format=lib.Format.FORWARDREF)
    return annotations.get("return", _MISSING)


def _evaluated(written: Any, function: Any) -> Any:
    """`written` without text in it: names are looked up where the function would find them."""

    def probe() -> None: ...

    probe.__annotations__ = {"return": written}
    names = {p.__name__: p for p in getattr(function, "__type_params__", ())}
    cells = getattr(function, "__closure__", None) or ()
    free = function.__code__.co_freevars if cells else ()
    for name, cell in zip(free, cells, strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not yet assigned
            continue
    spaces = getattr(function, "__globals__", {})
    hints = typing.get_type_hints(probe, globalns=spaces, localns=names, include_extras=True)
    return hints["return"]


def _unresolved(function: Any, error: Exception) -> str:
    module = getattr(function, "__module__", "?")
    name = getattr(function, "__qualname__", repr(function))
    try:
        written = annotation_text(_written(function))
    except Exception:  # noqa: BLE001 - it is only for the message
        written = "?"
    return (
        f"the return annotation {written!r} of {module}.{name} cannot be resolved "
        f"({type(error).__name__}: {error}). Import or define the type at module level, outside "
        "`if TYPE_CHECKING:`, or remove the annotation to keep plain JSON."
    )


def _plain(annotation: Any) -> Any:
    """`annotation` behind new types and aliases."""
    while True:
        inner = getattr(annotation, "__supertype__", _MISSING)
        if inner is _MISSING and type(annotation).__name__ == "TypeAliasType":
            inner = annotation.__value__
        if inner is _MISSING:
            return annotation
        annotation = inner


def _anything(_value: Any) -> bool:
    return True


def _check_for(annotation: Any) -> Check | None:
    """Tells whether a value is what `annotation` says; None if JSON cannot hold such values."""
    if isinstance(annotation, typing.TypeVar):
        annotation = annotation.__bound__ or Any
    simple = _simple_check(annotation)
    if simple is not None:
        return simple
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {typing.Union, UnionType}:
        return _check_union(args)
    if origin is typing.Literal:
        return _check_literal(args)
    if origin is list:
        return _check_list(_check_for(args[0]) if args else _anything)
    if origin is dict and (not args or args[0] is str):
        return _check_dict(_check_for(args[1]) if args else _anything)
    return None


def _simple_check(annotation: Any) -> Check | None:
    try:
        if annotation in _UNTYPED:
            return _anything
    except TypeError:
        return None
    if annotation is None or annotation is NoneType:
        return lambda value: value is None
    if annotation in {bool, int, str, dict, list}:
        return lambda value: isinstance(value, annotation)
    if annotation is float:  # an int is a float to type checkers (PEP 484)
        return lambda value: isinstance(value, (float, int))
    return None


def _check_union(args: tuple[Any, ...]) -> Check | None:
    checks = [_check_for(arg) for arg in args]
    if any(check is None for check in checks):
        return None
    if _anything in checks:
        return _anything
    return lambda value: any(check(value) for check in checks if check)


def _check_literal(args: tuple[Any, ...]) -> Check | None:
    if any(type(arg) not in {str, int, bool, NoneType} for arg in args):
        return None
    return lambda value: any(type(value) is type(arg) and value == arg for arg in args)


def _check_list(item: Check | None) -> Check | None:
    if item is None:
        return None
    if item is _anything:
        return lambda value: isinstance(value, list)
    return lambda value: isinstance(value, list) and all(map(item, value))


def _check_dict(item: Check | None) -> Check | None:
    if item is None:
        return None
    if item is _anything:
        return lambda value: isinstance(value, dict)
    return lambda value: isinstance(value, dict) and all(map(item, value.values()))
