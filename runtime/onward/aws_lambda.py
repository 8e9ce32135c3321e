"""The entry for AWS Lambda: direct invocations, and HTTP by function URLs, API Gateway and ALB."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from onward.errors import MalformedCallRequestError, OnwardError

if TYPE_CHECKING:
    import asyncio

    from onward import serving
    from onward.app import App
    from onward.execution.session import Execution
    from onward.protocol.response import WireResponse

_loop: asyncio.AbstractEventLoop | None = None


def handler(app: App, path: str = "/api/inngest") -> Callable[[Any, Any], dict[str, Any]]:
    """The function that Lambda calls: `handler = onward.aws_lambda.handler(app)`.

    It takes the envelopes of `onward.protocol.direct`, which IAM authorizes. HTTP requests are
    served at `path` as by any server: in cloud mode they have to be signed.
    """
    made: list[serving.Surface] = []
    if os.environ.get("AWS_LAMBDA_RUNTIME_API"):
        import onward.execution.engine  # noqa: F401 - Lambda's init phase has the most CPU

    def surface() -> serving.Surface:
        """What is served over HTTP; the first request of a process makes it."""
        if not made:
            from onward.serving import Surface

            made.append(Surface(app, path, framework="aws-lambda"))
        return made[0]

    def handle(event: Any, context: Any) -> dict[str, Any]:
        """Answer one invocation."""
        from onward.execution import engine
        from onward.protocol import direct

        kind = event.get(direct.KIND) if isinstance(event, Mapping) else None
        if kind == direct.FUNCTIONS:
            return app.registration(_own_url(context))
        if kind != direct.CALL:
            request = _http_request(event)
            if request is None:
                return direct.encode_direct(engine.refusal(_unknown_shape(event)))
            return _http_answer(event, _serve(surface(), request, event, context))
        return direct.encode_direct(_call(app, event, context))

    return handle


def _serve(
    surface: serving.Surface, request: serving.Request, event: Mapping[str, Any], context: Any
) -> WireResponse:
    """The answer to an HTTP request."""
    from onward import serving
    from onward.execution import engine

    app = surface.app
    refused = surface.admit(request)
    if refused is not None:
        return refused
    plan = surface.plan(request, now=time.time())
    if isinstance(plan, serving.Reply):
        return plan.response
    if isinstance(plan, serving.Registration):
        return surface.registered(plan, engine.register(app, plan), now=time.time())
    platform = engine.Platform(
        engine.lambda_limits(context, event, app.settings.front_door_limit),
        abandons=False,
        headers=request.headers,
        raw_request=(event, context),
    )
    try:
        call = engine.fetched(app, plan.request)
        execution = engine.execution_of(app, plan.function, call, platform)
    except OnwardError as error:
        return surface.finished(plan, engine.refusal(error), now=time.time())
    return surface.finished(plan, _drive(execution), now=time.time())


def _http_request(event: Any) -> serving.Request | None:
    """The HTTP request that an event stands for, if it does."""
    context = event.get("requestContext") if isinstance(event, Mapping) else None
    if not isinstance(context, Mapping):
        return None
    http = context.get("http")
    method = http.get("method") if isinstance(http, Mapping) else event.get("httpMethod")
    if not isinstance(method, str):
        return None
    from onward.serving import Request, fields_of

    several = event.get("multiValueHeaders")
    pairs = (
        [(name, value) for name, values in several.items() for value in values]
        if several
        else list((event.get("headers") or {}).items())
    )
    root, path, query = _address(event, context)
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        from base64 import b64decode

        raw = b64decode(body)
    else:
        raw = body.encode()
    fields = fields_of(pairs)
    fields.pop("content-length", None)  # that of what a gateway got, and may have decoded
    scheme = "http" if fields.get("x-forwarded-proto") == "http" else "https"  # the gateway's word
    return Request(method, path, query, fields, raw, scheme, root)


def _address(event: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, str, str]:
    """What the gateway took off the path (its stage), the path, and the query."""
    from urllib.parse import unquote, urlencode

    if "rawPath" in event:  # function URLs and HTTP APIs: the stage is in the path
        path, stage = unquote(event["rawPath"]), f"/{context.get('stage')}"
        root = stage if path.startswith(stage + "/") else ""
        return root, path.removeprefix(root), event.get("rawQueryString") or ""
    path, whole = event.get("path") or "/", str(context.get("path") or "")
    root = whole.removesuffix(path) if whole.endswith(path) else ""
    pairs = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters") or {}
    if "elb" in context:  # a load balancer leaves them as they came
        pairs = {unquote(name): _unquoted(value) for name, value in pairs.items()}
    return root, path, urlencode(pairs, doseq=True)


def _unquoted(value: Any) -> Any:
    from urllib.parse import unquote_plus

    return (
        [unquote_plus(each) for each in value] if isinstance(value, list) else unquote_plus(value)
    )


def _http_answer(event: Mapping[str, Any], answer: WireResponse) -> dict[str, Any]:
    """An answer as gateways and load balancers take it; the latter want lists if they gave some."""
    from http import HTTPStatus

    told: dict[str, Any] = {
        "statusCode": answer.status,
        "statusDescription": f"{answer.status} {HTTPStatus(answer.status).phrase}",
        "body": answer.body.decode(),
        "isBase64Encoded": False,
    }
    if event.get("multiValueHeaders") is not None:
        told["multiValueHeaders"] = {name: [value] for name, value in answer.headers.items()}
    else:
        told["headers"] = answer.headers
    return told


def _call(app: App, event: Mapping[str, Any], context: Any) -> WireResponse:
    from onward.execution import engine

    try:
        request = event.get("request")
        if not isinstance(request, Mapping):
            raise _unknown_shape(event)
        execution = engine.prepare(
            app,
            str(event.get("function_id") or ""),
            str(event.get("step_id") or ""),
            request,
            engine.Platform(
                engine.lambda_limits(context),
                abandons=False,
                headers=_headers(event),
                raw_request=(event, context),
            ),
        )
    except OnwardError as error:
        return engine.refusal(error)
    return _drive(execution)


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    """The headers that came with a direct call, for middleware: `traceparent`, for one."""
    fields = event.get("headers")
    if not isinstance(fields, Mapping):
        return {}
    return {str(name).lower(): str(value) for name, value in fields.items()}


def _drive(execution: Execution) -> WireResponse:
    from onward.execution import engine
    from onward.execution.session import Hung

    try:
        if execution.function.is_async:
            return _process_loop().run_until_complete(engine.drive_async(execution))
        return engine.drive_blocking(execution)
    except Hung:
        _wait_for_the_kill()
        raise


def _process_loop() -> asyncio.AbstractEventLoop:
    """One event loop a process: clients that user code keeps are bound to it."""
    global _loop  # noqa: PLW0603 - see above
    if _loop is None or _loop.is_closed():
        import asyncio

        _loop = asyncio.new_event_loop()
    return _loop


def _wait_for_the_kill() -> None:
    """Everything is flushed, but code that cannot be stopped would thaw in the next invocation."""
    while True:
        time.sleep(1)


def _own_url(context: Any) -> str:
    name = getattr(context, "function_name", None) or "function"
    return f"lambda://{name}"


def _unknown_shape(event: Any) -> MalformedCallRequestError:
    seen = (
        ", ".join(sorted(map(str, event))) if isinstance(event, Mapping) else type(event).__name__
    )
    return MalformedCallRequestError(
        f"This event is not a call request for Onward; it has: {seen or 'nothing'}. A direct"
        ' invocation sends {"onward": "call", "function_id": …, "step_id": …, "request": …};'
        " register the function with its orchestrator as lambda://FUNCTION_NAME."
    )
