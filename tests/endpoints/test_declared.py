"""How an endpoint is declared, and what the framework makes of it."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import onward
from onward import App, ConfigurationError, Event
from onward.errors import MissingExtraError
from tests.endpoints import shop
from tests.endpoints.conftest import Exchanged, Shop


async def good(ctx: onward.Context) -> None: ...
async def blocking_context(ctx: onward.BlockingContext) -> None: ...
def async_context(ctx: onward.Context) -> None: ...
async def no_context(request: Request) -> None: ...
async def two_contexts(one: onward.Context, two: onward.Context) -> None: ...


@pytest.mark.parametrize(
    ("options", "handler", "named"),
    [
        ({"retries": 21}, good, "retries of endpoint 'pay' of app 'shop' is 21"),
        ({"retries": True}, good, "retries of endpoint 'pay'"),
        ({"checkpointing": False}, good, "checkpointing of endpoint 'pay' of app 'shop' is off"),
        ({"checkpointing": "yes"}, good, "checkpointing='yes'"),
        ({"headers": "authorization"}, good, "headers of endpoint 'pay'"),
        ({"headers": [1]}, good, "headers of endpoint 'pay'"),
        ({"on_async": "later"}, good, "on_async of endpoint 'pay'"),
        ({"parallel": "no"}, good, "parallel of endpoint 'pay'"),
        ({}, blocking_context, "'ctx' is onward.BlockingContext. Write onward.Context"),
        ({}, async_context, "'ctx' is onward.Context. Write onward.BlockingContext"),
        ({}, no_context, "has 0 parameters for its context"),
        ({}, two_contexts, "has 2 parameters for its context"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], handler: Any, named: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        onward.endpoint(App("shop"), "pay", **options)(handler)
    assert named in raised.value.message


@pytest.mark.parametrize("id_", ["", "a b", "a/b", 3])
def test_an_id_that_is_none_is_refused(id_: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not the id of an endpoint"):
        onward.endpoint(App("shop"), id_)(good)


def test_the_id_of_a_function_is_taken() -> None:
    app = App("shop")

    @app.function("pay", trigger=Event("x"))
    async def pay(ctx: onward.Context) -> None: ...

    with pytest.raises(ConfigurationError, match="has a function or an endpoint 'pay' already"):
        onward.endpoint(app, "pay")(good)
    onward.endpoint(app, "refund")(good)
    with pytest.raises(ConfigurationError, match="an endpoint 'refund' already"):
        onward.endpoint(app, "refund")(good)


def test_a_missing_framework_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette.requests", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'onward\[server\]'"):
        onward.endpoint(App("shop"), "pay")(good)


def test_the_framework_sees_the_handler_without_its_context(the_shop: Shop) -> None:
    schema = the_shop.ask("GET", "/openapi.json").json()
    operation = schema["paths"]["/async/checkout/{shop}"]["post"]
    assert {p["name"] for p in operation["parameters"]} == {"shop", "nap"}
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "Cart"
    )
    created = operation["responses"]["201"]["content"]["application/json"]["schema"]
    assert created["$ref"].endswith("Receipt")
    assert operation["operationId"].startswith("checkout_")


def test_a_request_that_is_too_large_to_keep_is_refused(the_shop: Shop, driver: str) -> None:
    answer = the_shop.ask(
        "POST",
        f"/{driver}/checkout/x",
        json={"items": ["x" * 3_000_000]},
        headers={"authorization": "me"},
    )
    assert answer.status_code == 413
    assert "at most 2,900,000" in answer.json()["message"]
    assert shop.done == {}


def test_starlette_routes(the_shop: Shop, servers: tuple[Exchanged, Exchanged]) -> None:
    @onward.endpoint(the_shop.app, "starlette-async")
    async def in_async(request: Request, ctx: onward.Context) -> Response:
        body = await request.json()
        value = await ctx.step.run("step", lambda: body["n"] + 1)
        if request.query_params.get("nap"):
            await ctx.step.sleep("nap", 0.01)
        if value > 100:
            raise HTTPException(409, "too much")
        return JSONResponse({"value": value, "name": request.path_params["name"]})

    @onward.endpoint(the_shop.app, "starlette-blocking")
    def in_blocking(request: Request, ctx: onward.BlockingContext) -> Response:
        value = ctx.step.run("step", lambda: 1)
        if request.query_params.get("nap"):
            ctx.step.sleep("nap", 0.01)
        return JSONResponse({"value": value, "name": request.path_params["name"]})

    servers[0].asgi = Starlette(
        routes=[
            Route("/async/{name}", in_async, methods=["POST"]),
            Route("/blocking/{name}", in_blocking, methods=["PUT"]),
        ]
    )
    for query, hops in (("", 0), ("?nap=1", 1)):
        answer = the_shop.ask("POST", f"/async/zoe{query}", json={"n": 1})
        assert (len(answer.history), answer.json()) == (hops, {"value": 2, "name": "zoe"})
        refused = the_shop.ask("POST", f"/async/zoe{query}", json={"n": 100})
        assert (refused.status_code, refused.text) == (409, "too much")
        answer = the_shop.ask("PUT", f"/blocking/zoe{query}")
        assert (len(answer.history), answer.json()) == (hops, {"value": 1, "name": "zoe"})
