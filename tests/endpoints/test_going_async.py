"""What a request cannot wait for, the orchestrator finishes; the response is at an address."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.routing import Route

import onward
import onward.asgi
from onward import Checkpointing
from onward.protocol import headers
from onward_server.endpoint_invoker import EndpointInvoker
from onward_server.trace import CALL_ENDED
from tests.endpoints import shop
from tests.endpoints.conftest import Exchanged, Shop

ME = {"authorization": "me"}


def test_a_sleep(the_shop: Shop, driver: str) -> None:
    answer = the_shop.ask(
        "POST", f"/{driver}/checkout/paris?nap=0.05", json={"items": ["a"]}, headers=ME
    )
    assert [earlier.status_code for earlier in answer.history] == [302]
    assert (answer.status_code, answer.json()) == (201, {"total": 5})
    assert answer.headers["x-shop"] == "paris"
    view = the_shop.only_run()
    assert answer.history[0].headers["x-run-id"] == view.run_id
    assert set(map(str, shop.seen)) == {str(("paris", ["a"], "me", 0.05, view.run_id))}
    assert len(shop.seen) >= 2, "the request was sent again"
    assert shop.done == {"price": 1, "count": 1}


def test_an_event(the_shop: Shop, driver: str) -> None:
    first = the_shop.ask("GET", f"/{driver}/go?how=event", follow=False)
    assert first.status_code == 302
    the_shop.send("shop/paid", {"amount": 40})
    assert the_shop.ask("GET", first.headers["location"]).json() == {"value": 42}
    assert shop.done["first"] == shop.done["second"] == 1


def test_a_sleep_beside_a_step(the_shop: Shop, driver: str) -> None:
    answer = the_shop.ask("GET", f"/{driver}/go?how=mixed")
    assert (answer.status_code, answer.json()) == (200, {"value": 2})
    assert shop.done["first"] == shop.done["beside"] == shop.done["second"] == 1


def test_a_step_that_fails_is_tried_again(the_shop: Shop, driver: str) -> None:
    shop.failures["second"] = 2
    answer = the_shop.ask("GET", f"/{driver}/go")
    assert [earlier.status_code for earlier in answer.history] == [302]
    assert (answer.status_code, answer.json()) == (200, {"value": 2})
    assert (shop.done["first"], shop.done["second"]) == (1, 3)


def test_a_step_that_keeps_failing_fails_the_run(the_shop: Shop, driver: str) -> None:
    the_shop.open(retries=1)
    shop.failures["second"] = 100
    answer = the_shop.ask("GET", f"/{driver}/go")
    assert answer.status_code == 500
    assert answer.json()["status"] == "Failed"
    assert answer.json()["error"]["message"] == "second fails"
    assert shop.done["second"] == 2
    assert the_shop.only_run().status == "Failed"


def test_a_handler_that_fails_is_tried_again(the_shop: Shop, driver: str) -> None:
    shop.failures["handler"] = 2
    answer = the_shop.ask("GET", f"/{driver}/go")
    assert [earlier.status_code for earlier in answer.history] == [302]
    assert (answer.status_code, answer.json()) == (200, {"value": 2})
    assert (shop.done["first"], shop.done["second"]) == (1, 1)
    assert shop.done["handler"] >= 3


def test_the_deadline(the_shop: Shop, driver: str) -> None:
    """The step that does not fit is cut, and comes first in the next call."""
    the_shop.open(checkpointing=Checkpointing(max_runtime="400ms"))
    first = the_shop.ask("GET", f"/{driver}/go?how=wait", follow=False)
    assert first.status_code == 302
    shop.gate.set()
    assert the_shop.ask("GET", first.headers["location"]).json() == {"value": 2}
    assert shop.done["first"] == shop.done["second"] == 1


@pytest.mark.parametrize("how", ["text", "bytes", "cookies"])
def test_any_response_is_kept(the_shop: Shop, driver: str, how: str) -> None:
    shop.failures["second"] = 1
    answer = the_shop.ask("GET", f"/{driver}/go?how={how}")
    assert len(answer.history) == 1
    if how == "text":
        assert (answer.status_code, answer.text) == (202, "straße")
    elif how == "bytes":
        assert answer.content == b"\xff\x00\x01"
        assert answer.headers["content-type"] == "image/x-test"
    else:
        assert len(answer.headers.get_list("set-cookie")) == 2


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_a_form(the_shop: Shop, driver: str, kind: str) -> None:
    fields = {"name": 'Zoë "Z" & co', "size": "7"}
    if kind == "urlencoded":
        answer = the_shop.ask("POST", f"/{driver}/form", data=fields)
    else:
        parts = {name: (None, value) for name, value in fields.items()}
        answer = the_shop.ask("POST", f"/{driver}/form", files=parts)
    assert len(answer.history) == 1
    assert answer.json() == {"name": 'Zoë "Z" & co', "size": 7}


def test_a_token_instead_of_a_redirect(the_shop: Shop, driver: str) -> None:
    the_shop.open(on_async="token")
    answer = the_shop.ask("GET", f"/{driver}/go?how=mixed")
    assert answer.status_code == 200
    run_id, token = answer.json()["run_id"], answer.json()["token"]
    path = f"{the_shop.api_url}/v1/checkpoint/{run_id}/output"
    assert the_shop.ask("GET", path, params={"token": token}).json() == {"value": 2}


def test_an_address_of_ones_own(the_shop: Shop, driver: str) -> None:
    the_shop.open(on_async=lambda run_id, token: f"/runs/{run_id}?t={len(token) > 20}")
    answer = the_shop.ask("GET", f"/{driver}/go?how=mixed", follow=False)
    run_id = answer.headers["x-run-id"]
    assert (answer.status_code, answer.headers["location"]) == (302, f"/runs/{run_id}?t=True")
    assert the_shop.only_run().status == "Completed"


@pytest.mark.parametrize("buffered", [1, 10])
def test_tasks_of_a_run_that_goes_on_run_once(the_shop: Shop, driver: str, buffered: int) -> None:
    from tests.support.loops import eventually

    the_shop.open(checkpointing=Checkpointing(buffered_steps=buffered))
    answer = the_shop.ask("GET", f"/{driver}/go?how=mixed")
    assert answer.json() == {"value": 2}
    eventually(lambda: shop.done["background"] > 0, "the task did not run")
    assert shop.done["background"] == 1


def test_an_invoked_function(
    the_shop: Shop, driver: str, servers: tuple[Exchanged, Exchanged]
) -> None:
    """An endpoint beside the functions of its app, one of which it invokes."""
    api, app = FastAPI(), the_shop.app

    @app.function("double", trigger=onward.Event("shop/double"))
    async def double(ctx: onward.Context) -> int:
        return await ctx.step.run("double", lambda: ctx.event.data["n"] * 2)

    if driver == "async":

        @api.get("/twice")
        @onward.endpoint(app, "twice")
        async def twice(ctx: onward.Context, n: int) -> dict[str, int]:
            return {"twice": await ctx.step.invoke("double", double, data={"n": n})}
    else:

        @api.get("/twice")
        @onward.endpoint(app, "twice")
        def twice_blocking(ctx: onward.BlockingContext, n: int) -> dict[str, int]:
            return {"twice": ctx.step.invoke("double", double, data={"n": n})}

    api.router.routes.append(Route("/api/inngest", onward.asgi.serve(app)))
    servers[0].asgi = api
    assert the_shop.ask("PUT", "/api/inngest").status_code == 200
    answer = the_shop.ask("GET", "/twice?n=21")
    assert [hop.status_code for hop in answer.history] == [302]
    assert answer.json() == {"twice": 42}


def test_a_first_step_that_has_to_wait(the_shop: Shop, driver: str) -> None:
    """The run is created with what it waits for."""
    answer = the_shop.ask("POST", f"/{driver}/form", data={"name": "x", "size": "1"})
    assert [hop.status_code for hop in answer.history] == [302]
    assert answer.json() == {"name": "x", "size": 1}


@pytest.mark.parametrize("how", ["", "mixed", "parallel", "text"])
def test_an_orchestrator_that_tells_no_attempts(
    the_shop: Shop, driver: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Inngest servers do not: each call answers for one step, or plans several."""
    made = EndpointInvoker._headers

    def without(self: EndpointInvoker, *arguments: Any) -> dict[str, str]:
        fields = made(self, *arguments)
        del fields[headers.ATTEMPT]
        return fields

    monkeypatch.setattr(EndpointInvoker, "_headers", without)
    calls: list[Any] = []
    the_shop.orchestrator.subscribe(
        lambda told: calls.append(told) if told.kind == CALL_ENDED else None
    )
    shop.failures["first"] = 1
    answer = the_shop.ask("GET", f"/{driver}/go?how={how}")
    assert [hop.status_code for hop in answer.history] == [302]
    assert answer.text == ("straße" if how == "text" else '{"value":2}')
    assert shop.done["first"] == 2
    steps = {"mixed": ["beside"], "parallel": ["one", "two", "three"]}.get(how, [])
    assert all(shop.done[name] == 1 for name in [*steps, "second"])
    for call in calls:
        ran = [op for op in call.data["ops"] if op["op"] == "StepRun"]
        assert len(ran) <= 1, call.data["ops"]
