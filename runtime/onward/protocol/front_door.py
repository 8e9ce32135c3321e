"""What stands before a Lambda function may give up earlier than Lambda does: how long it waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Seconds that each front door waits for an answer, as its documentation says by default. A REST
#: API's limit can be raised on request, a load balancer's idle timeout be configured.
REST_API_S, HTTP_API_S, LOAD_BALANCER_S = 29.0, 30.0, 60.0


def front_door_left(event: Any, *, now: float, limit: float | None = None) -> float | None:
    """Seconds until the front door of an HTTP event gives up; None where nothing does.

    It has waited since it got the request, so that a cold start counts. `now` in seconds since the
    epoch; `limit` in seconds goes before the documented one, and 0 means that there is none.
    Function URLs and direct invocations have no limit of their own, and an event that does not say
    when it was got (those of real front doors do) bounds nothing.
    """
    context = event.get("requestContext") if isinstance(event, Mapping) else None
    if not isinstance(context, Mapping) or limit == 0:
        return None
    if "elb" in context:
        waits, since = LOAD_BALANCER_S, _traced_at(event)
    elif "rawPath" in event:
        if ".lambda-url." in str(context.get("domainName", "")):
            return None
        waits, since = HTTP_API_S, _milliseconds(context.get("timeEpoch"))
    elif "httpMethod" in event:
        waits, since = REST_API_S, _milliseconds(context.get("requestTimeEpoch"))
    else:
        return None
    if since is None:
        return None
    whole = waits if limit is None else limit
    # Clocks differ: a request is never from the future, nor older than its front door's patience.
    return whole - min(max(now - since, 0.0), whole)


def _milliseconds(value: object) -> float | None:
    return value / 1000 if isinstance(value, (int, float)) and value > 0 else None


def _traced_at(event: Mapping[str, Any]) -> float | None:
    """The instant in a load balancer's trace id: `Root=1-SECONDS IN HEXADECIMAL-…`."""
    fields = {str(name).lower(): value for name, value in (event.get("headers") or {}).items()}
    several = event.get("multiValueHeaders") or {}
    fields |= {str(name).lower(): values[0] for name, values in several.items() if values}
    for part in str(fields.get("x-amzn-trace-id", "")).split(";"):
        name, _, value = part.strip().partition("=")
        pieces = value.split("-")
        if name in {"Root", "Self"} and len(pieces) == 3:  # noqa: PLR2004 - version, instant, number
            try:
                return float(int(pieces[1], 16))
            except ValueError:
                return None
    return None
