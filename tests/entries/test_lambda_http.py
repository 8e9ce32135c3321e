"""HTTP on Lambda without an adapter: function URLs, both kinds of API Gateway, load balancers."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest

import onward
from onward.aws_lambda import handler
from onward.protocol.front_door import front_door_left
from onward.protocol.signature import verify
from tests.entries.app import small_app
from tests.entries.test_introspection import KEY, signature
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import PATH, LambdaContext, call_request

Event = dict[str, Any]
Front = Callable[[str, str, str, bytes, dict[str, str]], Event]

#: How each front door shapes a request, as its documentation and recorded events have it. All are
#: reached at `https://shop.test` and, but for the first and the last, below the stage `/prod`.


def function_url(method: str, path: str, query: str, body: bytes, fields: dict[str, str]) -> Event:
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"host": "shop.test", "x-forwarded-proto": "https", **fields},
        "requestContext": {"stage": "$default", "http": {"method": method, "path": path}},
        "body": b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def http_api(method: str, path: str, query: str, body: bytes, fields: dict[str, str]) -> Event:
    event = function_url(method, f"/prod{path}", query, body, fields)
    event["requestContext"]["stage"] = "prod"
    return {**event, "body": body.decode(), "isBase64Encoded": False}


def rest_api(method: str, path: str, query: str, body: bytes, fields: dict[str, str]) -> Event:
    given = {"Host": "shop.test", "X-Forwarded-Proto": "https", **fields}
    several: dict[str, list[str]] = {}
    for name, value in parse_qsl(query):
        several.setdefault(name, []).append(value)
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": given,
        "multiValueHeaders": {name: [value] for name, value in given.items()},
        "queryStringParameters": {name: values[-1] for name, values in several.items()} or None,
        "multiValueQueryStringParameters": several or None,
        "requestContext": {"stage": "prod", "path": f"/prod{path}", "httpMethod": method},
        "body": body.decode() or None,
        "isBase64Encoded": False,
    }


def load_balancer(method: str, path: str, query: str, body: bytes, fields: dict[str, str]) -> Event:
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu:1:x"}},
        "httpMethod": method,
        "path": path,
        "queryStringParameters": dict(pairs),
        "headers": {"host": "shop.test", "x-forwarded-proto": "http", **fields},
        "body": body.decode(),
        "isBase64Encoded": False,
    }


FRONTS: dict[Front, str] = {
    function_url: f"https://shop.test{PATH}",
    http_api: f"https://shop.test/prod{PATH}",
    rest_api: f"https://shop.test/prod{PATH}",
    load_balancer: f"http://shop.test{PATH}",
}

every_front = pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.__name__)


def ask(
    app: onward.App,
    front: Front,
    method: str,
    *,
    path: str = PATH,
    query: str = "",
    body: bytes = b"",
    fields: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of the answer."""
    event = json.loads(json.dumps(front(method, path, query, body, fields or {})))
    told = json.loads(json.dumps(handler(app)(event, LambdaContext(60.0))))
    assert told["isBase64Encoded"] is False
    assert told["statusDescription"].startswith(f"{told['statusCode']} ")
    headers = told.get("headers") or {n: v[0] for n, v in told["multiValueHeaders"].items()}
    return told["statusCode"], headers, told["body"]


@every_front
def test_a_call(front: Front, driver: str, api: CheckpointApi) -> None:
    ran: list[str] = []
    function = "shop-sell" if driver == "async" else "shop-refund"
    status, headers, text = ask(
        small_app(ran),
        front,
        "POST",
        query=f"fnId={function}&stepId=step",
        body=json.dumps(call_request()).encode(),
    )
    assert (status, json.loads(text)[-1]["op"]) == (206, "RunComplete")
    assert headers["x-inngest-framework"] == "aws-lambda"
    assert headers["x-inngest-sdk"] == f"onward:v{onward.__version__}"
    assert len(ran) == 1


@every_front
def test_registering(front: Front, api: CheckpointApi) -> None:
    """The address has the stage, and parameters as they were."""
    value = "a b&c=d+e"
    api.pages["/fn/register"] = (200, b'{"modified": true}')
    query = f"token={quote(value, safe='')}"
    status, _, text = ask(small_app([]), front, "PUT", query=query)
    assert (status, json.loads(text)["modified"]) == (200, True)
    url = api.others[-1].json()["url"]
    address, _, rest = url.partition("?")
    assert address == FRONTS[front]
    assert parse_qsl(rest) == [("token", value)]


