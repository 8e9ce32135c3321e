"""Results whose annotation needs pydantic. Imported when the first of them is settled or loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NewType

from pydantic import BaseModel, ConfigDict, RootModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import to_json

from onward.core.values import (
    Codec,
    annotation_text,
    decode,
    encode,
    member,
    mismatch,
    not_rebuilt,
    shown,
)
from onward.errors import ResultError

_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
_MODEL_EQUALITY: Any = (BaseModel.__eq__, RootModel.__eq__)
_NOTHING = object()
_DEEPEST = 50  # how far an error looks for its place; a cycle has no end


class TypedCodec(Codec):
    """Writes and rebuilds values of one annotation.

    Raises ResultError when pydantic has no schema for it.
    """

    __slots__ = ("_adapter", "_annotation")

    def __init__(self, annotation: Any, where: str) -> None:
        self._annotation = annotation
        try:
            self._adapter = adapter_for(annotation)
        except Exception as error:
            raise ResultError(
                f"{where}: results cannot be kept as the body's return annotation "
                f"{annotation_text(annotation)} says: {_reason(error)} Annotate types that have a "
                "JSON form (pydantic models, dataclasses, standard types), or return plain JSON "
                "and annotate dict or list."
            ) from error

    def settle(self, value: Any, where: str) -> tuple[str, Any]:
        """See `Codec.settle`."""
        refused: ResultError | None = None
        for by_alias in (True, False):  # a model may be rebuilt from its aliases, or from its names
            text = self._dump(value, where, by_alias=by_alias)
            try:
                rebuilt = self._adapter.validate_json(text)
            except Exception as error:  # noqa: BLE001 - validators are user code
                problem = f"the body returned {shown(value)}, but {_reason(error)}"
            else:
                comparison = _Comparison()
                found = comparison.difference(value, rebuilt, "result")
                if found is None and comparison.opaque:
                    again = self._dump(rebuilt, where, by_alias=by_alias)
                    found = None if again == text else comparison.opaque
                if found is None:
                    return text, rebuilt
                problem = found
            refused = refused or mismatch(where, self._annotation, problem)
        raise refused or AssertionError

    def load(self, data: Any, where: str) -> Any:
        """See `Codec.load`."""
        try:
            return self._adapter.validate_json(encode(data))
        except Exception as error:
            raise not_rebuilt(data, where, self._annotation, _reason(error)) from error

    def _dump(self, value: Any, where: str, *, by_alias: bool) -> str:
        try:
            data = self._adapter.dump_json(
                value, by_alias=by_alias, round_trip=True, warnings=False
            )
        except Exception as error:
            path, item = next(_unwritable(value, "result", 0), ("result", value))
            raise ResultError(
                f"{where}: {path} is {shown(item)}, which cannot be serialized ({_reason(error)}). "
                f"The body's return annotation is {annotation_text(self._annotation)}. Give that "
                "part a type with a JSON form; for bytes in a pydantic model, set ser_json_bytes "
                "and val_json_bytes to 'base64' in its model_config."
            ) from error
        return data.decode() if data.isascii() else encode(decode(data.decode()))


def adapter_for(annotation: Any) -> TypeAdapter[Any]:
    """What reads and writes values of `annotation`. Raises what pydantic does."""
    try:
        return TypeAdapter(annotation, config=_CONFIG)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return TypeAdapter(annotation)
    # A dataclass or TypedDict takes its surroundings' configuration, but only inside another type.
    make: Any = NewType
    return TypeAdapter(make("Result", annotation), config=_CONFIG)


def _reason(error: Exception) -> str:
    """What went wrong, in a sentence."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = "result" + "".join(
            member(part) if isinstance(part, str) else f"[{part}]" for part in first["loc"]
        )
        return f"{path} is refused: {first['msg']}."
    line = str(error).partition("\n")[0].rstrip(". ") or type(error).__name__
    return f"{line}."


