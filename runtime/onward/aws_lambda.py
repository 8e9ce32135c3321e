"""The entry for AWS Lambda: direct invocation with a call request as the payload."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from onward.errors import MalformedCallRequestError, OnwardError

if TYPE_CHECKING:
    import asyncio

    from onward.app import App
    from onward.execution.session import Execution
    from onward.protocol.response import WireResponse

_loop: asyncio.AbstractEventLoop | None = None


def handler(app: App) -> Callable[[Any, Any], dict[str, Any]]:
    """The function that Lambda calls: `handler = onward.aws_lambda.handler(app)`.

    It takes the envelopes of `onward.protocol.direct`. Authorization is IAM's.
    """
    if os.environ.get("AWS_LAMBDA_RUNTIME_API"):
        import onward.execution.engine  # noqa: F401 - Lambda's init phase has the most CPU

    def handle(event: Any, context: Any) -> dict[str, Any]:
        """Answer one invocation."""
        from onward.execution import engine
        from onward.protocol import direct

        kind = event.get(direct.KIND) if isinstance(event, Mapping) else None
        if kind == direct.FUNCTIONS:
            return app.registration(_own_url(context))
        if kind != direct.CALL:
            return direct.encode_direct(engine.refusal(_unknown_shape(event)))
        return direct.encode_direct(_call(app, event, context))

    return handle


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
