# No `from __future__ import annotations`: annotations here are objects, as in most user code.
import dataclasses
import enum
import functools
import gc
import json
import math
import subprocess
import sys
import textwrap
import types
import typing
import uuid
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from onward.core.values import PLAIN, Codec, codec_for, codec_of
from onward.errors import ResultError

T = TypeVar("T")
WHERE = "step 'charge'"


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


class Item(BaseModel):
    sku: str
    price: Decimal
    when: datetime


class Receipt(BaseModel):
    items: list[Item]
    by_day: dict[date, int] = {}
    note: str | None = None
    tags: set[str] = set()


class Card(BaseModel):
    kind: Literal["card"] = "card"
    id: int


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    id: int


class Box(BaseModel, Generic[T]):
    content: T


@dataclasses.dataclass
class Leg:
    start: str
    takes: timedelta


@dataclasses.dataclass(frozen=True)
class Trip:
    legs: tuple[Leg, ...]
    photo: bytes = b""


class Row(TypedDict):
    id: int
    at: datetime


UserId = NewType("UserId", int)
Stamp = NewType("Stamp", datetime)

NOW = datetime(2024, 2, 29, 12, 30, 1, 250, tzinfo=UTC)
RECEIPT = Receipt(
    items=[
        Item(sku="a", price=Decimal("1.50"), when=NOW),
        Item(sku="b", price=Decimal(2), when=NOW),
    ],
    by_day={date(2024, 2, 29): 3},
    tags={"x", "é"},
)
TRIP = Trip((Leg("FRA", timedelta(hours=1.5)), Leg("JFK", timedelta(days=2))), b"\xff\x00")


def round_trip(codec: Codec, value: Any) -> Any:
    """Settle, check what every codec promises, and return what a replay gives."""
    text, first = codec.settle(value, WHERE)
    assert text.isascii()
    replayed = codec.load(json.loads(text), WHERE)
    assert type(replayed) is type(first)
    assert replayed == first
    again, _ = codec.settle(first, WHERE)
    assert codec.load(json.loads(again), WHERE) == first
    return replayed


def error_of(codec: Codec, value: Any) -> str:
    with pytest.raises(ResultError) as caught:
        codec.settle(value, WHERE)
    message = str(caught.value)
    assert message.startswith(f"{WHERE}: ")
    return message


# --- plain JSON ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (7, "7"),
        (-0.5, "-0.5"),
        (2**80, str(2**80)),
        ("", '""'),
        ("é\U0001f600", '"\\u00e9\\ud83d\\ude00"'),
        ("\\ud800", '"\\\\ud800"'),
        ({"a": [1, {"b": None}]}, '{"a":[1,{"b":null}]}'),
        ({"é": "\U0001f600"}, '{"\\u00e9":"\\ud83d\\ude00"}'),
        ([], "[]"),
    ],
)
def test_plain_values(value: Any, text: str) -> None:
    assert PLAIN.settle(value, WHERE) == (text, value)
    assert round_trip(PLAIN, value) == value


def test_a_first_run_sees_what_a_replay_gives() -> None:
    shared = [1]
    value = {"pair": (1, (2, [3])), "shared": shared}
    _, first = PLAIN.settle(value, WHERE)
    assert first == {"pair": [1, [2, [3]]], "shared": [1]}
    shared.append(2)
    assert first["shared"] == [1]


def test_subclasses_of_json_types_become_json_types() -> None:
    class Name(str):
        __slots__ = ()

    value = {
        "name": Name("x"),
        "level": Level.LOW,
        "point": Point(1, 2),
        "counts": defaultdict(int, a=1),
        "ordered": OrderedDict(b=2),
    }
    _, first = PLAIN.settle(value, WHERE)
    assert first == {
        "name": "x",
        "level": 1,
        "point": [1, 2],
        "counts": {"a": 1},
        "ordered": {"b": 2},
    }
    assert [type(v) for v in first.values()] == [str, int, list, dict, dict]
    assert type(PLAIN.settle(Level.LOW, WHERE)[1]) is int
    assert type(PLAIN.settle(Name("x"), WHERE)[1]) is str


