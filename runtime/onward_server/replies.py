"""Answers of the API, in the recorded shapes."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from onward.protocol import headers as names
from onward_server.json_text import dumps

JSON = "application/json"


def respond(status: int, body: Any, content_type: str = JSON) -> Response:
    """An answer with `body` as JSON, headers as recorded."""
    return Response(
        dumps(body),
        status,
        {names.SERVER_KIND: "dev", "content-type": content_type},
    )


def refuse(status: int, message: str, data: Any = None, content_type: str = JSON) -> Response:
    """An error in the recorded shape."""
    return respond(status, {"error": message, "data": data, "status": status}, content_type)
