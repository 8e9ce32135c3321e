"""Runs from outside: how they stand, what they returned, cancelling them.

Imported when one of these is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar, overload
from urllib.parse import quote

from onward.errors import (
    ConfigurationError,
    ResultError,
    RunCancelledError,
    RunError,
    RunFailedError,
    RunNotFinishedError,
    UnknownRunError,
)
from onward.transport.http import (
    TIMEOUT,
    Ask,
    Pause,
    Plan,
    Reply,
    Work,
    answered,
    asking,
    blocking,
    perform_async,
    refused,
)

if TYPE_CHECKING:
    from onward.app import App
    from onward.config import Duration
    from onward.middleware.chain import Chain

_T = TypeVar("_T")

#: How often a request about runs is tried.
READ_TRIES = 3

#: How often the result of a run that has just completed is looked for: over some ten seconds.
TRACE_TRIES = 10

#: Seconds between two looks at a run: the first, how they grow, the longest. An Inngest server
#: itself looks only every 3 seconds (recorded).
FIRST_LOOK, LOOKS_GROW, LONGEST_LOOK = 0.05, 1.5, 2.0

#: Seconds after which a run that nobody knows is unknown: a new one may take a moment to show.
APPEARS_WITHIN = 5.0

#: Seconds for which an orchestrator may be away while a result is awaited.
AWAY_FOR = 60.0

#: The shortest that an answer is waited for, in seconds.
SHORTEST = 1.0

COMPLETED, FAILED, CANCELLED = "Completed", "Failed", "Cancelled"

#: How a run may stand when it is over (the REST API's words).
ENDED = frozenset({COMPLETED, FAILED, CANCELLED, "Overflowed", "Skipped"})

_NOT_FOUND = 404


def reading(app: App, run_id: str, *, tries: int = READ_TRIES) -> Plan[Mapping[str, Any] | None]:
    """The run as the REST API shows it, or None if there is none."""
    ask = _about(app, "GET", f"/v1/runs/{_checked(run_id)}")
    return _run_in(ask, (yield from asking(ask, tries=tries)))


def _run_in(ask: Ask, reply: Reply) -> Mapping[str, Any] | None:
    if reply.status == _NOT_FOUND:
        return None
    try:
        body = reply.json()
    except ValueError:
        body = None
    if reply.good and isinstance(body, dict):
        run = body.get("data")
        if run is None and body.get("error"):  # an unknown run is an error in a 200 (recorded)
            return None
        if isinstance(run, dict) and isinstance(run.get("status"), str):
            return run
    if not reply.good:
        raise refused(ask, reply)
    raise RunError(f"{ask.told} answered 200 without a run: {reply.text[:500]}")


def finishing(app: App, run_id: str, timeout: float) -> Plan[Mapping[str, Any]]:
    """The run, once it is over. `timeout` in seconds, `inf` for none.

    Raises RunNotFinishedError, UnknownRunError.
    """
    begun = time.monotonic()
    until, away_since, look = begun + timeout, inf, FIRST_LOOK
    ask = _about(app, "GET", f"/v1/runs/{_checked(run_id)}")
    while True:
        left = max(until - time.monotonic(), SHORTEST)
        reply = yield from asking(replace(ask, timeout=min(TIMEOUT, left)))
        now = time.monotonic()
        run = None if reply.may_pass else _run_in(ask, reply)
        if run is not None and run["status"] in ENDED:
            return run
        away_since = min(away_since, now) if reply.may_pass else inf
        if now - away_since > AWAY_FOR:
            raise refused(ask, reply)
        late = now >= until
        if run is None and not reply.may_pass and (late or now > begun + APPEARS_WITHIN):
            raise _unknown(app, run_id)
        if late:
            state = f"is {run['status']}" if run is not None else refused(ask, reply).message
            raise RunNotFinishedError(
                f"The run {run_id} did not end within {timeout:g} s: it {state}. It goes on; ask"
                " again, or give a longer timeout.",
                run_id,
            )
        yield Pause(min(max(look, reply.retry_after()), until - now))
        look = min(look * LOOKS_GROW, LONGEST_LOOK)


def resulting(app: App, run_id: str, timeout: float, type_: Any) -> Plan[Any]:
    """The result of the run, rebuilt as `type_` says. Raises RunError, ResultError."""
    run = yield from finishing(app, run_id, timeout)
    if run["status"] != COMPLETED:
        raise _ended_badly(run_id, run, app.chain())
    value = run.get("output")
    if value is None or value == "":
        value = yield from _traced(app, run_id, value)
    chain = app.chain()
    if chain is not None:
        value = yield Work(partial(chain.opened, value))
    if type_ is None:
        return value
    from onward.schemas import rebuilt

    try:
        return rebuilt(type_, value)
    except ValueError as error:
        raise ResultError(
            f"The result of run {run_id} is not what type= says: {error} Give the type that the"
            " function returns, or none."
        ) from error


def _traced(app: App, run_id: str, shown: Any) -> Plan[Any]:
    """The result from the run's trace.

    An Inngest server's `/v1/runs` shows an empty output for every run that ended with a
    `RunComplete` op (recorded); the newer API has it, a moment later (seen on one). Where there is
    no such API, what was shown is the result.
    """
    ask = _about(app, "GET", f"/v2/runs/{run_id}?includeOutput=true")
    for attempt in range(TRACE_TRIES):
        reply = yield from asking(ask, tries=READ_TRIES)
        if not reply.good:
            return shown
        try:
            run = reply.json()["data"]
        except (ValueError, TypeError, KeyError):
            return shown
        if "output" in run:
            return _untraced(run["output"])
        yield Pause(min(LONGEST_LOOK, FIRST_LOOK * 2**attempt))
    raise RunNotFinishedError(
        f"The run {run_id} has completed, and its orchestrator does not show its result yet. Ask"
        " again in a moment.",
        run_id,
    )


def _untraced(output: Any) -> Any:
    """The result in a trace: an object as it is, anything else as `{"data": …}` (its source).

    So an object that has `data` alone, and there no object, cannot be told from what it holds.
    """
    alone = isinstance(output, dict) and set(output) == {"data"}
    return output["data"] if alone and not isinstance(output["data"], dict) else output


def _ended_badly(run_id: str, run: Mapping[str, Any], chain: Chain | None) -> RunError:
    status, output = run["status"], run.get("output")
    if status == CANCELLED:
        return RunCancelledError(f"The run {run_id} was cancelled, so it has no result.", run_id)
    error = output.get("error", output) if isinstance(output, dict) else output
    if not isinstance(error, dict):
        error = {"name": "Error", "message": str(error or f"the run is {status}")}
    name, reason = str(error.get("name") or "Error"), str(error.get("message") or "")
    stack = str(error.get("stack") or "")
    if chain is not None:
        name, reason, stack = chain.opened_error(name, reason, stack)
    message = f"The run {run_id} failed with {name}: {reason}"
    return RunFailedError(message, run_id, name=name, reason=reason, stack=stack)


def _unknown(app: App, run_id: str) -> UnknownRunError:
    return UnknownRunError(
        f"The orchestrator at {app.settings.api_url} has no run {run_id!r}. Look at the id, and"
        " whether INNGEST_DEV or INNGEST_BASE_URL names the orchestrator that has it.",
        run_id,
    )


def cancelling(app: App, run_id: str) -> Plan[None]:
    """Cancel a run; one that is over stays as it is. Raises UnknownRunError."""
    ask = _about(app, "DELETE", f"/v1/runs/{_checked(run_id)}")
    reply = yield from asking(ask, tries=READ_TRIES)
    if reply.status == _NOT_FOUND:
        raise _unknown(app, run_id)
    if not reply.good:
        raise refused(ask, reply)


def listing(app: App, event_id: object, timeout: float) -> Plan[list[str]]:
    """The ids of the runs that an event started, waiting for the first one for `timeout` seconds.

    An Inngest server keeps each answer for 15 seconds (recorded) under its whole address, so every
    look has an address of its own.
    """
    if not isinstance(event_id, str) or not event_id:
        raise ConfigurationError(f"{event_id!r} is no event's id: app.send() returns them.")
    path, look = f"/v1/events/{quote(event_id, safe='')}/runs", FIRST_LOOK
    until = time.monotonic() + timeout
    while True:
        ask = _about(app, "GET", f"{path}?at={time.time_ns() // 1_000_000}")
        body = yield from answered(ask, tries=READ_TRIES)
        runs = body.get("data") if isinstance(body, dict) else None
        left = until - time.monotonic()
        if runs or left <= 0:
            return [str(run["run_id"]) for run in runs or ()]
        yield Pause(min(look, left))
        look = min(look * LOOKS_GROW, LONGEST_LOOK)


def bulk_cancelling(
    app: App,
    function: object,
    started_before: datetime | None,
    started_after: datetime | None,
    if_: str | None,
) -> Plan[str]:
    """Cancel the runs of a function that started in a time; the id of the cancellation.

    The function need not be known here: a process that only sends and asks has none. Raises
    ConfigurationError.
    """
    if not isinstance(function, str) or not function:
        raise ConfigurationError(f"{function!r} is no function's id. Write it as text.")
    own = function.removeprefix(f"{app.id}-") if function in app.functions else function
    body: dict[str, Any] = {"app_id": app.id, "function_id": own}
    body["started_before"] = _instant(started_before or datetime.now(UTC), "started_before")
    if started_after is not None:
        body["started_after"] = _instant(started_after, "started_after")
    if if_ is not None:
        body["if"] = if_
    from onward.core.values import encode

    ask = _about(app, "POST", "/v1/cancellations", encode(body).encode())
    reply = yield from asking(ask, tries=READ_TRIES)
    if reply.status == _NOT_FOUND:  # a dev server knows functions by the id with the app's in front
        whole = encode({**body, "function_id": f"{app.id}-{own}"}).encode()
        reply = yield from asking(replace(ask, body=whole), tries=READ_TRIES)
    if not reply.good:
        raise refused(ask, reply)
    done = reply.json() or {}
    return str((done.get("data") or {}).get("id") or "")


def _instant(value: object, what: str) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ConfigurationError(f"{what} is {value!r}. Give an aware datetime.")
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _about(app: App, method: str, path: str, body: bytes | None = None) -> Ask:
    settings = app.settings
    return Ask(settings.api_url, method, path, body, settings.outgoing(), app.keys())


def _checked(run_id: object) -> str:
    if not isinstance(run_id, str) or not run_id.isalnum():
        raise UnknownRunError(
            f"{run_id!r} is no run's id. One looks like 01M837658RRCV6SWBF0FTT0DQW; app.runs_of("
            "event_id) gives those of the runs that an event started."
        )
    return run_id


# ---------------------------------------------------------------------- the two faces


class Run:
    """A run of some function, known by its id; nothing is asked before a method is called."""

    __slots__ = ("_app", "id")

    def __init__(self, app: App, run_id: str) -> None:
        self._app = app
        self.id = _checked(run_id)

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    def status(self) -> str:
        """How it stands: `"Running"`, `"Completed"`, `"Failed"`, `"Cancelled"`, or another.

        The words are the REST API's. Raises UnknownRunError, OrchestratorUnavailableError.
        """
        return blocking("status", self._standing())

    async def status_async(self) -> str:
        """As `status`."""
        return await perform_async(self._standing())

    def _standing(self) -> Plan[str]:
        run = yield from reading(self._app, self.id)
        if run is None:
            raise _unknown(self._app, self.id)
        return str(run["status"])

    @overload
    def result(self, timeout: Duration | None = None, *, type: type[_T]) -> _T: ...
    @overload
    def result(self, timeout: Duration | None = None, *, type: object = None) -> Any: ...
    def result(self, timeout: Duration | None = None, *, type: object = None) -> Any:  # noqa: A002
        """Wait until it is over; what the function returned.

        Args:
            timeout: A duration: the longest to wait. Default: as long as it takes.
            type: What to rebuild the result as: a pydantic model, or another annotation. Default:
                plain JSON values.

        Raises:
            RunFailedError: It failed; the error has name, reason and stack.
            RunCancelledError: It was cancelled.
            RunNotFinishedError: The timeout is over (a TimeoutError). The run goes on.
            UnknownRunError: There is no such run.
            ResultError: The result is not what `type` says.
            OrchestratorUnavailableError: The orchestrator was away for a minute.
        """
        return blocking("result", resulting(self._app, self.id, _seconds(timeout), type))

    @overload
    async def result_async(
        self,
        timeout: Duration | None = None,  # noqa: ASYNC109 - the same as the blocking twin's
        *,
        type: type[_T],
    ) -> _T: ...
    @overload
    async def result_async(
        self,
        timeout: Duration | None = None,  # noqa: ASYNC109 - the same as the blocking twin's
        *,
        type: object = None,
    ) -> Any: ...
    async def result_async(
        self,
        timeout: Duration | None = None,  # noqa: ASYNC109 - the same as the blocking twin's
        *,
        type: object = None,  # noqa: A002
    ) -> Any:
        """As `result`."""
        return await perform_async(resulting(self._app, self.id, _seconds(timeout), type))

    def cancel(self) -> None:
        """Cancel it. One that is over stays as it is. Raises UnknownRunError."""
        blocking("cancel", cancelling(self._app, self.id))

    async def cancel_async(self) -> None:
        """As `cancel`."""
        await perform_async(cancelling(self._app, self.id))


def _seconds(timeout: Duration | None, what: str = "result()") -> float:
    if timeout is None:
        return inf
    from onward.core.durations import parse_duration

    return parse_duration(timeout, what=f"the timeout of {what}")


def listing_handles(app: App, event_id: str, timeout: Duration | None) -> Plan[list[Run]]:
    """The runs that an event started, so far."""
    seconds = 0.0 if timeout is None else _seconds(timeout, "runs_of()")
    return [Run(app, run_id) for run_id in (yield from listing(app, event_id, seconds))]