class Plain:
    pass


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        (NOW, "result", "datetime.datetime"),
        ({"items": [1, 2, 3, {"when": NOW}]}, "result.items[3].when", "datetime.datetime"),
        ([{"a b": {1, 2}}], "result[0]['a b']", "set"),
        ((1, [b"x"]), "result[1][0]", "bytes"),
        ({"m": RECEIPT}, "result.m", "Receipt"),
        ({"o": Plain()}, "result.o", "Plain"),
        ({"g": (n for n in "ab")}, "result.g", "generator"),
        ({"c": Color.RED}, "result.c", "Color"),
        ({"x": {"y": 1j}}, "result.x.y", "complex"),
        (Decimal(1), "result", "decimal.Decimal"),
    ],
)
def test_what_json_cannot_hold(value: Any, path: str, kind: str) -> None:
    message = error_of(PLAIN, value)
    assert f"{path} is " in message
    assert f"{kind})" in message
    assert "Annotate the body's return type" in message
    assert "return plain JSON values" in message


@pytest.mark.parametrize(
    ("value", "path", "key"),
    [
        ({1: "a"}, "result", "1 (int)"),
        ({"a": [{}, {None: 1}]}, "result.a[1]", "None (NoneType)"),
        ({"a": {True: 1}}, "result.a", "True (bool)"),
        ({"a": ({1.5: 1},)}, "result.a[0]", "1.5 (float)"),
        ({(1, 2): 3}, "result", "(1, 2) (tuple)"),
        ({1: "a", "1": "b"}, "result", "1 (int)"),
    ],
)
def test_keys_that_are_no_strings(value: Any, path: str, key: str) -> None:
    message = error_of(PLAIN, value)
    assert f"{path} is " in message
    assert f"has the key {key}, and JSON keys are strings" in message
    assert "dict[int, str]" in message


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not(number: float) -> None:
    message = error_of(PLAIN, {"scores": [0.5, number]})
    assert f"result.scores[1] is {number} (float), which JSON cannot hold" in message
    assert "result is" in error_of(PLAIN, number)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("\ud800", "result"),
        ({"a": ["ok", "x\udfff"]}, "result.a[1]"),
        ({"a": "\ud83d" + "\ude00"}, "result.a"),  # two halves: JSON would join them
        ({"b": {"k\ud800": 1}}, "result.b"),
    ],
)
def test_lone_surrogates(value: Any, path: str) -> None:
    message = error_of(PLAIN, value)
    assert f"{path} is " in message
    assert "lone surrogate" in message
    message.encode()


def test_cycles_and_depth() -> None:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    assert "contains itself" in error_of(PLAIN, cycle)
    deep: Any = NOW
    for _ in range(100_000):
        deep = [deep]
    assert "nested too deeply" in error_of(PLAIN, deep)
    while deep is not NOW:  # taken apart here, so that freeing it does not recurse
        deep = deep[0]


def test_an_int_with_too_many_digits() -> None:
    assert "result.n is … (int), which has too many digits" in error_of(PLAIN, {"n": 10**5000})


def test_messages_stay_short_and_survive_a_broken_repr() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Broken)" in error_of(PLAIN, {"b": Broken()})
    assert len(error_of(PLAIN, {"b": b"x" * 10_000})) < 500


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_every_json_value_comes_back_as_it_is(value: Any) -> None:
    text, first = PLAIN.settle(value, WHERE)
    assert first == value
    assert repr(first) == repr(value)
    assert len(text) == len(text.encode())


python_values = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text(st.characters(categories=["L", "Cs"]), max_size=4)
    | st.binary(max_size=2)
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 2) | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)


