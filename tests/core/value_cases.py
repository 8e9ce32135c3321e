"""Types, values and checks that the tests of results share."""

# No `from __future__ import annotations`: annotations here are objects, as in most user code.
import dataclasses
import enum
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, Literal, NamedTuple, NewType, TypeVar

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from onward.core.values import Codec
from onward.errors import ResultError

T = TypeVar("T")
WHERE = "step 'charge'"


class Plain:
    pass


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
