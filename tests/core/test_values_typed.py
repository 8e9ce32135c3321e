# No `from __future__ import annotations`: annotations here are objects, as in most user code.
import dataclasses
import json
import math
import uuid
from collections.abc import Awaitable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from onward.core.values import codec_for
from onward.errors import ResultError
from tests.core.value_cases import (
    NOW,
    RECEIPT,
    TRIP,
    WHERE,
    Box,
    Card,
    Cash,
    Color,
    Item,
    Leg,
    Level,
    Plain,
    Point,
    Receipt,
    Row,
    Stamp,
    Trip,
    error_of,
    round_trip,
)

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
