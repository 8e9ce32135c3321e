"""Cancelling many runs at once, by function and time: `POST /v1/cancellations`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from onward.core.expressions import Expression, evaluable_expression
from onward.errors import ConfigurationError
from onward_server import queries
from onward_server.identifiers import stable_uuid
from onward_server.json_text import JsonError, dumps, loads
from onward_server.model import Status
from onward_server.replies import refuse, respond
from onward_server.store import RunRow

if TYPE_CHECKING:
    from onward_server.orchestrator import Orchestrator

#: How far ahead of ours a caller's clock may be, in milliseconds (the Inngest server's).
_AHEAD_MS = 5_000

_MOST_RUNS = 1_000_000


class BadCancellationError(ValueError):
    """What was asked for is no cancellation; worded as recorded."""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Which runs: of `function_id`, started after and before (milliseconds), where `if_` holds."""

    app_id: str
    function_id: str
    before_ms: int
    after_ms: int | None
    if_: Expression | None

    def covers(self, row: RunRow) -> bool:
        """Whether the run `row` is one of them."""
        if row.function_id not in {self.function_id, f"{self.app_id}-{self.function_id}"}:
            return False
        if row.started_ms > self.before_ms or row.started_ms < (self.after_ms or 0):
            return False
        return self.if_ is None or self.if_.test({"event": loads(row.events)[0]})


def parse_cancellation(body: Mapping[str, Any], now_ms: int) -> Cancellation:
    """The cancellation in a request's body. Raises BadCancellationError, ConfigurationError."""
    for name in ("app_id", "function_id", "started_before"):
        if not body.get(name):
            raise BadCancellationError(f"{name} is required")
    before = _milliseconds(body["started_before"], "started_before")
    if before > now_ms + _AHEAD_MS:
        raise BadCancellationError("started_before must be in the past")
    after = None
    if body.get("started_after"):
        after = _milliseconds(body["started_after"], "started_after")
        if after > before:
            raise BadCancellationError("started_after must be before started_before")
    text = body.get("if")
    condition = None if text is None else evaluable_expression(text)
    return Cancellation(str(body["app_id"]), str(body["function_id"]), before, after, condition)


def _milliseconds(value: object, name: str) -> int:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise BadCancellationError(f"{name} must be an instant, not {value!r}") from None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


class CancellationApi:
    """The endpoint. `read` gives a request's body."""

    def __init__(
        self, orchestrator: Orchestrator, read: Callable[[Request], Awaitable[bytes]]
    ) -> None:
        self._orchestrator = orchestrator
        self._read = read

    def routes(self) -> list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]:
        """Method, path and handler."""
        return [("POST", "/v1/cancellations", self.create)]

    async def create(self, request: Request) -> Response:
        """`POST /v1/cancellations`: the unfinished runs are cancelled before it answers."""
        now_ms = self._orchestrator.clock.now_ms()
        try:
            body = loads(await self._read(request))
            wanted = parse_cancellation(body if isinstance(body, dict) else {}, now_ms)
        except JsonError:
            return refuse(400, "Invalid cancellation request")
        except (BadCancellationError, ConfigurationError) as error:
            return refuse(400, str(error))
        known = self._orchestrator.functions
        if not known.keys() & {wanted.function_id, f"{wanted.app_id}-{wanted.function_id}"}:
            return refuse(404, "function not found")
        rows = await self._orchestrator.store.read(
            lambda c: queries.list_runs(c, _MOST_RUNS, Status.RUNNING.value, None)
        )
        for row in rows:
            if wanted.covers(row):
                await self._orchestrator.cancel(row.run_id)
        created = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
        data = {
            **body,
            "id": stable_uuid("cancellation", f"{now_ms}:{dumps(body)}"),
            "created_at": created,
        }
        return respond(200, {"data": data, "metadata": {"fetched_at": created}})
