"""The HTTP API: events, checkpoints, registration, runs. Same addresses and bodies as recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from onward.errors import ConfigurationError, OnwardError
from onward.protocol import headers as names
from onward_server import queries
from onward_server.answers import BadOpsError, parse_instant, parse_ops
from onward_server.auth import Auth, guarded
from onward_server.cancellations import CancellationApi
from onward_server.endpoint_api import EndpointApi
from onward_server.events import BadEventError
from onward_server.identifiers import stable_uuid
from onward_server.json_text import JsonError, dumps, loads
from onward_server.replies import JSON, refuse, respond
from onward_server.store import EventRow, RunRow, StoreError, StoreFullError

if TYPE_CHECKING:
    from onward_server.orchestrator import Orchestrator

_PREFIX = "/v1/checkpoint/"
_SUFFIX = "/async"
_NIL = "00000000-0000-0000-0000-000000000000"
_TEXT = "text/plain; charset=utf-8"
_MAX_LISTED = 1000
_FULL = 507


class BodyTooLargeError(Exception):
    """A request body is over the limit."""


def _store_failed(error: StoreError) -> Response:
    return refuse(_FULL if isinstance(error, StoreFullError) else 503, error.message)


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLargeError
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


class Api:
    """The endpoints. `handle_checkpoint` is the hot path and is reached without a router."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._limit = orchestrator.settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send, rest: ASGIApp) -> None:
        """Answers a checkpoint itself and leaves everything else to `rest`."""
        path = scope["path"] if scope["type"] == "http" else ""
        if path.startswith(_PREFIX) and path.endswith(_SUFFIX) and scope["method"] == "POST":
            run_id = path[len(_PREFIX) : -len(_SUFFIX)]
            response = await self.handle_checkpoint(run_id, receive)
            await response(scope, receive, send)
            return
        await rest(scope, receive, send)

    async def handle_checkpoint(self, run_id: str, receive: Receive) -> Response:
        """`POST /v1/checkpoint/{run}/async`."""
        try:
            body = loads(await _read(receive, self._limit))
            ops = parse_ops(_object(body).get("steps") or [])
        except BodyTooLargeError:
            return refuse(
                413,
                f"the checkpoint is over {self._limit:,} bytes: send fewer steps at once, or"
                " smaller results",
                {"run_id": run_id},
            )
        except (JsonError, BadOpsError) as error:
            return refuse(400, f"invalid request body: {error}")
        run_id = str(body.get("run_id") or run_id)
        try:
            effects = await self._orchestrator.checkpoint(
                run_id, str(body.get("request_id") or ""), ops
            )
        except StoreError as error:
            return _store_failed(error)
        if effects is None:
            return refuse(400, "run not found in state store", {"run_id": run_id})
        if effects.refusal is not None:
            return respond(effects.refusal.status, effects.refusal.body)
        return respond(200, None)

    # Events

    async def post_events(self, request: Request) -> Response:
        """`POST /e/{key}`."""

        def refused(message: str) -> Response:
            return respond(400, {"ids": [""], "status": 400, "error": message}, _TEXT)

        try:
            value = loads(await _read(request.receive, self._limit))
        except JsonError as error:
            return refused(str(error))
        except BodyTooLargeError:
            return refuse(413, f"the events are over {self._limit:,} bytes", content_type=_TEXT)
        try:
            batch = value if isinstance(value, list) else [value]
            seed = request.headers.get(names.EVENT_ID_SEED)
            ids = await self._orchestrator.send(batch, seed)
        except BadEventError as error:
            return refused(error.message)
        return respond(200, {"ids": ids, "status": 200}, _TEXT)

    async def get_event(self, request: Request) -> Response:
        """`GET /v1/events/{id}`."""
        event_id = request.path_params["event_id"]
        row = await self._orchestrator.store.read(lambda c: queries.load_event(c, event_id))
        if row is None:
            return refuse(404, f"Event not found: {event_id}")
        return _found(_event_json(row))

    async def list_events(self, request: Request) -> Response:
        """`GET /v1/events?limit=N&name=X&received_after=T&received_before=T&cursor=ID`."""
        query = request.query_params
        instants: dict[str, int | None] = {}
        for name in ("received_after", "received_before"):
            instant = parse_instant(query[name]) if query.get(name) else None
            if instant is None and query.get(name):
                return refuse(400, f"Invalid {name} query parameter")
            instants[name] = None if instant is None else round(instant * 1000)
        wanted = queries.EventFilter(
            name=query.get("name") or None,
            after_ms=instants["received_after"],
            before_ms=instants["received_before"],
            cursor=query.get("cursor") or None,
        )
        limit = _limit(request)
        rows = await self._orchestrator.store.read(lambda c: queries.list_events(c, limit, wanted))
        return _found([_event_json(row) for row in rows])

    async def runs_of_event(self, request: Request) -> Response:
        """`GET /v1/events/{id}/runs`."""
        event_id = request.path_params["event_id"]
        rows = await self._orchestrator.store.read(lambda c: queries.runs_of_event(c, event_id))
        return _found([_run_json(row) for row in rows])

    async def post_signal(self, request: Request) -> Response:
        """`POST /v1/signals`: `{"signal": …, "data": …}`."""
        try:
            body = loads(await _read(request.receive, self._limit))
        except (JsonError, BodyTooLargeError):
            return refuse(400, "Invalid signal data")
        signal = body.get("signal") if isinstance(body, dict) else None
        if not isinstance(signal, str) or not signal:
            return refuse(400, "Invalid signal data")
        run_id = await self._orchestrator.signal(signal, body.get("data"))
        if run_id is None:
            return refuse(404, "No signal found")
        return _found({"run_id": run_id})

    # Registration

    async def register(self, request: Request) -> Response:
        """`POST /fn/register`."""
        try:
            body = loads(await _read(request.receive, self._limit))
            done = await self._orchestrator.register(body if isinstance(body, dict) else {})
        except (JsonError, ConfigurationError) as error:
            return refuse(400, str(error))
        except BodyTooLargeError:
            return refuse(413, f"the registration is over {self._limit:,} bytes")
        answer = {
            "ok": True,
            "modified": done.modified,
            "sync_id": stable_uuid("sync", dumps(body)),
            "app_id": done.app_id,
        }
        if done.notices:
            answer["notices"] = list(done.notices)
        return respond(200, answer, _TEXT)

    # Runs

    async def get_run(self, request: Request) -> Response:
        """`GET /v1/runs/{id}`. An unknown run is an error in a 200, as recorded."""
        run_id = request.path_params["run_id"]
        row = await self._orchestrator.store.read(lambda c: queries.load_row(c, run_id))
        if row is None:
            body = {"error": f"Unable to load function run: {run_id}", "data": None, "status": 500}
            return respond(200, body)
        return _found(_run_json(row))

    async def list_runs(self, request: Request) -> Response:
        """`GET /v1/runs?limit=N&status=S&function_id=F`, newest first."""
        query = request.query_params
        limit = _limit(request)
        rows = await self._orchestrator.store.read(
            lambda c: queries.list_runs(c, limit, query.get("status"), query.get("function_id"))
        )
        return _found([_run_json(row) for row in rows])

    async def cancel_run(self, request: Request) -> Response:
        """`DELETE /v1/runs/{id}`; a run that is over stays as it is."""
        run_id = request.path_params["run_id"]
        try:
            await self._orchestrator.cancel(run_id)
        except OnwardError as error:
            if isinstance(error, StoreError):
                raise
            return refuse(404, error.message)
        return respond(200, None)

    async def run_jobs(self, request: Request) -> Response:
        """`GET /v1/runs/{id}/jobs`: the calls that are due or in flight."""
        run = self._orchestrator.live_run(request.path_params["run_id"])
        jobs = run.jobs.values() if run is not None else ()
        return _found(
            [
                {
                    "job_id": job.id,
                    "attempt": job.attempt,
                    "generation_id": job.generation,
                    "step_id": job.target,
                    "status": "RUNNING" if job.in_flight else "QUEUED",
                    "at": _instant(job.due_ms) if job.due_ms else None,
                }
                for job in jobs
            ]
        )

    async def run_steps(self, request: Request) -> Response:
        """`GET /v1/runs/{id}/steps`: the journal with the steps' names, also of ended runs."""
        run_id = request.path_params["run_id"]
        rows = await self._orchestrator.store.read(lambda c: queries.load_steps(c, run_id))
        return _found(
            [{"id": row.step_id, "name": row.name, "entry": loads(row.entry)} for row in rows]
        )

    async def run_actions(self, request: Request) -> Response:
        """`GET /v0/runs/{id}/actions`: the journal's entries by step id."""
        run = self._orchestrator.live_run(request.path_params["run_id"])
        if run is None:
            return _gone(request)
        text = "{" + ",".join(run.steps.values()) + "}"
        return Response(text, 200, {names.SERVER_KIND: "dev", "content-type": JSON})

    async def run_batch(self, request: Request) -> Response:
        """`GET /v0/runs/{id}/batch`: the events that started the run."""
        run = self._orchestrator.live_run(request.path_params["run_id"])
        if run is None:
            return _gone(request)
        return Response(run.events, 200, {names.SERVER_KIND: "dev", "content-type": JSON})

    async def read(self, request: Request) -> bytes:
        """The body of a request. Raises BodyTooLargeError."""
        return await _read(request.receive, self._limit)

    async def introspect(self, _request: Request) -> Response:
        """`GET /dev`: how SDKs find a development server, and what is registered on it."""
        functions = [
            {
                "id": function.fn_id,
                "slug": function.id,
                "name": function.name,
                "triggers": [
                    *({"event": trigger.event} for trigger in function.triggers),
                    *({"cron": schedule.expression} for schedule in function.schedules),
                ],
            }
            for function in self._orchestrator.functions.values()
        ]
        return respond(200, {"version": "onward", "functions": functions, "handlers": []})

    async def health(self, _request: Request) -> Response:
        """`GET /health`."""
        return respond(200, {"status": 200, "message": "OK"})


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadOpsError("it must be a JSON object")
    return value


