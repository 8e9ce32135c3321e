"""Cancelling many runs at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from onward_server import cancellations
from onward_server.store import RunRow
from tests.server.conftest import Start
from tests.server.driving import client_of

NOW_MS = 1_800_000_000_000
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)


def body(**changes: Any) -> dict[str, Any]:
    return {
        "app_id": "shop",
        "function_id": "pay",
        "started_before": NOW.isoformat(),
        **changes,
    }


def row(**changes: Any) -> RunRow:
    given = {
        "run_id": "01M",
        "function_id": "shop-pay",
        "event_id": "01E",
        "event_names": "a",
        "events": '[{"data":{"tenant":"acme"}}]',
        "version": 2,
        "status": "Running",
        "started_ms": NOW_MS - 1_000,
        "ended_ms": 0,
        "output": "",
    }
    return RunRow(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"app_id": ""}, "app_id is required"),
        ({"function_id": None}, "function_id is required"),
        ({"started_before": None}, "started_before is required"),
        ({"started_before": "soon"}, "started_before must be an instant, not 'soon'"),
        ({"started_before": "2099-01-01T00:00:00Z"}, "started_before must be in the past"),
        (
            {"started_after": (NOW + timedelta(seconds=1)).isoformat()},
            "started_after must be before started_before",
        ),
    ],
)
def test_what_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(cancellations.BadCancellationError, match=told):
        cancellations.parse_cancellation(body(**changes), NOW_MS)


@pytest.mark.parametrize(
    ("asked", "run", "covered"),
    [
        ({}, {}, True),
        ({"function_id": "shop-pay"}, {}, True),
        ({"function_id": "other"}, {}, False),
        ({}, {"function_id": "other-pay"}, False),
        ({}, {"started_ms": NOW_MS + 1}, False),
        ({"started_after": (NOW - timedelta(seconds=2)).isoformat()}, {}, True),
        ({"started_after": (NOW - timedelta(milliseconds=500)).isoformat()}, {}, False),
        ({"if": "event.data.tenant == 'acme'"}, {}, True),
        ({"if": "event.data.tenant == 'other'"}, {}, False),
        ({"if": "event.data.none == 1"}, {}, False),
    ],
)
def test_which_runs_are_meant(asked: dict[str, Any], run: dict[str, Any], covered: bool) -> None:
    wanted = cancellations.parse_cancellation(body(**asked), NOW_MS)
    assert wanted.covers(row(**run)) is covered


@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        (b"{", 400, "Invalid cancellation request"),
        (b"[]", 400, "app_id is required"),
        (
            b'{"app_id": "a", "function_id": "f", "started_before": "2020-01-01T00:00:00Z"}',
            404,
            "function not found",
        ),
    ],
)
async def test_answers(content: bytes, status: int, error: str, start: Start) -> None:
    client = client_of(await start())
    answer = await client.post("/v1/cancellations", content=content)
    assert answer.status_code == status
    assert answer.json() == {"error": error, "data": None, "status": status}
