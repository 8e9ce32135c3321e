"""Over what every scenario runs: each dimension's values, pairwise or all together.

Pairwise: every pair of values of two dimensions occurs in some combination. With
ONWARD_REQUIRE_ALL=1 every combination is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product

import pytest

from tests.support.tools import all_required

#: A test gets the dimensions whose fixtures it asks for. One that is added here (and whose fixture
#: returns `request.param`) joins all scenarios.
DIMENSIONS: dict[str, Sequence[str]] = {
    "driver": ("async", "blocking"),
    "entry": ("asgi", "wsgi", "lambda"),
}

Row = tuple[str, ...]


def everything(dimensions: Mapping[str, Sequence[str]]) -> list[Row]:
    """Every combination."""
    return list(product(*dimensions.values()))


def pairwise(dimensions: Mapping[str, Sequence[str]]) -> list[Row]:
    """Few combinations in which every pair of values of two dimensions occurs."""
    rows = everything(dimensions)
    left = {pair for row in rows for pair in _pairs(row)}
    chosen: list[Row] = []
    while left:
        best = max(rows, key=lambda row: len(left & _pairs(row)))
        chosen.append(best)
        left -= _pairs(best)
    return chosen or rows


def _pairs(row: Iterable[str]) -> set[tuple[tuple[int, str], tuple[int, str]]]:
    return set(combinations(enumerate(row), 2))


def spread(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test over the dimensions that it asks for and does not choose itself."""
    own = {
        name.strip()
        for mark in metafunc.definition.iter_markers("parametrize")
        for name in (
            mark.args[0].split(",") if isinstance(mark.args[0], str) else list(mark.args[0])
        )
    }
    asked = {
        name: values
        for name, values in DIMENSIONS.items()
        if name in metafunc.fixturenames and name not in own
    }
    if asked:
        rows = everything(asked) if all_required() else pairwise(asked)
        metafunc.parametrize(list(asked), rows, indirect=True)
