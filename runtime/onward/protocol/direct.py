"""Direct invocation: a call request as the payload of a platform's own invoke API.

The payload is an envelope around what would have gone over HTTP:

    {"onward": "call", "function_id": "app-function", "step_id": "step", "request": {…}}

(`headers`, if there are any, reach middleware: `traceparent`, for one), and the answer is
`{"status": 206, "headers": {…}, "body": …}` with the body as a JSON value.
`{"onward": "functions"}` answers the app's registration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from onward.protocol.response import WireResponse

KIND = "onward"
CALL = "call"
FUNCTIONS = "functions"


def call_payload(function_id: str, target: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """The payload that calls `function_id` (`app-function`) for the step `target`."""
    return {KIND: CALL, "function_id": function_id, "step_id": target, "request": request}


def encode_direct(response: WireResponse) -> dict[str, Any]:
    """An HTTP answer as the value that a direct invocation returns."""
    return {
        "status": response.status,
        "headers": response.headers,
        "body": json.loads(response.body),
    }
