"""Over what every scenario runs: each dimension's values, pairwise or all together.

Pairwise: every pair of values of two dimensions occurs in some combination; with each parameter of
a test's own, every driver with every entry, and every mode. With ONWARD_REQUIRE_ALL=1 every
combination is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product

import pytest

from onward import Checkpointing
from tests.support.tools import all_required

#: A test gets the dimensions whose fixtures it asks for. One that is added here (and whose fixture
#: returns `request.param`) joins all scenarios.
DIMENSIONS: dict[str, Sequence[str]] = {
    "driver": ("async", "blocking"),
    "entry": ("asgi", "wsgi", "lambda"),
    "checkpointing": ("classic", "confirmed", "buffered", "pipelined"),
}

#: The checkpointing options of the matrix, by name.
CHECKPOINTING: dict[str, bool | Checkpointing] = {
    "classic": False,
    "confirmed": True,
    "buffered": Checkpointing(buffered_steps=3),
    "pipelined": Checkpointing(mode="pipelined"),
}

#: `@pytest.mark.checkpointing("confirmed", reason="…")`: a scenario of these modes only. Without a
#: mode: it chooses its own options.
PIN = "checkpointing"

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


def rotating(dimensions: Mapping[str, Sequence[str]]) -> list[Row]:
    """Fewer still: every combination of all dimensions but the last, whose values take turns."""
    *most, last = dimensions.values()
    others = list(product(*most))
    count = max(len(others), len(last))
    return [(*others[n % len(others)], last[n % len(last)]) for n in range(count)]


def _pairs(row: Iterable[str]) -> set[tuple[tuple[int, str], tuple[int, str]]]:
    return set(combinations(enumerate(row), 2))


def _pinned(metafunc: pytest.Metafunc) -> dict[str, Sequence[str]]:
    """The modes that the test is about, where it says so; the innermost mark counts."""
    mark = metafunc.definition.get_closest_marker(PIN)
    if mark is None:
        return {}
    assert mark.kwargs.get("reason"), "a scenario of one mode has to say why"
    return {PIN: mark.args}


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
        for name, values in {**DIMENSIONS, **_pinned(metafunc)}.items()
        if values and name in metafunc.fixturenames and name not in own
    }
    if asked:
        # A test with parameters of its own runs for each of them in each combination.
        fewer = rotating if own and PIN in asked else pairwise
        rows = everything(asked) if all_required() else fewer(asked)
        metafunc.parametrize(list(asked), rows, indirect=True)