@every_front
def test_signed_calls(front: Front, api: CheckpointApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INNGEST_DEV")
    monkeypatch.setenv("INNGEST_BASE_URL", api.url)
    ran: list[str] = []
    app = small_app(ran, signing_key=KEY)
    body = json.dumps(call_request()).encode()
    query = "fnId=shop-sell&stepId=step"
    assert ask(app, front, "POST", query=query, body=body)[0] == 401
    assert ran == []
    fields = {"X-Inngest-Signature": signature(KEY, body)["x-inngest-signature"]}
    status, headers, text = ask(app, front, "POST", query=query, body=body, fields=fields)
    assert status == 206
    assert verify(text.encode(), headers["x-inngest-signature"], KEY, now=time.time())
    assert ran == ["charge"]


@every_front
def test_introspection_and_what_is_not_served(front: Front, api: CheckpointApi) -> None:
    app = small_app([])
    status, _, text = ask(app, front, "GET")
    assert (status, json.loads(text)["function_count"]) == (200, 2)
    assert ask(app, front, "GET", path="/elsewhere")[0] == 404
    assert ask(app, front, "DELETE")[0] == 405
    assert ask(app, front, "POST", body=b"not json", query="fnId=shop-sell&stepId=step")[0] == 500


def test_the_deadline_is_lambdas(api: CheckpointApi) -> None:
    seen: list[float] = []
    app = onward.App("shop")

    @app.function("sell", trigger=onward.Event("test/asked"))
    def sell(ctx: onward.BlockingContext) -> None:
        seen.append(ctx.deadline.remaining())

    body = json.dumps(call_request()).encode()
    ask(app, function_url, "POST", query="fnId=shop-sell&stepId=step", body=body)
    assert 50 < seen[0] < 60


def deadline_behind(front: Front, context: Event, fields: dict[str, str]) -> float:
    """Seconds that a function has, of ten minutes that Lambda gives it."""
    seen: list[float] = []
    app = onward.App("shop", deadline_margin="0s", checkpointing=False)

    @app.function("sell", trigger=onward.Event("test/asked"))
    def sell(ctx: onward.BlockingContext) -> None:
        seen.append(ctx.deadline.remaining())

    body = json.dumps(call_request()).encode()
    event = front("POST", PATH, "fnId=shop-sell&stepId=step", body, fields)
    event["requestContext"] |= context
    assert handler(app)(event, LambdaContext(600.0))["statusCode"] == 200
    return seen[0]


@pytest.mark.parametrize(
    ("front", "context", "fields", "limit"),
    [
        (function_url, {"domainName": "x.lambda-url.eu-west-1.on.aws"}, {}, 600.0),
        (http_api, {"timeEpoch": "{ms}"}, {}, 30.0 - 5),
        (http_api, {}, {}, 600.0),
        (rest_api, {"requestTimeEpoch": "{ms}"}, {}, 29.0 - 5),
        (load_balancer, {}, {"x-amzn-trace-id": "Root=1-{hex}-abcdef"}, 60.0 - 5),
        (load_balancer, {}, {"x-amzn-trace-id": "nonsense"}, 600.0),
        (load_balancer, {}, {"x-amzn-trace-id": "Root=1-zz-a"}, 600.0),
    ],
)
def test_the_front_door_gives_up_first(
    *,
    front: Front,
    context: Event,
    fields: dict[str, str],
    limit: float,
    api: CheckpointApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It got the request five seconds ago: a cold start counts."""
    since = time.time() - 5
    context = {n: int(since * 1000) if v == "{ms}" else v for n, v in context.items()}
    fields = {n: v.replace("{hex}", f"{int(since):x}") for n, v in fields.items()}
    left = deadline_behind(front, context, fields)
    assert limit - 8 < left <= limit
    # What is configured goes before what is documented, and there may be no limit.
    monkeypatch.setenv("ONWARD_FRONT_DOOR_LIMIT", "100s")
    if limit < 600:
        assert 100 - 15 < deadline_behind(front, context, fields) <= 100
    monkeypatch.setenv("ONWARD_FRONT_DOOR_LIMIT", "0")
    assert 590 < deadline_behind(front, context, fields) <= 600


def test_clocks_that_differ() -> None:
    event = http_api("POST", PATH, "", b"", {})
    for ago, left in ((-3600.0, 30.0), (10.0, 20.0), (3600.0, 0.0)):
        event["requestContext"]["timeEpoch"] = int((1e9 - ago) * 1000)
        assert front_door_left(event, now=1e9) == pytest.approx(left)


@pytest.mark.parametrize("event", [None, {}, {"requestContext": None}, {"onward": "call"}])
def test_no_front_door(event: Any) -> None:
    assert front_door_left(event, now=1e9) is None
