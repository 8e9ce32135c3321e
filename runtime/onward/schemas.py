"""Event schemas: what an event's data has to look like, checked when it is sent and received.

A schema is a pydantic model, or any annotation that pydantic knows. This module is imported only by
an app that has one, or that sends events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from onward.core.values import annotation_text, encode, member, shown
from onward.errors import ConfigurationError, EventError, EventSchemaError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from onward.app import App, Function
    from onward.context import InboundEvent

#: The event of a run that another function invoked.
INVOKED = "inngest/function.invoked"

#: What an orchestrator adds to the data of such an event.
_ADDED = "_inngest"

_MOST_PROBLEMS = 5


class Declared(NamedTuple):
    """A schema, and where it was declared, for messages."""

    schema: Any
    where: str


def declare(table: dict[str, Declared], name: object, schema: Any, where: str) -> None:
    """Add the schema of the events named `name` to an app's `table`.

    Args:
        table: `App.event_schemas`.
        name: The event's name; a `*` at its end stands for anything.
        schema: A pydantic model, or another annotation. No text: the type itself.
        where: Where it is declared, such as `"function 'fulfil' of app 'shop'"`.

    Raises:
        ConfigurationError: It is no type, or the event has another schema already.
    """
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(
            f"The schemas of {where} name the event {name!r}. Write a text such as 'order/paid'."
        )
    if schema is None or isinstance(schema, (str, bytes, int, Mapping, list)):
        raise ConfigurationError(
            f"The schema of the event {name!r} in {where} is {schema!r}, which is no type. Give the"
            " type itself: schema=OrderPaid, where OrderPaid is a pydantic model."
        )
    known = table.setdefault(name, Declared(schema, where))
    if known.schema is not schema and known.schema != schema:
        raise ConfigurationError(
            f"The event {name!r} has two schemas: {annotation_text(known.schema)} in {known.where},"
            f" and {annotation_text(schema)} in {where}. An event has one schema in an app: keep"
            " one of them, or give one of the events another name."
        )


def find(app: App, name: str) -> Declared | None:
    """The schema of the events named `name`, if the app has one.

    Of patterns that end with `*`, the longest that fits counts.
    """
    table = app.event_schemas
    if name in table:
        return table[name]
    fitting = [key for key in table if key.endswith("*") and name.startswith(key[:-1])]
    return table[max(fitting, key=len)] if fitting else None


def received(
    app: App, name: str, data: Any, *, schema: Any = None, event_id: str = "", where: str = "here"
) -> Any:
    """The data of an event that came in, as its schema says: a model's instance, if that is one.

    Args:
        app: Whose schemas count.
        name: The event's name.
        data: Its data, parsed from JSON.
        schema: Instead of the app's own for this event, such as that of `Event(…, schema=…)`.
        event_id: For the message.
        where: Where `schema` was given, for the message.

    Returns:
        `data` itself where the event has no schema.

    Raises:
        EventSchemaError: The data does not fit. It is not retriable: the same event will not fit
            next time.
    """
    declared = find(app, name) if schema is None else Declared(schema, where)
    if declared is None:
        return data
    return _fitted(declared, data, name, f" (id {event_id})" if event_id else "")


def received_events(
    app: App, function: Function, events: Sequence[InboundEvent]
) -> tuple[InboundEvent, ...]:
    """The events of a run of `function`, with data as their schemas say.

    The data of an invoked run is checked as the schema of the function's own trigger says.
    Raises EventSchemaError.
    """
    return tuple(_typed(app, function, event) for event in events)


def _typed(app: App, function: Function, event: InboundEvent) -> InboundEvent:
    declared, data, told = find(app, event.name), event.data, ""
    if event.name == INVOKED and isinstance(data, Mapping):
        declared = invoked(app, function)
        added = data.get(_ADDED)
        if isinstance(added, Mapping) and added.get("name"):
            told = f" from the step {added['name']!r} that invoked {function.id!r}"
        data = {key: value for key, value in data.items() if key != _ADDED}
    if declared is None:
        return event
    told = told or (f" (id {event.id})" if event.id else "")
    return replace(event, data=_fitted(declared, data, event.name, told))


def invoked(app: App, function: Function) -> Declared | None:
    """The schema of data that `function` is invoked with: its trigger's.

    None if a trigger has no schema, or if there are several: then any data is right.
    """
    names = [str(each.name) for each in function.triggers if hasattr(each, "name")]
    first = find(app, names[0]) if names else None
    if first is None:
        return None
    others = [find(app, name) for name in names[1:]]
    same = all(each is not None and each.schema == first.schema for each in others)
    return first if same else None


def _fitted(declared: Declared, data: Any, name: str, told: str) -> Any:
    adapter = _adapter(declared.schema)
    try:
        return adapter.validate_json(encode(data))
    except Exception as error:
        raise EventSchemaError(
            f"The event {name!r}{told} does not fit its schema"
            f" {annotation_text(declared.schema)}, declared in {declared.where}:"
            f" {_problems(error)} The run that got it fails, without a retry. Correct whoever sends"
            " it, or let the schema accept what is sent."
        ) from error


def rebuilt(annotation: Any, value: Any) -> Any:
    """`value`, parsed from JSON, as `annotation` says. Raises ValueError with what is wrong."""
    adapter = _adapter(annotation)
    try:
        return adapter.validate_json(encode(value))
    except Exception as error:
        raise ValueError(_problems(error)) from error


def outgoing(app: App, name: str, data: Any, *, schema: Any = None) -> dict[str, Any]:
    """The data of an event to be sent, as JSON values, checked against its schema.

    A mapping is sent as it is. A model, or another object that pydantic can write, is sent as its
    JSON, by its aliases.

    Raises:
        EventSchemaError: It does not fit.
        EventError: It is no JSON object.
    """
    declared = find(app, name) if schema is None else Declared(schema, "the call")
    if data is None:
        data = {}
    if declared is None and isinstance(data, Mapping):
        _check_plain(name, data)
        return dict(data)
    values = _jsonable(name, data)
    if not isinstance(values, dict):
        raise EventError(
            f"The data of the event {name!r} is {shown(data)}, which is no JSON object. Nothing was"
            " sent. Give a mapping or a model: the data of an event is always an object."
        )
    if declared is not None:
        _check_fits(declared, name, data, values)
    return values


def _jsonable(name: str, data: Any) -> Any:
    """`data` as JSON values, written by pydantic."""
    from pydantic_core import to_json

    try:
        if isinstance(data, Mapping):
            return json.loads(to_json(dict(data), inf_nan_mode="strings", by_alias=True))
        return json.loads(_adapter(type(data)).dump_json(data, by_alias=True, round_trip=True))
    except Exception as error:
        raise EventError(
            f"The data of the event {name!r} cannot be written as JSON: {_problems(error)} Nothing"
            " was sent. Give JSON values, or a pydantic model."
        ) from error


def _check_fits(declared: Declared, name: str, data: Any, values: dict[str, Any]) -> None:
    adapter = _adapter(declared.schema)
    try:
        rebuilt = adapter.validate_json(encode(values))
    except Exception as error:
        raise EventSchemaError(
            f"The data of the event {name!r} does not fit its schema"
            f" {annotation_text(declared.schema)}, declared in {declared.where}:"
            f" {_problems(error)} Nothing was sent. Correct the data, or the schema."
        ) from error
    if type(rebuilt) is type(data) and not isinstance(data, Mapping) and rebuilt != data:
        raise EventSchemaError(
            f"The data of the event {name!r} would arrive as {shown(rebuilt)}, not as"
            f" {shown(data)}: {annotation_text(declared.schema)} is not rebuilt from its own JSON."
            " Nothing was sent. Look for fields that are excluded from it, or whose types have no"
            " JSON form."
        )


def _check_plain(name: str, data: Mapping[str, Any]) -> None:
    place: str | None = "data is nested too deeply, or contains itself"
    try:
        text = encode(dict(data))
        if "\\ud" not in text and json.loads(text) == data:
            return
        place = _unwritable(data, "data", 0)
    except (TypeError, ValueError, RecursionError):
        place = _unwritable(data, "data", 0) or place
    if place is not None:
        raise EventError(
            f"The data of the event {name!r} cannot be written as JSON: {place}. Nothing was sent."
            " Give JSON values, or a pydantic model: `onward.NewEvent('order/paid', OrderPaid(…))`."
        )


def _unwritable(value: Any, path: str, depth: int) -> str | None:
    """The first part of `value` that JSON cannot hold."""
    if depth > _DEEPEST:
        return None
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                return f"{path} has the key {shown(key)}, and keys are texts"
            found = _unwritable(inner, path + member(key), depth + 1)
            if found:
                return found
        return None if isinstance(value, dict) or depth == 0 else f"{path} is {shown(value)}"
    if isinstance(value, (list, tuple)):
        places = (_unwritable(v, f"{path}[{n}]", depth + 1) for n, v in enumerate(value))
        return next((place for place in places if place), None)
    try:
        encode(value)
        if isinstance(value, str):
            value.encode()  # a lone surrogate has no UTF-8
    except (TypeError, ValueError):
        return f"{path} is {shown(value)}"
    return None


_DEEPEST = 200


def _adapter(schema: Any) -> TypeAdapter[Any]:
    try:
        # int | str equals str | int, but a union's order can decide what a JSON value becomes.
        return _kept_adapter(schema, repr(schema))
    except TypeError:  # not hashable, such as Annotated with a list
        return _new_adapter(schema)


@lru_cache(maxsize=1024)
def _kept_adapter(schema: Any, _text: str) -> TypeAdapter[Any]:
    return _new_adapter(schema)


def _new_adapter(schema: Any) -> TypeAdapter[Any]:
    from onward.core.typed_values import adapter_for

    try:
        return adapter_for(schema)
    except Exception as error:
        raise ConfigurationError(
            f"{annotation_text(schema)} cannot be an event's schema: {_problems(error)} Give a"
            " pydantic model, a dataclass, a TypedDict, or another type that pydantic knows."
        ) from error


def _problems(error: Exception) -> str:
    """What is wrong with the data, field by field, in a sentence."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        line = str(error).partition("\n")[0].rstrip(". ") or type(error).__name__
        return f"{line}."
    found = error.errors(include_url=False, include_context=False)
    told = [f"{_path(each['loc'])}: {each['msg']}{_given(each)}" for each in found]
    more = len(told) - _MOST_PROBLEMS
    rest = f"; and {more} more" if more > 0 else ""
    return f"{'; '.join(told[:_MOST_PROBLEMS])}{rest}."


def _path(location: tuple[int | str, ...]) -> str:
    parts = (member(part) if isinstance(part, str) else f"[{part}]" for part in location)
    return "data" + "".join(parts)


def _given(problem: Any) -> str:
    """What stood there, unless the field is missing."""
    return "" if problem["type"] == "missing" else f", not {shown(problem['input'])}"
