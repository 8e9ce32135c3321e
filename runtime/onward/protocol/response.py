"""Responses on the wire: status, headers and body for what the core decided."""

from __future__ import annotations

import json
from dataclasses import dataclass

from onward.core.response import Response
from onward.protocol import headers
from onward.protocol.checkpoint import encode_error, encode_ops

CONTENT_TYPE = "application/json; charset=utf-8"

#: The status of a streamed answer; its own comes at its end (SDK specification, 9).
STREAMED = 201


@dataclass(frozen=True, slots=True)
class WireResponse:
    """An HTTP answer: `headers` with lower-case names, `body` as JSON text in UTF-8."""

    status: int
    headers: dict[str, str]
    body: bytes


def base_headers(sdk: str) -> dict[str, str]:
    """The headers of every answer. `sdk` is `name:vVERSION` (SDK specification, 4.1.2)."""
    return {
        "content-type": CONTENT_TYPE,
        headers.SDK: sdk,
        "user-agent": sdk,
        headers.REQUEST_VERSION: headers.EXECUTION_VERSION,
    }


def encode_response(response: Response, *, sdk: str) -> WireResponse:
    """`response` as it goes over HTTP."""
    fields = base_headers(sdk)
    if response.no_retry is not None:
        fields[headers.NO_RETRY] = "true" if response.no_retry else "false"
    if response.retry_after is not None:
        fields[headers.RETRY_AFTER] = str(response.retry_after)
    if response.error is not None:
        body = json.dumps(encode_error(response.error))
    elif response.ops:
        body = encode_ops(response.ops)
    else:
        body = response.result if response.result is not None else "null"
    return WireResponse(response.status, fields, body.encode())


def encode_stream(response: WireResponse) -> bytes:
    """The end of a streamed answer: everything that its head could not say yet, as recorded.

    The body goes as text: a server unpacks a body that is a JSON string once more.
    """
    whole = {
        "status": response.status,
        "headers": response.headers,
        "body": response.body.decode(),
    }
    return json.dumps(whole).encode()


def decode_stream(text: bytes) -> WireResponse:
    """The answer in a streamed one. Raises ValueError for one that broke off."""
    whole = json.loads(text)
    if not isinstance(whole, dict) or not isinstance(whole.get("status"), int):
        raise ValueError("no object with a status")  # noqa: TRY004 - it is the text that is wrong
    fields, body = whole.get("headers") or {}, whole.get("body")
    return WireResponse(
        whole["status"],
        {str(name).lower(): str(value) for name, value in dict(fields).items()},
        body.encode() if isinstance(body, str) else json.dumps(body).encode(),
    )