def _gone(request: Request) -> Response:
    run_id = request.path_params["run_id"]
    return refuse(
        410, f"runtime state is no longer available for runID: {run_id}", content_type=_TEXT
    )


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "40")
    if not text.isascii() or not text.isdigit():
        return 40
    return int(text) if len(text) < len(str(_MAX_LISTED)) else _MAX_LISTED


def _instant(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _found(data: Any) -> Response:
    fetched = datetime.now(UTC)
    metadata = {
        "fetched_at": fetched.isoformat().replace("+00:00", "Z"),
        "cached_until": (fetched + timedelta(0)).isoformat().replace("+00:00", "Z"),
    }
    return respond(200, {"data": data, "metadata": metadata})


def _run_json(row: RunRow) -> dict[str, Any]:
    value: dict[str, Any] = {
        "run_id": row.run_id,
        "run_started_at": _instant(row.started_ms),
        "function_id": stable_uuid("function", row.function_id),
        "function_version": 0,
        "environment_id": _NIL,
        "event_id": row.event_id,
        "status": row.status,
        "ended_at": _instant(row.ended_ms) if row.ended_ms else None,
        "function": row.function_id,
    }
    if row.ended_ms:
        value["output"] = loads(row.output)
    return value


def _event_json(row: EventRow) -> dict[str, Any]:
    event = loads(row.event)
    return {
        "internal_id": row.event_id,
        "account_id": _NIL,
        "environment_id": _NIL,
        "source": "",
        "source_id": None,
        "received_at": _instant(row.received_ms),
        "id": event["id"],
        "name": row.name,
        "data": event["data"],
        "ts": event["ts"],
    }


Endpoint = Callable[[Request], Awaitable[Response]]


def _guarded(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except StoreError as error:
            return _store_failed(error)
        except BodyTooLargeError:
            return refuse(413, "the request's body is too large")

    return answer


def make_api(orchestrator: Orchestrator) -> ASGIApp:
    """The API of `orchestrator` as an ASGI app."""
    api = Api(orchestrator)
    table: list[tuple[str, str, Endpoint]] = [
        ("POST", "/e/{key}", api.post_events),
        ("POST", "/fn/register", api.register),
        ("GET", "/v1/events", api.list_events),
        ("GET", "/v1/events/{event_id}", api.get_event),
        ("GET", "/v1/events/{event_id}/runs", api.runs_of_event),
        ("GET", "/v1/runs", api.list_runs),
        ("GET", "/v1/runs/{run_id}", api.get_run),
        ("DELETE", "/v1/runs/{run_id}", api.cancel_run),
        ("GET", "/v1/runs/{run_id}/jobs", api.run_jobs),
        ("GET", "/v1/runs/{run_id}/steps", api.run_steps),
        ("GET", "/v0/runs/{run_id}/actions", api.run_actions),
        ("GET", "/v0/runs/{run_id}/batch", api.run_batch),
        ("POST", "/v1/signals", api.post_signal),
        ("GET", "/dev", api.introspect),
        ("GET", "/health", api.health),
        *EndpointApi(orchestrator, api.read).routes(),
        *CancellationApi(orchestrator, api.read).routes(),
    ]
    router = Starlette(
        routes=[Route(path, _guarded(handler), methods=[verb]) for verb, path, handler in table]
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await api(scope, receive, send, router)

    return guarded(app, Auth(orchestrator.settings))
