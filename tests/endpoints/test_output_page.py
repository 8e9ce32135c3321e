"""An output page of the application's own. A response is for its caller: middleware leaves it."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, Response

import onward
from onward import App
from onward.middleware import EncryptionMiddleware, Middleware
from onward.protocol.endpoint import StoredResponse, decode_result, encode_result
from tests.endpoints.conftest import Exchanged, Shop

#: As it goes over the wire: UTF-8, which is not what HTTP's own text is.
FILE_NAME = "attachment; filename=żółw".encode()

MIDDLEWARE: dict[str, list[Middleware]] = {
    "plain": [],
    "encrypted": [EncryptionMiddleware("0123456789abcdef" * 4, strategy="onward/aes-256-gcm")],
}


@pytest.fixture(params=sorted(MIDDLEWARE))
def page(
    request: pytest.FixtureRequest, the_shop: Shop, servers: tuple[Exchanged, Exchanged]
) -> Shop:
    app = App("shop", orchestrator=the_shop.api_url, middleware=MIDDLEWARE[request.param])
    api = FastAPI()
    api.add_api_route("/output", onward.endpoint_output(app))

    def where(run_id: str, token: str) -> str:
        return f"/output?run_id={run_id}&token={token}"

    @api.get("/secret")
    @onward.endpoint(app, "secret", on_async=where)
    async def secret(ctx: onward.Context, fails: bool = False) -> dict[str, str]:
        found = await ctx.step.run("find", lambda: "the secret")
        await ctx.step.sleep("nap", 0.01)
        if fails:
            raise onward.NonRetriableError(found)
        return {"found": found}

    @api.get("/file")
    @onward.endpoint(app, "file", on_async=where)
    async def file(ctx: onward.Context) -> Response:
        await ctx.step.sleep("nap", 0.01)
        answer = Response("content")
        answer.raw_headers.append((b"content-disposition", FILE_NAME))
        return answer

    servers[0].asgi = api
    return the_shop


def test_the_page_gives_the_response(page: Shop) -> None:
    answer = page.ask("GET", "/secret")
    assert [hop.status_code for hop in answer.history] == [302]
    assert answer.url.path == "/output"
    assert (answer.status_code, answer.json()) == (200, {"found": "the secret"})
    assert answer.headers["content-type"] == "application/json"
    assert page.only_run().status == "Completed"


def test_the_page_passes_headers_on_as_they_are(page: Shop) -> None:
    answer = page.ask("GET", "/file")
    assert (answer.url.path, answer.status_code, answer.text) == ("/output", 200, "content")
    assert (b"content-disposition", FILE_NAME) in answer.headers.raw


def test_the_page_tells_of_a_failure(page: Shop) -> None:
    answer = page.ask("GET", "/secret?fails=true")
    assert (answer.status_code, answer.json()["status"]) == (500, "Failed")


def test_the_page_wants_the_token(page: Shop) -> None:
    answer = page.ask("GET", "/secret", follow=False)
    run_id = answer.headers["x-run-id"]
    assert page.ask("GET", "/output").status_code == 400
    assert page.ask("GET", f"/output?run_id={run_id}&token=x.y.z").status_code == 401
    assert page.ask("GET", f"/output?run_id=../{run_id}&token=x").status_code == 400


def test_the_page_says_when_nobody_answers(
    the_shop: Shop, servers: tuple[Exchanged, Exchanged]
) -> None:
    app = App("shop", orchestrator="http://127.0.0.1:9")
    api = FastAPI()
    api.add_api_route("/output", onward.endpoint_output(app))
    servers[0].asgi = api
    assert the_shop.ask("GET", "/output?run_id=X&token=x").status_code == 502


@pytest.mark.parametrize("body", [b"", b"text", "straße".encode(), b"\xff\x00"])
@pytest.mark.parametrize("fields", [[], [("a", "1"), ("b", "2")], [("a", "1"), ("a", "2")]])
def test_a_response_is_what_it_was(body: bytes, fields: list[tuple[str, str]]) -> None:
    encoded = encode_result(201, [*fields, ("content-length", "9")], body)
    assert decode_result(encoded) == StoredResponse(201, tuple(fields), body)


@pytest.mark.parametrize("value", [None, 3, "text", {}, {"status": "200"}, {"status": 7}, [1]])
def test_other_values_are_no_responses(value: Any) -> None:
    assert decode_result(value) is None
