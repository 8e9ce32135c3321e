"""The matrix that scenarios run over: pairwise leaves no pair out, and is smaller."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from tests.support.matrix import DIMENSIONS, everything, pairwise, rotating

FOUR = {
    "driver": ("async", "blocking"),
    "entry": ("asgi", "wsgi", "lambda"),
    "checkpointing": ("classic", "confirmed", "buffered", "pipelined"),
    "server": ("memory", "file"),
}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_pair_of_values_occurs(count: int) -> None:
    dimensions = dict(list(FOUR.items())[:count])
    rows = pairwise(dimensions)
    for one, other in combinations(range(count), 2):
        values = list(dimensions.values())
        seen = {(row[one], row[other]) for row in rows}
        assert seen == set(product(values[one], values[other]))
    assert set(rows) <= set(everything(dimensions))
    for number, each in enumerate(dimensions.values()):
        assert {row[number] for row in rows} == set(each)


def test_it_is_much_less_than_everything() -> None:
    assert len(everything(FOUR)) == 48
    assert len(pairwise(FOUR)) <= 14


def test_values_of_the_last_dimension_take_turns() -> None:
    rows = rotating(DIMENSIONS)
    assert len(rows) == 6
    assert {row[:2] for row in rows} == set(product(*list(DIMENSIONS.values())[:2]))
    assert {row[2] for row in rows} == set(DIMENSIONS["checkpointing"])
    few = {"entry": ("asgi", "wsgi", "lambda"), "checkpointing": ("a", "b", "c", "d")}
    assert rotating(few) == [("asgi", "a"), ("wsgi", "b"), ("lambda", "c"), ("asgi", "d")]
