"""A handler whose steps all end is answered as if there were no steps, and its run is kept."""

from __future__ import annotations

import pytest

from onward import Checkpointing
from tests.endpoints import shop
from tests.endpoints.conftest import Shop

ME = {"authorization": "me"}


def test_the_caller_gets_the_handlers_own_response(the_shop: Shop, driver: str) -> None:
    answer = the_shop.ask(
        "POST", f"/{driver}/checkout/paris", json={"items": ["a", "b"]}, headers=ME
    )
    assert (answer.status_code, answer.json()) == (201, {"total": 10})
    assert answer.headers["x-shop"] == "paris"
    assert answer.history == []
    view = the_shop.only_run()
    assert view.run_id == answer.headers["x-run-id"]
    assert view.status == "Completed"
    assert view.result["status"] == 201
    assert view.result["body"] == '{"total":10}'
    assert the_shop.steps(view.run_id) == ["onward:headers", "price", "count"]
    assert shop.done == {"price": 1, "count": 1}


@pytest.mark.parametrize("how", ["text", "bytes", "cookies", "parallel"])
def test_any_response_goes_through(the_shop: Shop, driver: str, how: str) -> None:
    answer = the_shop.ask("GET", f"/{driver}/go?how={how}")
    assert answer.history == []
    _check(answer, how)
    assert the_shop.only_run().status == "Completed"


def _check(answer: object, how: str) -> None:
    import httpx

    assert isinstance(answer, httpx.Response)
    if how == "text":
        assert (answer.status_code, answer.text) == (202, "straße")
        assert answer.headers["x-kind"] == "text"
    elif how == "bytes":
        assert answer.content == b"\xff\x00\x01"
        assert answer.headers["content-type"] == "image/x-test"
    elif how == "cookies":
        assert len(answer.headers.get_list("set-cookie")) == 2
    else:
        assert answer.json() == {"value": 2}


def test_background_tasks_run_after_the_answer(the_shop: Shop, driver: str) -> None:
    from tests.support.loops import eventually

    the_shop.ask("GET", f"/{driver}/go")
    eventually(lambda: shop.done["background"] == 1, "the task did not run")


@pytest.mark.parametrize("status", [402, 404])
def test_an_http_exception_is_the_answer(the_shop: Shop, driver: str, status: int) -> None:
    answer = the_shop.ask("GET", f"/{driver}/go?status={status}")
    assert answer.status_code == status
    assert answer.json() == {"detail": f"asked for {status}"}
    assert answer.headers["x-reason"] == "asked"
    view = the_shop.only_run()
    assert (view.status, view.result["status"]) == ("Completed", status)


def test_an_error_that_the_application_answers_is_the_answer(the_shop: Shop, driver: str) -> None:
    answer = the_shop.ask("GET", f"/{driver}/go?how=busy")
    assert (answer.status_code, answer.json()) == (503, {"busy": True})
    assert answer.headers["retry-after"] == "7"
    assert the_shop.only_run().status == "Failed", "an answer of 500 and more is a failure"


def test_a_request_that_does_not_validate_makes_no_run(the_shop: Shop, driver: str) -> None:
    answer = the_shop.ask("POST", f"/{driver}/checkout/x", json={"items": 3}, headers=ME)
    assert answer.status_code == 422
    refused = the_shop.ask("POST", f"/{driver}/checkout/x", json={"items": []})
    assert refused.status_code == 401
    assert the_shop.run_ids() == []


def test_a_handler_that_fails_for_good_raises(the_shop: Shop, driver: str) -> None:
    the_shop.open(retries=0)
    shop.failures["handler"] = 1
    answer = the_shop.ask("GET", f"/{driver}/go")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert the_shop.only_run().status == "Failed"


@pytest.mark.parametrize(
    "checkpointing",
    [Checkpointing(buffered_steps=10), Checkpointing(mode="pipelined")],
    ids=["buffered", "pipelined"],
)
def test_every_way_of_checkpointing_keeps_every_step(
    the_shop: Shop, driver: str, checkpointing: Checkpointing
) -> None:
    the_shop.open(checkpointing=checkpointing)
    answer = the_shop.ask("GET", f"/{driver}/go?how=parallel")
    assert answer.json() == {"value": 2}
    view = the_shop.only_run()
    assert view.status == "Completed"
    assert sorted(the_shop.steps(view.run_id)) == ["first", "one", "second", "three", "two"]


def test_many_requests_at_once_have_a_run_each(the_shop: Shop, driver: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    the_shop.open()
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(the_shop.ask, "GET", f"/{driver}/go") for _ in range(24)]
    assert {answer.result().json()["value"] for answer in asked} == {2}
    runs = {answer.result().headers["x-run-id"] for answer in asked}
    assert runs == set(the_shop.run_ids())
    assert len(runs) == 24
    assert shop.done["first"] == shop.done["second"] == 24
