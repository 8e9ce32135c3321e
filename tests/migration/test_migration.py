"""A run that began on PyPI `inngest` ends on Onward, and no step of it runs twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.migration.conftest import Moving

#: The result of each run, and the steps that ran there and here.
EXPECTED: dict[str, tuple[Any, set[str], set[str]]] = {
    "sleeps": ({"amount": 12}, {"charge", "mail"}, {"ship"}),
    "encrypted": ({"card": "4111"}, {"seal"}, {"open"}),
    "in-blocking": ({"amount": 12}, {"charge"}, {"ship"}),
    "in-parallel": (
        [0, 1, 2, 0, 1, 2],
        {f"part-{n}" for n in range(3)},
        {f"more-{n}" for n in range(3)},
    ),
    "sleeps-in-parallel": (2, {"beside"}, {"after"}),
    "cut-off": ([1, 2], {"done"}, {"cut"}),
    "races": (2, {"beside"}, {"after"}),
    "waits": (["yes", "again"], {"ask"}, set()),
    "repeats": (
        [0, 1, 2, 3, 4],
        {f"again-{n}" for n in range(3)},
        {f"again-{n}" for n in range(3, 5)},
    ),
    "errs": ("ValueError: no stock", {"refuse"}, {"tell"}),
    "models": ({"number": 7, "paid": "2026-01-31T09:00:00Z"}, {"pay"}, set()),
    "invokes": ([0, 1], {"grow"}, {"grow"}),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_it_ends_with_its_result(name: str, moved: Moving) -> None:
    view = moved.ended(name)
    assert view.status == "Completed", view.error
    assert view.result == EXPECTED[name][0]


def test_a_sent_event_is_not_sent_again(moved: Moving) -> None:
    view = moved.ended("sends")
    assert view.status == "Completed", view.error
    (event_id,) = view.result
    from onward_server import queries

    events = moved.loops.run(moved.orchestrator.store.read(lambda c: queries.list_events(c, 1000)))
    assert [event.event_id for event in events if event.name == "shop/told"] == [event_id]


def test_no_step_ran_twice(moved: Moving) -> None:
    for name in [*EXPECTED, "sends"]:
        moved.ended(name)
    expected: dict[tuple[str, str], int] = {}
    for _, there, here in EXPECTED.values():
        for sdk, labels in (("inngest", there), ("onward", here)):
            for label in labels:
                expected[sdk, label] = expected.get((sdk, label), 0) + 1
    assert dict(moved.traces()) == expected
