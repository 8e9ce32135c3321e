"""An output page of one's own, for callers of durable endpoints whose runs went async."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from onward.transport.channel import is_loopback

if TYPE_CHECKING:
    from onward.app import App

#: How long the orchestrator lets a request for an output wait (source), and some more, in seconds.
TIMEOUT = 310.0

#: What concerns the connection to the orchestrator, not the response.
_HOPS = ("connection", "content-encoding", "content-length", "date", "server", "transfer-encoding")


def endpoint_output(app: App) -> Callable[[Request], Awaitable[Response]]:
    """A handler that gives the responses of runs that went async.

        api.add_route("/output", onward.endpoint_output(app))

        @onward.endpoint(app, "checkout", on_async=lambda run_id, token:
            f"/output?run_id={run_id}&token={token}")

    Callers then need not reach the orchestrator. It wants `run_id` and `token` in the query, and
    answers what the orchestrator does: a token opens its run's output and no other. 502: the
    orchestrator cannot be reached.
    """

    async def output(request: Request) -> Response:
        run_id, token = (request.query_params.get(name, "") for name in ("run_id", "token"))
        if not run_id.isalnum() or not token:
            return _plain(400, "The address lacks run_id or token.")
        return await _fetch(app, run_id, token)

    return output


async def _fetch(app: App, run_id: str, token: str) -> Response:
    import httpx

    url = app.settings.api_url
    direct = is_loopback(urlsplit(url).hostname or "")
    path = f"/v1/http/runs/{run_id}/output?token={quote(token, safe='')}"
    try:
        async with httpx.AsyncClient(trust_env=not direct, timeout=TIMEOUT) as client:
            answer = await client.get(url + path)
    except httpx.HTTPError:
        return _plain(502, "The orchestrator cannot be reached.")
    fields = [(n.lower(), v) for n, v in answer.headers.raw if n.lower().decode() not in _HOPS]
    response = Response(answer.content, answer.status_code)
    response.raw_headers = [
        (b"content-length", str(len(answer.content)).encode()),
        *fields,
    ]
    return response


def _plain(status: int, message: str) -> Response:
    body = json.dumps({"message": message})
    return Response(body, status, {"content-type": "application/json"})