def fits_json(value: Any) -> bool:
    """The same rule, written anew: what the specification of JSON allows, in UTF-8."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, (list, tuple)):
        return all(fits_json(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and fits_json(k) and fits_json(v) for k, v in value.items())
    return value is None or isinstance(value, int)


def as_json_has_it(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [as_json_has_it(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json_has_it(item) for key, item in value.items()}
    return value


@given(python_values)
def test_any_value_settles_as_a_replay_gives_it_or_is_refused(value: Any) -> None:
    try:
        text, first = PLAIN.settle(value, WHERE)
    except ResultError as error:
        message = str(error)
        assert not fits_json(value), message
        return
    assert json.loads(text) == first == as_json_has_it(value)
    assert fits_json(value)


# --- annotations that JSON itself can hold ------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (None, [None], [0, "", False]),
        (type(None), [None], [0]),
        (int, [3, True, 2**70], ["3", 3.0, None]),
        (float, [1.5, 3], ["1.5", None]),
        (str, ["", "é"], [3, b"x"]),
        (bool, [True], [1, 0, "true"]),
        (dict, [{}, {"a": [1]}], [[], None]),
        (list, [[], [1, "a"]], [{}, (1,)]),
        (typing.Dict, [{"a": 1}], [[]]),  # noqa: UP006 - what users still write
        (typing.List, [[1]], [{}]),  # noqa: UP006
        (dict[str, Any], [{"a": 1}], [[1]]),
        (list[Any], [[1, None]], [{}]),
        (list[int], [[], [1, 2]], [[1, "2"], ["1"], {}]),
        (dict[str, int], [{"a": 1}], [{"a": "1"}, {"a": None}]),
        (dict[str, list[float]], [{"a": [1, 1.5]}], [{"a": ["1"]}]),
        (int | None, [3, None], ["3"]),
        (Optional[str], ["x", None], [3]),  # noqa: UP045
        (Union[int, str], [3, "3"], [3.5, None]),  # noqa: UP007
        (list[int] | dict[str, int], [[1], {"a": 1}], [["1"], 3]),
        (Literal["a", 1, None], ["a", 1, None], ["b", True, 2]),  # noqa: PYI061
        (Literal[True], [True], [1]),
        (UserId, [3], ["3"]),
    ],
)
def test_annotated_plain_json(annotation: Any, good: list[Any], bad: list[Any]) -> None:
    codec = codec_for(annotation)
    for value in good:
        result = round_trip(codec, value)
        assert result == value
        assert type(result) is type(value)
    for value in bad:
        message = error_of(codec, value)
        assert "cannot be rebuilt" in message
        assert "return annotation" in message


def test_a_mismatch_names_the_path_and_the_annotation() -> None:
    message = error_of(codec_for(dict[str, list[int]]), {"a": [1], "b": [1, "2"]})
    assert "result.b[1] is '2' (str) and comes back as 2 (int)" in message
    assert "dict[str, list[int]]" in message
    message = error_of(codec_for(int), "3")
    assert "the body returned '3' (str)" in message
    assert "annotation int says" in message


def test_plain_annotations_refuse_what_json_cannot_hold() -> None:
    assert "JSON keys are strings" in error_of(codec_for(dict[str, Any]), {1: 2})
    assert "result.a is nan" in error_of(codec_for(dict[str, float]), {"a": math.nan})
    assert "result[0] is " in error_of(codec_for(list[Any]), [NOW])
    assert "lone surrogate" in error_of(codec_for(str), "\ud800")


@pytest.mark.parametrize("annotation", [Any, object, T, typing.NoReturn, typing.Never, int | Any])
def test_annotations_that_say_nothing(annotation: Any) -> None:
    assert codec_for(annotation) is PLAIN


def test_a_recorded_result_of_another_type_is_refused() -> None:
    with pytest.raises(ResultError) as caught:
        codec_for(int).load("3", WHERE)
    message = str(caught.value)
    assert message.startswith(f"{WHERE}: its recorded result '3' (str) cannot be rebuilt")
    assert "new id" in message
    with pytest.raises(ResultError, match=r"result\.items is refused: Field required"):
        codec_for(Receipt).load({"note": "old"}, WHERE)


# --- annotations that pydantic rebuilds ---------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Receipt, RECEIPT),
        (list[Receipt], [RECEIPT, RECEIPT]),
        (dict[str, Receipt | None], {"a": RECEIPT, "b": None}),
        (Optional[Receipt], None),  # noqa: UP045
        (Trip, TRIP),
        (list[Trip], [TRIP]),
        (Trip | None, TRIP),
        (Row, {"id": 1, "at": NOW}),
        (list[Row], [{"id": 1, "at": NOW}]),
        (Point, Point(1, 2)),
        (Color, Color.BLUE),
        (dict[Color, list[Color]], {Color.RED: [Color.BLUE]}),
        (Level, Level.LOW),
        (datetime, NOW),
        (datetime, NOW.replace(tzinfo=None)),
        (datetime, NOW.astimezone(timezone(timedelta(hours=-5)))),
        (date, date(2024, 2, 29)),
        (timedelta, timedelta(days=-1, microseconds=7)),
        (Decimal, Decimal("1.500")),
        (uuid.UUID, uuid.UUID(int=7)),
        (bytes, b"\xff\xfe\x00"),
        (bytes, b""),
        (list[bytes | None], [b"\xff", None]),
        (dict[int, str], {1: "a", -2: "b"}),
        (dict[date, bytes], {date(2024, 1, 1): b"\x80"}),
        (tuple[int, str], (1, "a")),
        (tuple[int, ...], (1, 2, 3)),
        (dict[str, tuple[int, int]], {"a": (1, 2)}),
        (set[int], {1, 2}),
        (frozenset[str], frozenset({"é"})),
        (list[tuple[datetime, Decimal]], [(NOW, Decimal("0.1"))]),
        (Stamp, NOW),
        (Annotated[int, Field(gt=0)], 3),
        (Annotated[str, ["not", "hashable"]], "x"),
        (Card | Cash, Cash(id=1)),
        (list[Card | Cash | int], [Card(id=1), 2, Cash(id=3)]),
        (Annotated[Card | Cash, Field(discriminator="kind")], Cash(id=1)),
        (Box[int], Box[int](content=3)),
        (Box[datetime], Box[datetime](content=NOW)),
        (int | datetime | str, 5),
        (int | datetime | str, NOW),
        (int | datetime | str, "five"),
        (int | float | None, 1.0),
        (int | float | Color, 1),
        (bool | Decimal, True),
        (date | datetime, date(2024, 2, 29)),
        (date | datetime, NOW),
        (list[float], [1, 2.5]),
        (Mapping[str, Decimal], {"a": Decimal(1)}),
    ],
)
def test_typed_values_are_rebuilt(annotation: Any, value: Any) -> None:
    result = round_trip(codec_for(annotation), value)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("annotation", "value", "told"),
    [
        # The text of a date, where dates are allowed, comes back as a date.
        (int | datetime | str, "2024-01-01T00:00:00", "result is '2024-01-01T00:00:00' (str)"),
        (str | datetime, NOW, "result is datetime.datetime(2024"),
        (Receipt, {"items": []}, "result is {'items': []} (dict) and comes back as Receipt("),
        (Receipt, 3, "result is refused: Input should be"),
        (list[Receipt], [RECEIPT, None], "result[1] is refused"),
        (tuple[int, int], [1, 2], "result is [1, 2] (list) and comes back as (1, 2) (tuple)"),
        (set[int], [1], "result is [1] (list)"),
        (dict[int, str], {"1": "a"}, "result['1'] is 'a' (str) and is lost"),
        (Decimal, 1.5, "result is 1.5 (float)"),
        (list[Decimal], [Decimal(1), 1], "result[1] is 1 (int)"),
        (datetime, "2024-01-01T00:00:00", "result is '2024-01-01T00:00:00' (str)"),
        (Color, "red", "result is 'red' (str)"),
        (list[Decimal | float | None], [math.nan], "result[0] is nan (float) and comes back as No"),
        (Box[Any], Box[Any](content={"at": [NOW]}), "result.content.at[0] is datetime.datetime"),
        (Row, {"id": 1, "at": NOW, "more": 2}, "result.more is 2 (int)"),
        (Leg, {"start": "FRA"}, "result.takes is refused: Field required"),
        (Literal[Color.RED], Color.RED, "result is refused: Input should be"),
        (Literal["a", Color.RED], "b", "the body returned 'b'"),
        (tuple[int, ...], (1, 2.0), "result[1] is 2.0 (float) and comes back as 2 (int)"),
        (bytes, "x", "the body returned 'x'"),
    ],
)
def test_what_cannot_be_rebuilt_equal_is_refused(annotation: Any, value: Any, told: str) -> None:
    message = error_of(codec_for(annotation), value)
    assert told in message
    assert "return annotation" in message


def test_a_subclass_that_would_lose_fields() -> None:
    class Special(Item):
        extra: int

    value = Receipt(items=[])
    value.items.append(Special(sku="a", price=Decimal(1), when=NOW, extra=1))
    message = error_of(codec_for(Receipt), value)
    assert "result.items[0] is " in message
    assert "Special" in message


def test_what_json_leaves_out_is_a_difference() -> None:
    class Secretive(BaseModel):
        open: int
        hidden: int = Field(default=0, exclude=True)

    assert round_trip(codec_for(Secretive), Secretive(open=1)) == Secretive(open=1)
    message = error_of(codec_for(Secretive), Secretive(open=1, hidden=2))
    assert "result.hidden is 2 (int) and comes back as 0" in message

    class Private(BaseModel):
        open: int
        _cache: int = pydantic.PrivateAttr(default=0)

    private = Private(open=1)
    assert round_trip(codec_for(Private), private) == private
    private._cache = 5
    assert "result._cache is 5 (int)" in error_of(codec_for(Private), private)


def test_a_model_with_its_own_equality_decides() -> None:
    class Loose(BaseModel):
        open: int
        hidden: int = Field(default=0, exclude=True)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Loose) and self.open == other.open

        __hash__ = None  # type: ignore[assignment]

    assert codec_for(Loose).settle(Loose(open=1, hidden=2), WHERE)[1].hidden == 0
    assert codec_for(list[Loose]).settle([Loose(open=1, hidden=2)], WHERE)[0] == '[{"open":1}]'


def test_a_type_without_equality_is_compared_by_its_json() -> None:
    class Handle:
        def __init__(self, text: str) -> None:
            self.text = text

        @classmethod
        def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
            from pydantic_core import core_schema

            return core_schema.no_info_plain_validator_function(
                lambda value: cls(value[:3]),
                serialization=core_schema.plain_serializer_function_ser_schema(lambda v: v.text),
            )

    codec = codec_for(list[Handle])
    assert [handle.text for handle in codec.settle([Handle("abc")], WHERE)[1]] == ["abc"]
    message = error_of(codec, [Handle("abcd")])
    assert "result[0] is <" in message


def test_a_dataclass_without_equality_is_compared_by_its_fields() -> None:
    @dataclasses.dataclass(eq=False)
    class Entity:
        id: int
        at: datetime
        trace: Any = dataclasses.field(default=None, compare=False)

    codec = codec_for(Entity)
    text, rebuilt = codec.settle(Entity(1, NOW), WHERE)
    assert (rebuilt.id, rebuilt.at) == (1, NOW)
    assert codec.load(json.loads(text), WHERE).at == NOW
    wrong = Entity(1, NOW)
    wrong.id = "2"  # type: ignore[assignment]
    assert "result.id is '2' (str) and comes back as 2 (int)" in error_of(codec, wrong)


def test_aliases_computed_and_extra_fields() -> None:
    class Both(BaseModel):
        model_config = ConfigDict(extra="allow")
        order_id: int = Field(alias="orderId")

    value = Both(orderId=3, more=[1])  # type: ignore[call-arg]
    text, rebuilt = codec_for(Both).settle(value, WHERE)
    assert json.loads(text) == {"orderId": 3, "more": [1]}
    assert rebuilt == value

    class OutOnly(BaseModel):
        order_id: int = Field(serialization_alias="orderId")

    assert round_trip(codec_for(OutOnly), OutOnly(order_id=3)) == OutOnly(order_id=3)

    class Square(BaseModel):
        model_config = ConfigDict(extra="forbid")
        side: int

        @pydantic.computed_field  # type: ignore[prop-decorator]
        @property
        def area(self) -> int:
            return self.side**2

    assert round_trip(codec_for(Square), Square(side=3)).area == 9


def test_strict_models_are_rebuilt_as_json() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        at: datetime
        id: uuid.UUID
        pair: tuple[int, int]

    value = Strict(at=NOW, id=uuid.UUID(int=1), pair=(1, 2))
    assert round_trip(codec_for(Strict), value) == value


def test_bytes_in_a_model_need_its_own_configuration() -> None:
    class Blob(BaseModel):
        data: bytes

    class Coded(BaseModel):
        model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
        data: bytes

    assert round_trip(codec_for(Blob), Blob(data=b"text")) == Blob(data=b"text")
    message = error_of(codec_for(list[Blob]), [Blob(data=b"text"), Blob(data=b"\xff")])
    assert "result[1].data is b'\\xff' (bytes), which cannot be serialized" in message
    assert "ser_json_bytes" in message
    assert round_trip(codec_for(Coded), Coded(data=b"\xff")) == Coded(data=b"\xff")


def test_what_pydantic_cannot_serialize_has_a_path() -> None:
    message = error_of(codec_for(Box[Any]), Box[Any](content={"a": [1, Plain()]}))
    assert "result.content.a[1] is <" in message
    assert "Plain object" in message
    message = error_of(codec_for(tuple[str, str]), ("a", "\ud800"))
    assert "result[1] is '\\ud800' (str), which cannot be serialized" in message
    cycle: list[Any] = [1]
    cycle.append(cycle)
    assert "cannot be serialized" in error_of(codec_for(tuple[Any, int]), (cycle, 1))


def test_text_outside_ascii_is_escaped_in_typed_results_too() -> None:
    text, rebuilt = codec_for(tuple[str, float]).settle(("é\U0001f600", 1e22), WHERE)
    assert text == '["\\u00e9\\ud83d\\ude00",1e+22]'
    assert rebuilt == ("é\U0001f600", 1e22)


@pytest.mark.parametrize("annotation", [Plain, list[Plain], Iterator[int], Awaitable[int]])
def test_types_without_a_schema(annotation: Any) -> None:
    codec = codec_for(annotation)
    with pytest.raises(ResultError, match="results cannot be kept as") as caught:
        codec.prepare(WHERE)
    assert str(caught.value).startswith(f"{WHERE}: ")
    assert "Annotate types that have a JSON form" in str(caught.value)
    assert "cannot be kept" in error_of(codec, 1)
    with pytest.raises(ResultError, match="cannot be kept"):
        codec.load(1, WHERE)


def test_prepare_accepts_what_can_be_kept() -> None:
    for annotation in (Any, int, Receipt, Trip):
        codec_for(annotation).prepare(WHERE)


finite = st.floats(allow_nan=False, allow_infinity=False)
any_decimal = st.decimals(allow_nan=False, allow_infinity=False)
any_time = st.datetimes(timezones=st.none() | st.just(UTC))
typed_values = st.one_of(
    st.tuples(st.just(dict[int, Decimal]), st.dictionaries(st.integers(), any_decimal)),
    st.tuples(st.just(list[bytes]), st.lists(st.binary())),
    st.tuples(st.just(Trip), st.builds(Trip, st.just(()), st.binary())),
    st.tuples(st.just(tuple[datetime, ...]), st.lists(any_time).map(tuple)),
    st.tuples(st.just(set[uuid.UUID]), st.sets(st.uuids())),
    st.tuples(st.just(int | float | str | None), st.none() | st.integers() | finite | st.text()),
    st.tuples(
        st.just(Box[int | Color]),
        st.builds(Box[int | Color], content=st.integers() | st.sampled_from(Color)),
    ),
    st.tuples(st.just(Row), st.fixed_dictionaries({"id": st.integers(), "at": st.datetimes()})),
)


@given(typed_values)
def test_typed_values_round_trip(case: tuple[Any, Any]) -> None:
    annotation, value = case
    result = round_trip(codec_for(annotation), value)
    assert result == value
    assert type(result) is type(value)


# --- from a body to its codec -------------------------------------------------------------------


def untyped(): ...  # type: ignore[no-untyped-def]


def only_parameters(n: int): ...  # type: ignore[no-untyped-def]


def typed() -> Receipt:
    return RECEIPT


async def coroutine() -> Receipt:
    return RECEIPT


def returns_awaitable() -> Awaitable[Receipt]:
    return coroutine()


def returns_any_awaitable() -> Awaitable: ...  # type: ignore[type-arg, empty-body]


def returns_bare_coroutine() -> typing.Coroutine: ...  # type: ignore[type-arg, empty-body]


def returns_coroutine() -> Coroutine[Any, Any, Receipt]:
    return coroutine()


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Service:
    def method(self) -> Receipt:
        return RECEIPT

    @classmethod
    def of_class(cls) -> Receipt:
        return RECEIPT

    @staticmethod
    def static() -> Receipt:
        return RECEIPT

    async def later(self) -> Receipt:
        return RECEIPT

    def __call__(self) -> Receipt:
        return RECEIPT


@pytest.mark.parametrize(
    "body",
    [
        typed,
        coroutine,
        returns_awaitable,
        returns_coroutine,
        decorated(typed),
        functools.partial(typed),
        functools.partial(functools.partial(coroutine)),
        functools.partial(Service().method),
        functools.lru_cache(typed),
        Service().method,
        Service().later,
        Service.of_class,
        Service().of_class,
        Service.static,
        Service.method,
        Service(),
        Receipt,
        functools.partial(Receipt, items=[]),
    ],
)
def test_the_codec_of_a_body(body: Any) -> None:
    codec = codec_of(body)
    assert codec is codec_of(body)
    assert round_trip(codec, RECEIPT) == RECEIPT
    assert "cannot be rebuilt" in error_of(codec, 3)


@pytest.mark.parametrize(
    "body",
    [
        untyped,
        only_parameters,
        lambda: None,
        functools.partial(untyped),
        decorated(untyped),
        len,
        [].append,
        functools.partial(max, 1),
        returns_any_awaitable,
        returns_bare_coroutine,
        "x".upper,
    ],
)
def test_bodies_that_do_not_say_what_they_return(body: Any) -> None:
    assert codec_of(body) is PLAIN


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (dict, {"a": 1}),
        (str, "x"),
        (list[int], [1]),
        (Box[datetime], Box[datetime](content=NOW)),
        (Trip, TRIP),
        (Color, Color.RED),
        (Decimal, Decimal(1)),
        (set, {1}),
    ],
)
def test_a_class_stands_for_itself(body: Any, value: Any) -> None:
    assert round_trip(codec_of(body), value) == value


def test_self_is_the_class_of_the_object() -> None:
    class Base(BaseModel):
        n: int

        def copied(self) -> typing.Self:
            return self.model_copy()

        @classmethod
        def made(cls) -> typing.Self:
            return cls(n=1)

    class Derived(Base):
        more: int = 2

    base, derived = Base(n=1), Derived(n=1)
    assert round_trip(codec_of(base.copied), base.copied()) == base
    assert round_trip(codec_of(derived.copied), derived.copied()) == derived
    assert round_trip(codec_of(Derived.made), derived) == derived


def test_equal_annotations_share_a_codec() -> None:
    def one() -> dict[int, Receipt]: ...  # type: ignore[empty-body]

    def two() -> dict[int, Receipt]: ...  # type: ignore[empty-body]

    assert codec_of(one) is codec_of(two)
    assert codec_for(int | Decimal | str) is not codec_for(str | Decimal | int)


def test_a_codec_does_not_keep_its_function() -> None:
    def make() -> Callable[[], int]:
        def body() -> int:
            return 1

        return body

    body = make()
    codec_of(body)
    gone = weakref.ref(body)
    del body
    gc.collect()
    assert gone() is None


# --- annotations as text ------------------------------------------------------------------------


def module_of(source: str, **names: Any) -> types.ModuleType:
    """A module of user code; `names` are its globals from the start."""
    module = types.ModuleType("orders")
    vars(module).update(names)
    exec(compile(textwrap.dedent(source), "orders.py", "exec", dont_inherit=True), vars(module))
    return module


FUTURE = "from __future__ import annotations\n"
#: Python 3.14 evaluates annotations late without any of this; before, text is needed.
QUOTED = sys.version_info < (3, 14)


def test_annotations_of_the_future_import() -> None:
    module = module_of(
        FUTURE
        + textwrap.dedent("""
            import functools
            async def body(n: Missing) -> Receipt | None: ...
            class Service:
                def method(self) -> list[Later]: ...
                def __call__(self) -> Later: ...
            def wrapped(function):
                @functools.wraps(function)
                def wrapper(*args): ...
                return wrapper
            class Later(BaseModel):
                n: int
        """),
        Receipt=Receipt,
        BaseModel=BaseModel,
    )
    later = module.Later(n=1)
    for codec in (codec_of(module.body), codec_of(functools.partial(module.body, 1))):
        assert round_trip(codec, RECEIPT) == RECEIPT
        assert round_trip(codec, None) is None
    assert round_trip(codec_of(module.Service().method), [later]) == [later]
    assert round_trip(codec_of(module.Service()), later) == later
    # The decorator lives in this module, the types in the other.
    assert round_trip(codec_of(decorated(module.body)), RECEIPT) == RECEIPT
    assert round_trip(codec_of(module.wrapped(typed)), RECEIPT) == RECEIPT


@pytest.mark.parametrize("annotation", ['"Later"', 'list["Later"]', '"list[Later]"', "Later"])
def test_forward_references(annotation: str) -> None:
    if annotation == "Later" and QUOTED:
        annotation = '"Later"'
    module = module_of(
        f"""
        def body(n: "Missing" = None) -> {annotation}: ...
        class Later(BaseModel):
            n: int
        """,
        BaseModel=BaseModel,
    )
    value = module.Later(n=1)
    value = [value] if "list" in annotation else value
    assert round_trip(codec_of(module.body), value) == value


def test_a_local_type_that_the_body_uses() -> None:
    module = module_of(
        FUTURE
        + textwrap.dedent("""
            def make():
                class Local(BaseModel):
                    n: int
                def body() -> Local:
                    return Local(n=1)
                return body
        """),
        BaseModel=BaseModel,
    )
    body = module.make()
    assert round_trip(codec_of(body), body()) == body()


UNRESOLVABLE = """
def body() -> "Missing": ...
def nested() -> "dict[str, Missing]": ...
def attribute() -> "typing.Missing": ...
def syntax() -> "1 +": ...
"""


@pytest.mark.parametrize("name", ["body", "nested", "attribute", "syntax"])
@pytest.mark.parametrize("prefix", ["", FUTURE])
def test_an_annotation_that_cannot_be_resolved(name: str, prefix: str) -> None:
    source = UNRESOLVABLE
    if prefix:
        source = prefix + source.replace('def syntax() -> "1 +"', "def syntax() -> '1 +'")
    body = vars(module_of(source, typing=typing))[name]
    codec = codec_of(body)
    message = error_of(codec, 1)
    assert f"of orders.{name} cannot be resolved" in message
    assert "Import or define the type at module level, outside `if TYPE_CHECKING:`" in message
    written = {"syntax": "1 +", "nested": "dict[str, Missing]"}.get(name, "Missing")
    assert written in message
    with pytest.raises(ResultError, match="cannot be resolved"):
        codec.load(1, WHERE)
    with pytest.raises(ResultError, match="cannot be resolved"):
        codec.prepare(WHERE)


def test_a_name_that_is_defined_later_is_found_later() -> None:
    module = module_of('def body() -> "Later": ...')
    assert "cannot be resolved" in error_of(codec_of(module.body), 1)
    module.Later = Receipt  # type: ignore[attr-defined]
    assert round_trip(codec_of(module.body), RECEIPT) == RECEIPT


def test_a_type_only_imported_for_type_checkers() -> None:
    source = FUTURE + textwrap.dedent("""
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from decimal import Decimal
        def body(n: Decimal) -> Decimal: ...
        def fine(n: Decimal) -> int: ...
    """)
    module = module_of(source)
    assert "name 'Decimal' is not defined" in error_of(codec_of(module.body), 1)
    assert round_trip(codec_of(module.fine), 1) == 1


if sys.version_info >= (3, 12):

    @pytest.mark.parametrize("prefix", ["", FUTURE])
    def test_type_parameters_and_aliases(prefix: str) -> None:
        module = module_of(
            prefix
            + textwrap.dedent("""
                type Amounts = dict[str, Decimal]
                type Count = int
                type Json = dict[str, Json] | list[Json] | str | int | None
                def first[T](items: list[T]) -> T: ...
                def many[T](items: list[T]) -> tuple[T, ...]: ...
                def amounts() -> Amounts: ...
                def count() -> Count: ...
                def anything() -> Json: ...
            """),
            Decimal=Decimal,
        )
        assert codec_of(module.first) is PLAIN
        assert round_trip(codec_of(module.many), (1, "a")) == (1, "a")
        assert "comes back as" in error_of(codec_of(module.many), (NOW,))
        assert round_trip(codec_of(module.amounts), {"a": Decimal(1)}) == {"a": Decimal(1)}
        assert round_trip(codec_of(module.count), 3) == 3
        assert "cannot be rebuilt" in error_of(codec_of(module.count), "3")
        assert round_trip(codec_of(module.anything), {"a": [1, None]}) == {"a": [1, None]}


# --- what importing costs -----------------------------------------------------------------------


def imported_by(code: str) -> set[str]:
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_plain_results_need_nothing_heavy() -> None:
    plain = textwrap.dedent("""
        import json, re, types, math
        from onward.core.values import codec_of
        def body(): ...
        codec_of(body).settle({"a": [1]}, "step 'a'")
        codec_of(lambda: 1).load({"a": [1]}, "step 'a'")
    """)
    modules = imported_by(plain)
    assert not modules & {"pydantic", "asyncio", "httpx", "logging", "onward.core.annotations"}
    annotated = plain.replace("body()", "body() -> dict[str, int | None]", 1)
    assert "pydantic" not in imported_by(annotated.replace("[1]}", "1}"))
