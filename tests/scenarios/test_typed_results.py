"""Results are what the body's annotation says, on the first run and in every replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Optional, Union
from uuid import UUID

import pytest
from pydantic import BaseModel

from onward import BlockingContext, Context
from tests.support.harness import World


class Colour(Enum):
    RED = "red"


class Line(BaseModel):
    sku: str
    price: Decimal
    at: datetime


class Order(BaseModel):
    lines: list[Line]
    colour: Colour
    note: str | None = None


class Refund(BaseModel):
    kind: str = "refund"
    amount: int


@dataclass
class Point:
    x: float
    tags: frozenset[str] = field(default_factory=frozenset)


@dataclass
class Route:
    points: list[Point]
    takes: timedelta


NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)


def an_order() -> Order:
    return Order(lines=[Line(sku="a", price=Decimal("1.10"), at=NOON)], colour=Colour.RED)


def a_route() -> Route:
    return Route([Point(1.5, frozenset({"x"}))], timedelta(minutes=3))


def an_instant() -> datetime:
    return NOON


def a_day() -> date:
    return NOON.date()


def nothing() -> Optional[Order]:  # noqa: UP045 - this spelling too
    return None


def something() -> Optional[Order]:  # noqa: UP045 - this spelling too
    return an_order()


def one_of_them() -> Union[Order, Refund]:  # noqa: UP007 - this spelling too
    return Refund(amount=3)


def another_of_them() -> int | str | list[Refund]:
    return [Refund(amount=4)]


def quoted() -> "dict[str, tuple[int, Order]]":  # noqa: UP037 - a string in a string
    return {"a": (1, an_order())}


def an_id() -> UUID:
    return UUID(int=7)


def a_set() -> set[int]:
    return {1, 2}


async def async_order() -> Order:
    return an_order()


BODIES: list[Callable[[], Any]] = [
    an_order,
    a_route,
    an_instant,
    a_day,
    nothing,
    something,
    one_of_them,
    another_of_them,
    quoted,
    an_id,
    a_set,
    async_order,
]


def test_results_are_the_same_on_the_first_run_and_in_a_replay(world: World) -> None:
    seen: list[list[Any]] = []

    async def in_async(ctx: Context) -> int:
        seen.append([await ctx.step.run(body.__name__, body) for body in BODIES])
        await ctx.step.sleep("nap", "5ms")
        return len(seen)

    def in_blocking(ctx: BlockingContext) -> int:
        seen.append([ctx.step.run(body.__name__, body) for body in BODIES])
        ctx.step.sleep("nap", "5ms")
        return len(seen)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == 2
    assert run.once
    first, replayed = seen
    expected = [an_order() if body is async_order else body() for body in BODIES]
    assert first == replayed == expected
    assert [type(value) for value in first] == [type(value) for value in expected]


def test_the_functions_own_result_may_be_a_model(world: World) -> None:
    async def in_async(ctx: Context) -> Order:
        return await ctx.step.run("order", an_order)

    def in_blocking(ctx: BlockingContext) -> Order:
        return ctx.step.run("order", an_order)

    world.define(in_async, in_blocking)
    assert world.run().result == an_order().model_dump(mode="json")


def untyped() -> Any:
    return {"when": NOON}


def wrongly_typed() -> list[int]:
    return ["a"]  # type: ignore[list-item]


@pytest.mark.parametrize(("body", "part"), [(untyped, "result.when"), (wrongly_typed, "result[0]")])
def test_what_cannot_be_rebuilt_fails_on_the_first_run(
    world: World, body: Callable[[], Any], part: str
) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.run("bad", body)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("bad", body)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "ResultError"
    assert part in run.error["message"]
    assert run.batches == []


def test_changing_a_result_in_place_changes_no_replay(world: World) -> None:
    seen: list[Any] = []

    def numbers() -> list[int]:
        return [1, 2]

    async def in_async(ctx: Context) -> Any:
        result = await ctx.step.run("numbers", numbers)
        seen.append(list(result))
        result.append(3)
        await ctx.step.sleep("nap", "5ms")
        return result

    def in_blocking(ctx: BlockingContext) -> Any:
        result = ctx.step.run("numbers", numbers)
        seen.append(list(result))
        result.append(3)
        ctx.step.sleep("nap", "5ms")
        return result

    world.define(in_async, in_blocking)
    assert world.run().result == [1, 2, 3]
    assert seen == [[1, 2], [1, 2]]
