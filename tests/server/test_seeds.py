"""A request that is sent again makes the same events, and they count once."""

from __future__ import annotations

import asyncio

import pytest

from onward_server import seeds
from tests.server.conftest import Start
from tests.server.driving import client_of

SEED = "1795403261855,GjXisEs/PwHG4g=="


def test_ids_as_the_recorded_server_made_them() -> None:
    """The recording `signed-run`: this seed, and this event id."""
    assert seeds.seeded_ids(SEED, 1) == ["01M835Z9WZ38TY5C2B7WZG3HQ3"]


def test_the_last_word_overflows_into_nothing() -> None:
    found = seeds.seeded_ids("1,AAAAAAAA/////w==", 2)
    assert found == ["0000000001" + "0" * 16, "0000000001" + "0" * 15 + "1"]


@pytest.mark.parametrize(
    "seed",
    [
        None,
        "",
        "1",
        "x,GjXisEs/PwHG4g==",
        "0,GjXisEs/PwHG4g==",
        "1,GjXi",
        "1,!!",
        "-1,GjXisEs/PwHG4g==",
    ],
)
def test_what_is_no_seed(seed: str | None) -> None:
    assert seeds.seeded_ids(seed, 1) is None


async def test_a_request_that_is_sent_again(start: Start) -> None:
    orchestrator = await start()
    client = client_of(orchestrator)
    batch = [{"name": "app/f", "data": {"n": n}} for n in range(3)]

    async def post() -> list[str]:
        answer = await client.post("/e/k", json=batch, headers={"x-inngest-event-id-seed": SEED})
        assert answer.status_code == 200
        return list(answer.json()["ids"])

    answers = await asyncio.gather(*(post() for _ in range(5)))
    assert len(set(answers[0])) == 3
    assert answers == [answers[0]] * 5
    found = (await client.get("/v1/events?limit=1000")).json()["data"]
    assert sorted(each["internal_id"] for each in found) == sorted(answers[0])
