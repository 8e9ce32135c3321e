"""From a call request to an answer on the wire: the one path that every entry uses."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from onward.core.deadline import NO_LIMITS, Durations, Limits, deadline_of
from onward.core.ops import ErrorInfo
from onward.core.response import Response, function_error
from onward.errors import OnwardError, UnknownFunctionError
from onward.execution.session import Execution
from onward.protocol.call_request import (
    CallRequest,
    decode_call_request,
    decode_events,
    decode_journal,
    parse_json,
)
from onward.protocol.response import WireResponse, encode_response

if TYPE_CHECKING:
    from onward.app import App, Function

#: The longest that a Lambda invocation can last, in seconds.
LAMBDA_MAXIMUM = 900.0

_durations: dict[str, Durations] = {}


@dataclass(frozen=True, slots=True)
class Platform:
    """What the platform says about this invocation. Limits in seconds; see `core.deadline`.

    For middleware: `headers` of the call request, with lower-case names, and `raw_request`, what
    the platform gave the entry.
    """

    limits: Limits = NO_LIMITS
    abandons: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    raw_request: Any = None


def lambda_limits(context: Any, event: Any = None, limit: str | None = None) -> Limits:
    """What Lambda's `context` says is left, and what the front door of an HTTP `event` waits.

    `limit`, a duration, goes before what is known of the front door. Raises DurationError.
    """
    tell = getattr(context, "get_remaining_time_in_millis", None)
    remaining = None if tell is None else tell() / 1000
    if not isinstance(event, Mapping) or "requestContext" not in event:
        return Limits(remaining=remaining, maximum=LAMBDA_MAXIMUM)
    from onward.core.durations import parse_duration
    from onward.protocol.front_door import front_door_left

    own = parse_duration(limit, what="ONWARD_FRONT_DOOR_LIMIT") if limit is not None else None
    left = front_door_left(event, now=time.time(), limit=own)
    return Limits(remaining=remaining, maximum=LAMBDA_MAXIMUM, front_door=left)


def server_limits(frozen: Any = None, event: Any = None, limit: str | None = None) -> Limits:
    """What the platform of an HTTP server says is left.

    `frozen` is Lambda's context, where an adapter passes it on, and `event` what Lambda was called
    with; else Vercel's runtime is asked.
    """
    if frozen is not None:
        return lambda_limits(frozen, event, limit)
    deadline = _vercel_deadline()
    if deadline is None:
        return Limits()
    return Limits(remaining=float(deadline.timestamp()) - time.time())


def _vercel_deadline() -> Any:
    """Vercel's deadline of this request, an aware datetime; None elsewhere, or if it tells none."""
    if not os.environ.get("VERCEL"):
        return None
    try:
        from vercel_runtime import get_deadline
    except ImportError:
        return None
    return get_deadline()


def sdk_name() -> str:
    """How Onward names itself to orchestrators (SDK specification, 4.1.2)."""
    from onward import __version__

    return f"onward:v{__version__}"


def prepare(
    app: App,
    function_id: str,
    target: str,
    body: bytes | str | Mapping[str, Any],
    platform: Platform,
) -> Execution:
    """Decode a call request and find its function. Raises OnwardError.

    It blocks while it fetches a trimmed journal.
    """
    function, call = decode(app, function_id, target, body)
    return execution_of(app, function, fetched(app, call), platform)


class Registering(Protocol):
    """What is posted to register: a plan of `onward.serving`."""

    @property
    def path(self) -> str:
        """The path, with its query."""

    @property
    def body(self) -> dict[str, Any]:
        """The registration."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What goes with it, beside what goes with every request."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What came of a registration.

    `error` is for the log and for whoever is trusted; `told` is what the orchestrator itself said,
    without where it is.
    """

    modified: bool = False
    error: str | None = None
    told: str = ""


