"""From a call request to an answer on the wire: the one path that every entry uses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
    """What the platform says about this invocation. Limits in seconds; see `core.deadline`."""

    limits: Limits = NO_LIMITS
    abandons: bool = True


def lambda_limits(context: Any) -> Limits:
    """What Lambda's `context` says is left; no limit if it does not tell."""
    tell = getattr(context, "get_remaining_time_in_millis", None)
    return Limits(remaining=None if tell is None else tell() / 1000, maximum=LAMBDA_MAXIMUM)


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

    steps, events = fetch_journal(app.settings.api_url, call.run_id, app.keys())
    journal = decode_journal(steps, list(call.stack) or None)
    decoded = decode_events(events)
    return replace(call, journal=journal, events=decoded, event=decoded[0] if decoded else {})


def execution_of(app: App, function: Function, call: CallRequest, platform: Platform) -> Execution:
    """The invocation to drive, with its deadline."""
    options = function.checkpointing
    limits = replace(platform.limits, max_runtime=options.max_runtime_s if options else None)
    round_trip = app.channel.round_trip if options else 0.0
    deadline, warning = deadline_of(
        limits, now=time.monotonic(), round_trip=round_trip, margin=_margin(app)
    )
    if warning:
        from onward.logs import runtime

        runtime.warning("%s [run %s]", warning, call.run_id)
    durations = _durations.setdefault(function.composite_id, Durations())
    return Execution(app, function, call, deadline, durations, platform.abandons)


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


def drive_blocking(execution: Execution) -> WireResponse:
    """Drive a blocking function on this thread. Raises Hung."""
    from onward.execution.blocking_driver import BlockingDriver

    return answer(BlockingDriver(execution).run())


async def drive_async(execution: Execution) -> WireResponse:
    """Drive an async function on the running loop. Raises Hung."""
    from onward.execution.asyncio_driver import AsyncDriver

    return answer(await AsyncDriver(execution).run())