class _Comparison:
    """Compares a value with what its JSON gave back, by type and value.

    `opaque` tells of the first pair that has no equality of its own and can only be compared by
    its JSON.
    """

    __slots__ = ("opaque",)

    def __init__(self) -> None:
        self.opaque = ""

    def difference(self, old: Any, new: Any, path: str) -> str | None:
        """The first difference with its path, or None."""
        kind = type(old)
        if kind is not type(new):
            whole = kind is int and type(new) is float and old == new  # PEP 484: an int is a float
            return None if whole else _told(old, new, path)
        if isinstance(old, (list, tuple)):
            return self._items(old, new, path)
        if isinstance(old, (set, frozenset)):
            same = old == new and _kinds(old) == _kinds(new)
            return None if same else _told(old, new, path)
        members = _members_of(old)
        if members is not None:
            return self._members(members, _members_of(new) or {}, path)
        return self._leaf(old, new, path)

    def _leaf(self, old: Any, new: Any, path: str) -> str | None:
        try:
            if old == new or (old != old and new != new):  # noqa: PLR0124 - NaN
                return None
        except Exception:  # noqa: BLE001 - such as an array, whose equality is no bool
            opaque = True
        else:
            equality: Any = type(old).__eq__
            opaque = equality is object.__eq__
        if not opaque:
            return _told(old, new, path)
        self.opaque = self.opaque or _told(old, new, path)
        return None

    def _items(self, old: Any, new: Any, path: str) -> str | None:
        if len(old) != len(new):
            return _told(old, new, path)
        for n, (one, other) in enumerate(zip(old, new, strict=True)):
            found = self.difference(one, other, f"{path}[{n}]")
            if found:
                return found
        return None

    def _members(self, old: dict[Any, Any], new: dict[Any, Any], path: str) -> str | None:
        kinds = {key: type(key) for key in new}
        for key, value in old.items():
            inner = f"{path}{member(key)}"
            other = new.get(key, _NOTHING)
            if other is _NOTHING:
                return f"{inner} is {shown(value)} and is lost in JSON"
            if kinds[key] is not type(key) and not isinstance(key, (int, float)):
                return f"{path} has the key {shown(key)}, which JSON gives back as another type"
            found = self.difference(value, other, inner)
            if found:
                return found
        for key in new:
            if key not in old:
                return f"{path}{member(key)} appears only when it is rebuilt"
        return None


def _told(old: Any, new: Any, path: str) -> str:
    return f"{path} is {shown(old)} and comes back as {shown(new)}"


def _kinds(values: set[Any] | frozenset[Any]) -> set[type]:
    return {float if type(value) is int else type(value) for value in values}


def _members_of(value: Any) -> dict[Any, Any] | None:
    """What a dict, a model or a dataclass consists of; None for everything else."""
    if type(value) is dict:
        return value
    if isinstance(value, BaseModel):
        equality: Any = type(value).__eq__
        if equality not in _MODEL_EQUALITY:  # the user's own
            return None
        kept = value.__dict__
        members = {name: kept[name] for name in type(value).model_fields if name in kept}
        return members | (value.__pydantic_extra__ or {}) | (value.__pydantic_private__ or {})
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name, _NOTHING) for f in fields(value) if f.compare}
    return None


def _unwritable(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """The parts of `value` that have no JSON form, with their paths."""
    if depth > _DEEPEST:
        return
    inner: Iterable[tuple[str, Any]]
    if isinstance(value, (list, tuple, set, frozenset)):
        inner = ((f"[{n}]", item) for n, item in enumerate(value))
    elif (members := _members_of(value)) is not None:
        inner = ((member(key), item) for key, item in members.items())
    else:
        inner = ()
        try:
            to_json(value)
        except Exception:  # noqa: BLE001 - whatever it is, this is the part
            yield path, value
    for step, item in inner:
        yield from _unwritable(item, f"{path}{step}", depth + 1)
