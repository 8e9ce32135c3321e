"""The API of durable endpoints: what they send, and what their callers ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from onward.protocol import headers as names
from onward.protocol.endpoint import decode_result
from onward_server.answers import BadOpsError, parse_ops
from onward_server.endpoints import BadRunError, object_of, parse_new_run
from onward_server.identifiers import stable_uuid
from onward_server.json_text import JsonError, loads
from onward_server.model import Status
from onward_server.replies import refuse, respond

if TYPE_CHECKING:
    from onward_server.orchestrator import Orchestrator

#: How long a request for the output waits, in seconds (recorded in the server's source).
OUTPUT_WAIT_S = 300.0

Read = Callable[[Request], Awaitable[bytes]]
Answered = Callable[[Request], Awaitable[Response]]


class EndpointApi:
    """What endpoints send, and what their callers ask for. `read` gives a request's body."""

    def __init__(self, orchestrator: Orchestrator, read: Read) -> None:
        self._orchestrator = orchestrator
        self._endpoints = orchestrator.endpoints
        self._read = read

    def routes(self) -> list[tuple[str, str, Answered]]:
        """Method, path and handler of each."""
        return [
            ("POST", "/v1/checkpoint", self.create),
            ("POST", "/v1/checkpoint/{run_id}/steps", self.steps),
            ("GET", "/v1/checkpoint/{run_id}/output", self.output),
            ("GET", "/v1/http/runs/{run_id}/output", self.output),
        ]

    async def create(self, request: Request) -> Response:
        """`POST /v1/checkpoint`."""
        try:
            body = loads(await self._read(request))
            new = parse_new_run(body, request.headers.get(names.SDK, ""))
        except (JsonError, BadOpsError, BadRunError) as error:
            return refuse(400, f"Invalid request body: {error}")
        refusal = await self._endpoints.create(new)
        if refusal is not None:
            return respond(refusal.status, refusal.body)
        fetched = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        data: dict[str, Any] = {
            "fn_id": stable_uuid("function", new.function_id),
            "app_id": stable_uuid("app", new.origin),
            "run_id": new.run_id,
            "token": await self._endpoints.token(new.run_id),
            "realtime_token": "none",  # nothing is streamed here; the TypeScript SDK wants a text
        }
        if new.watched:
            data["lease"] = self._orchestrator.settings.endpoint_lease_s
        return respond(200, {"data": data, "metadata": {"fetched_at": fetched}})

    async def steps(self, request: Request) -> Response:
        """`POST /v1/checkpoint/{run}/steps`."""
        try:
            body = object_of(loads(await self._read(request)))
            ops = parse_ops(body.get("steps") or [])
        except (JsonError, BadOpsError, BadRunError) as error:
            return refuse(400, f"invalid request body: {error}")
        refusal = await self._endpoints.steps(
            request.path_params["run_id"], ops, watched=body.get("lease") is True
        )
        if refusal is not None:
            return respond(refusal.status, refusal.body)
        return respond(200, None)

    async def output(self, request: Request) -> Response:
        """`GET /v1/checkpoint/{run}/output?token=…`: the run's response, once there is one."""
        run_id = request.path_params["run_id"]
        if not await self._endpoints.opens(request.query_params.get("token", ""), run_id):
            return _public(refuse(401, "Unable to find run with auth token"))
        try:
            async with asyncio.timeout(OUTPUT_WAIT_S):
                view = await self._orchestrator.result(run_id)
        except TimeoutError:
            message = "run did not end within 5 minutes"
            return _public(respond(200, {"status": "running", "message": message}))
        if view.status == Status.COMPLETED:
            stored = decode_result(view.result)
            if stored is None:
                return _public(respond(200, {"data": view.result}))
            answer = Response(stored.body, stored.status)
            fields = [(n, v) for n, v in stored.fields if n != "content-length"]
            answer.raw_headers = [
                (b"content-length", str(len(stored.body)).encode()),
                *((n.encode("latin-1"), v.encode("latin-1")) for n, v in fields),
            ]
            return _public(answer)
        error = view.error or {}
        told = {"name": error.get("name"), "message": error.get("message")}
        return _public(respond(500, {"status": view.status, "run_id": run_id, "error": told}))


def _public(answer: Response) -> Response:
    """Pages of other origins are redirected here."""
    if "access-control-allow-origin" not in answer.headers:
        answer.headers["access-control-allow-origin"] = "*"
    answer.headers["cache-control"] = "no-store"
    return answer