def register(app: App, plan: Registering) -> Registered:
    """Register with the orchestrator; it blocks."""
    import json

    from onward.transport.http import Ask, asking, perform, refused

    settings = app.settings
    fields = {**settings.outgoing(), "content-type": "application/json", **plan.headers}
    body = json.dumps(plan.body).encode()
    ask = Ask(settings.api_url, "POST", plan.path, body, fields, app.keys())
    reply = perform(asking(ask))
    try:
        said = reply.json()
    except ValueError:
        said = None
    answer = said if isinstance(said, dict) else {}
    if reply.good and isinstance(said, dict):
        return Registered(bool(answer.get("modified")))
    own = str(answer.get("error") or answer.get("message") or "")
    if reply.good:
        error = f"{ask.told} answered no object: is it an orchestrator? {reply.text[:500]}".strip()
    else:
        error = refused(ask, replace(reply, text=own) if own else reply).message
    told = f"{reply.status} {own}".strip() if reply.status else ""
    return Registered(error=error, told=told)


def decode(
    app: App, function_id: str, target: str, body: bytes | str | Mapping[str, Any]
) -> tuple[Function, CallRequest]:
    """The function that is called, and its call request. Raises OnwardError."""
    function = app.find(function_id)
    parsed = parse_json(body) if isinstance(body, (bytes, str)) else body
    return function, decode_call_request(parsed, function_id=function_id, target=target)


def fetched(app: App, call: CallRequest) -> CallRequest:
    """`call` with its journal and events; blocks if they were trimmed. Raises JournalFetchError."""
    if not call.use_api:
        return call
    from onward.transport.http import fetch_journal

    settings = app.settings
    steps, events = fetch_journal(
        settings.api_url, call.run_id, app.keys(), headers=settings.outgoing()
    )
    journal = decode_journal(steps, list(call.stack) or None)
    decoded = decode_events(events)
    return replace(call, journal=journal, events=decoded, event=decoded[0] if decoded else {})


def execution_of(app: App, function: Function, call: CallRequest, platform: Platform) -> Execution:
    """The invocation to drive, with its deadline."""
    options = function.checkpointing
    if options is not None and app.channel.too_old:
        options, function = None, replace(function, checkpointing=None)
    limits = replace(platform.limits, max_runtime=options.max_runtime_s if options else None)
    round_trip = app.channel.round_trip if options else 0.0
    deadline, warning = deadline_of(
        limits, now=time.monotonic(), round_trip=round_trip, margin=_margin(app)
    )
    if warning:
        from onward.logs import runtime

        runtime.warning("%s [run %s]", warning, call.run_id)
    durations = _durations.setdefault(function.composite_id, Durations())
    hooks = None
    chain = app.chain(function)
    if chain is not None:
        from onward.execution.hooks import CallHooks

        hooks = CallHooks(chain, function, call, deadline, platform)
    return Execution(app, function, call, deadline, durations, platform.abandons, hooks)


def _margin(app: App) -> float | None:
    value = app.deadline_margin if app.deadline_margin is not None else app.settings.deadline_margin
    if value is None:
        return None
    from onward.core.durations import parse_duration

    return parse_duration(value, what="the deadline margin")


def answer(response: Response) -> WireResponse:
    """`response` on the wire."""
    return encode_response(response, sdk=sdk_name())


def refusal(error: OnwardError) -> WireResponse:
    """The answer to a request that could not be run at all. Nothing was run."""
    info = ErrorInfo(type(error).__name__, error.message)
    retriable = error.retriable or isinstance(error, UnknownFunctionError)
    return answer(function_error(info, retriable=retriable))


def run_blocking(execution: Execution) -> Response:
    """The response of a blocking function, which runs on this thread. Raises Hung."""
    from onward.execution.blocking_driver import BlockingDriver

    if execution.hooks is None:
        return BlockingDriver(execution).run()
    return execution.hooks.around(execution, lambda opened: BlockingDriver(opened).run())


async def run_async(execution: Execution) -> Response:
    """The response of an async function, which runs on the running loop. Raises Hung."""
    from onward.execution.asyncio_driver import AsyncDriver

    if execution.hooks is None:
        return await AsyncDriver(execution).run()
    return await execution.hooks.around_async(execution, lambda opened: AsyncDriver(opened).run())


def drive_blocking(execution: Execution) -> WireResponse:
    """Drive a blocking function on this thread. Raises Hung."""
    return answer(run_blocking(execution))


async def drive_async(execution: Execution) -> WireResponse:
    """Drive an async function on the running loop. Raises Hung."""
    return answer(await run_async(execution))
