"""The orchestrator does not answer, or refuses: the handler still answers its caller."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from onward import Checkpointing
from onward.transport.channel import LANES
from tests.endpoints import shop
from tests.endpoints.conftest import Exchanged, Shop
from tests.support.loops import eventually


@pytest.fixture
def between(servers: tuple[Exchanged, Exchanged], the_shop: Shop) -> Callable[[Any], None]:
    """Puts `wrong(n, path)` before the orchestrator's API.

    It gives a status to answer the `n`-th checkpoint with, or None to let it through; -1 lets it
    through and loses the answer.
    """

    def put(wrong: Callable[[int, str], int | None]) -> None:
        api, count, lock = servers[1].asgi, [0], threading.Lock()

        async def faulty(scope: Any, receive: Any, send: Any) -> None:
            status = None
            if scope["type"] == "http" and scope["path"].startswith("/v1/checkpoint"):
                with lock:
                    count[0] += 1
                status = wrong(count[0], scope["path"])
            if status is None:
                await api(scope, receive, send)
                return
            if status < 0:
                await api(scope, receive, _nowhere)
                status = 503
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

        servers[1].asgi = faulty

    return put


async def _nowhere(_message: Any) -> None:
    """What is sent here is lost."""


Between = Callable[[Callable[[int, str], int | None]], None]


@pytest.mark.parametrize("status", [503, 400, 404])
def test_the_handler_answers_without_its_orchestrator(
    the_shop: Shop, driver: str, between: Between, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    between(lambda _n, _path: status)
    with caplog.at_level(logging.WARNING, "onward"):
        answer = the_shop.ask("GET", f"/{driver}/go?how=parallel")
    assert (answer.status_code, answer.json()) == (200, {"value": 2})
    assert answer.history == []
    assert shop.done["first"] == shop.done["one"] == shop.done["second"] == 1
    assert the_shop.run_ids() == []
    assert "could not be checkpointed" in caplog.text
    assert "could not be told its orchestrator" in caplog.text


def test_what_has_to_wait_is_refused_with_a_time_to_come_back(
    the_shop: Shop, driver: str, between: Between
) -> None:
    between(lambda _n, _path: 503)
    answer = the_shop.ask("GET", f"/{driver}/go?how=event")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "orchestrator cannot be reached" in answer.json()["message"]


def test_the_steps_of_an_outage_are_handed_over_after_it(
    the_shop: Shop, driver: str, between: Between
) -> None:
    failing = {"until": 6}
    between(lambda n, _path: 500 if n < failing["until"] else None)
    answer = the_shop.ask("GET", f"/{driver}/go?how=parallel")
    assert answer.json() == {"value": 2}
    view = the_shop.only_run()
    assert view.status == "Completed"
    assert sorted(the_shop.steps(view.run_id)) == ["first", "one", "second", "three", "two"]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_an_answer_that_is_lost_repeats_nothing(
    the_shop: Shop, driver: str, between: Between, lost: int
) -> None:
    between(lambda n, _path: -1 if n == lost else None)
    answer = the_shop.ask("GET", f"/{driver}/go")
    assert answer.json() == {"value": 2}
    view = the_shop.only_run()
    assert view.status == "Completed"
    assert the_shop.steps(view.run_id) == ["first", "second"]
    assert shop.done["first"] == shop.done["second"] == 1


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_an_answer_that_is_lost_on_the_way_to_async_repeats_nothing(
    the_shop: Shop,
    driver: str,
    between: Between,
    lost: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    between(lambda n, _path: -1 if n == lost else None)
    with caplog.at_level(logging.WARNING, "onward"):
        answer = the_shop.ask("GET", f"/{driver}/go?how=mixed")
    assert [hop.status_code for hop in answer.history] == [302]
    assert answer.json() == {"value": 2}
    assert the_shop.only_run().status == "Completed"
    assert shop.done["first"] == shop.done["beside"] == shop.done["second"] == 1
    assert caplog.text == ""


def test_requests_remember_an_outage(the_shop: Shop, driver: str, between: Between) -> None:
    """The first request waits for an orchestrator that is away; those after it hardly do."""
    tries: list[str] = []

    def away(_n: int, path: str) -> int:
        tries.append(path)
        return 503

    between(away)
    the_shop.open(checkpointing=Checkpointing(buffered_steps=10))
    counts = []
    for _ in range(2):
        before = len(tries)
        the_shop.ask("GET", f"/{driver}/go")
        counts.append(len(tries) - before)
    assert counts[1] < counts[0]


def test_a_run_that_is_cancelled_starts_no_further_step(the_shop: Shop, driver: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(the_shop.ask, "GET", f"/{driver}/go?how=wait")
        eventually(lambda: shop.done["wait"] == 1, "the body did not begin")
        [run_id] = the_shop.run_ids()
        the_shop.ask("DELETE", f"{the_shop.api_url}/v1/runs/{run_id}")
        shop.gate.set()
        answer = asked.result()
    assert [earlier.status_code for earlier in answer.history] == [302]
    assert (answer.status_code, answer.json()["status"]) == (500, "Cancelled")
    assert shop.done["second"] == 0


def test_the_checkpoints_of_others_do_not_hold_a_caller_up(
    the_shop: Shop, driver: str, servers: tuple[Exchanged, Exchanged]
) -> None:
    """They take every connection there is, and are not answered."""
    api, released, held, ended = servers[1].asgi, asyncio.Event(), list[str](), list[str]()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/async"):
            held.append(scope["path"])
            await released.wait()
        await api(scope, receive, send)

    async def release() -> None:
        released.set()

    servers[1].asgi = slow
    for _ in range(LANES):
        the_shop.app.channel.submit(
            "/v1/checkpoint/01M/async", b"{}", lambda _, detail: ended.append(detail)
        )
    try:
        eventually(lambda: len(held) == LANES, "not every lane is taken")
        answer = the_shop.ask("GET", f"/{driver}/go")
        assert ended == []
    finally:
        servers[1].loops.run(release())
    assert (answer.status_code, answer.json()) == (200, {"value": 2})
