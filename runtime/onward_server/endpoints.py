"""Durable endpoints: runs that their own HTTP requests create and drive, until they go async.

While a request drives its run, the run has one job, which is not called but held (generation 0): it
falls due when the request has not been heard of for a while, and then the endpoint is called.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from onward.core.ids import RUN_COMPLETE_ID
from onward.core.ops import Opcode
from onward.protocol import headers as names
from onward.protocol.endpoint import REQUEST_EVENT, decode_result
from onward_server.answers import Raised, Reported, WireOp, error_info, parse_ops
from onward_server.endpoint_invoker import SCHEME, is_endpoint
from onward_server.events import Event
from onward_server.json_text import dumps, loads
from onward_server.model import (
    Effects,
    Job,
    Now,
    PutEvent,
    PutRun,
    Refusal,
    job_row,
)
from onward_server.refusals import too_large
from onward_server.run_state import RunState
from onward_server.runs import completed

if TYPE_CHECKING:
    from onward_server.orchestrator import Orchestrator

#: Seconds after which a run is taken over whose request did not ask for less: that of an SDK that
#: does not say that it lives. As long as an Inngest server gives an API request (source).
QUIET_S = 3600.0

#: How long a token opens the output of its run, in seconds.
TOKEN_LIFE_S = 30 * 86400

_SERVER_ERROR = 500
_ULID_LENGTH = 26
_STEPS = frozenset({Opcode.STEP_RUN.value})


class BadRunError(ValueError):
    """A run cannot be created of this body."""


# ------------------------------------------------------------------ one run


def held(run: RunState) -> Job | None:
    """The job of the request that drives the run; None once it has gone async."""
    return next((job for job in run.jobs.values() if job.generation == 0), None)


def report(run: RunState, ops: Sequence[WireOp], lease_s: float, now: Now) -> Effects:
    """What a checkpoint of the driving request changes: results, and the way on from there."""
    effects = Effects()
    job = None if run.over else held(run)
    if job is None:
        message = f"run {run.run_id} is not driven by this request any more"
        effects.stale = True
        effects.refusal = _refusal(run, 410 if run.over else 409, message)
        return effects
    for op in ops:
        if len(op.result) > run.settings.max_step_bytes:
            message = too_large(op, run.settings.max_step_bytes)
            effects.refusal = _refusal(run, 413, message)
            return effects
    for op in ops:
        if op.code in _STEPS:
            run.save(op.id, op.label, op.entry, effects)
    rest = tuple(op for op in ops if op.code not in _STEPS)
    if not rest:
        _hold(run, job, lease_s, effects, now)
        return effects
    job.generation, job.in_flight = 1, True
    job.steps_at_dispatch = len(run.steps) - effects.fresh
    after = run.answer(job.id, job.request_id, _outcome(rest), now)
    after.writes[:0] = effects.writes
    after.fresh += effects.fresh
    return after


def _outcome(ops: Sequence[WireOp]) -> Reported | Raised:
    """What the request says about its end, as the answer of a call would."""
    only = ops[0]
    if only.id == RUN_COMPLETE_ID and only.error is not None:
        return Raised(only.error, retriable=only.code == Opcode.STEP_ERROR)
    response = decode_result(loads(only.result)) if only.code == Opcode.RUN_COMPLETE else None
    if response is not None and response.status >= _SERVER_ERROR:
        message = f"The endpoint answered {response.status}."
        return Raised(error_info("EndpointFailedError", message), retriable=False)
    return Reported(tuple(ops), int(names.EXECUTION_VERSION), no_retry=None, retry_after_s=None)


def _hold(run: RunState, job: Job, lease_s: float, effects: Effects, now: Now) -> None:
    """Puts off the instant at which the run is taken over; seldom, since each time is written."""
    due_ms = now.ms + round(lease_s * 1000)
    if due_ms - job.due_ms < lease_s * 1000 / 4:
        return
    job.due_ms = due_ms
    effects.writes.append(job_row(run.run_id, job))
    effects.timers.append((due_ms, job.id))


def _refusal(run: RunState, status: int, message: str) -> Refusal:
    return Refusal(status, {"error": message, "data": {"run_id": run.run_id}, "status": status})


# ------------------------------------------------------------------ a run's beginning


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a request says about the run that it creates. `origin` is the endpoint's app."""

    run_id: str
    function_id: str
    origin: str
    data: Mapping[str, Any]
    retries: int
    ts: int
    watched: bool
    ops: tuple[WireOp, ...]


def object_of(value: object) -> dict[str, Any]:
    """`value`, which has to be a JSON object. Raises BadRunError."""
    if not isinstance(value, dict):
        raise BadRunError("it must be a JSON object")
    return value


def parse_new_run(body: object, sdk: str) -> NewRun:
    """The run in the body of `POST /v1/checkpoint`. Raises BadRunError, BadOpsError.

    `sdk` is the header that names the SDK: that of TypeScript sends a body as it is, where the
    server and others have base 64.
    """
    body = object_of(body)
    run_id, event = body.get("run_id"), body.get("event")
    if not isinstance(run_id, str) or len(run_id) != _ULID_LENGTH or not run_id.isalnum():
        raise BadRunError(f"run_id must be a ULID, not {run_id!r}")
    data = event.get("data") if isinstance(event, dict) else None
    if not isinstance(event, dict) or not isinstance(data, dict):
        raise BadRunError("event must be an object with data")
    origin, path = data.get("domain"), data.get("path")
    if not isinstance(origin, str) or not is_endpoint(SCHEME + origin):
        raise BadRunError(f"event.data.domain must be an http:// or https:// URL, not {origin!r}")
    if not isinstance(path, str) or not path.startswith("/"):
        raise BadRunError(f"event.data.path must begin with a slash, not {path!r}")
    retries = body.get("retries", 3)
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise BadRunError(f"retries must be a whole number from 0, not {retries!r}")
    if sdk.startswith("inngest-js") and isinstance(data.get("body"), str):
        data = {**data, "body": base64.b64encode(data["body"].encode()).decode()}
    ts = event.get("ts")
    return NewRun(
        run_id,
        str(data.get("fn") or f"{data.get('method')} {path}"),
        origin.rstrip("/"),
        data,
        retries,
        ts if isinstance(ts, int) and not isinstance(ts, bool) else 0,
        body.get("lease") is True,
        parse_ops(body.get("steps") or []),
    )


class Endpoints:
    """The runs of durable endpoints of `orchestrator`, and their outputs."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._secret: bytes | None = None
        self._registering = asyncio.Lock()

    def _lease(self, *, watched: bool) -> float:
        return self._orchestrator.settings.endpoint_lease_s if watched else QUIET_S

    async def create(self, new: NewRun) -> Refusal | None:
        """Creates a run with what its request has done so far; again, it changes nothing.

        Raises StoreError.
        """
        orchestrator = self._orchestrator
        runs = orchestrator.runs
        if runs.get(new.run_id) is None and not await orchestrator.exists(new.run_id):
            await self._register(new)
            now = runs.now()
            id_ = now.ulid()
            value = {"data": new.data, "id": id_, "name": REQUEST_EVENT, "ts": new.ts or now.ms}
            event = Event(id_, "", value)
            state = RunState(
                run_id=new.run_id,
                function_id=new.function_id,
                event_id=event.id,
                event_names=event.name,
                events=f"[{event.text}]",
                settings=orchestrator.settings,
                max_attempts=new.retries + 1,
                started_ms=now.ms,
            )
            effects = Effects()
            started = (state.event_id, state.event_names, state.events, state.started_ms)
            effects.writes.append(PutRun(state.run_id, state.function_id, *started))
            job = Job(now.job_id(), request_id=new.run_id)
            state.jobs[job.id] = job
            _hold(state, job, self._lease(watched=new.watched), effects, now)
            row = PutEvent(event.id, "", event.name, event.text, now.ms)
            await completed(self._begin(state, effects, row))
        elif runs.get(new.run_id) is None:
            return None  # its end was taken, and the answer lost
        return await self.steps(new.run_id, new.ops, watched=new.watched)

    async def _begin(self, state: RunState, effects: Effects, row: PutEvent) -> None:
        await self._orchestrator.store.commit([row, *effects.writes])
        self._orchestrator.begun(state)
        self._orchestrator.runs.add(state, effects)

    async def _register(self, new: NewRun) -> None:
        """Makes the endpoint known as a function, so that it can be called and be seen."""
        async with self._registering:  # each adds to what the one before registered
            await self._add_function(new)

    async def _add_function(self, new: NewRun) -> None:
        url = SCHEME + new.origin
        _, text = self._orchestrator.registrations.get(new.origin, ("", ""))
        known = {f["id"]: f for f in loads(text)["functions"]} if text else {}
        runtime = {"type": "http", "url": url}
        step = {"id": "step", "name": "step", "runtime": runtime}
        entry = {
            "id": new.function_id,
            "name": new.function_id,
            "triggers": [],
            "steps": {"step": {**step, "retries": {"attempts": min(new.retries, 20)}}},
        }
        if known.get(new.function_id) == entry:
            return
        functions = [*({**known, new.function_id: entry}).values()]
        body = {"appName": new.origin, "url": url, "functions": functions}
        await self._orchestrator.register(body)

    async def steps(self, run_id: str, ops: Sequence[WireOp], *, watched: bool) -> Refusal | None:
        """Takes in what the request of `run_id` has done since. Raises StoreError.

        `watched`: it says that it lives, so that silence means that it does not.
        """
        lease_s = self._lease(watched=watched)
        effects = await self._orchestrator.runs.change(
            run_id, lambda run, now: report(run, ops, lease_s, now)
        )
        if effects is None:
            body = {"error": "run not found in state store", "data": {"run_id": run_id}}
            return Refusal(410, {**body, "status": 410})
        if effects.refusal is None and ops:
            self._orchestrator.checkpointed(run_id, run_id, ops, effects)
        return effects.refusal

    # ------------------------------------------------------------------ tokens

    async def token(self, run_id: str) -> str:
        """What opens the output of `run_id`: a JSON Web Token, as an Inngest server makes them."""
        now = self._orchestrator.clock.now_ms() // 1000
        claims = {"sub": "run-claim", "exp": now + TOKEN_LIFE_S, "iat": now, "RunID": run_id}
        head = _base64(dumps({"alg": "HS256", "typ": "JWT"}).encode())
        payload = f"{head}.{_base64(dumps(claims).encode())}"
        return f"{payload}.{_mac(await self._key(), payload)}"

    async def opens(self, token: str, run_id: str) -> bool:
        """Whether `token` opens the output of `run_id` now."""
        payload, _, mac = token.rpartition(".")
        expected = _mac(await self._key(), payload)
        if not hmac.compare_digest(expected.encode(), mac.encode()):
            return False
        try:
            claims = json.loads(_unbase64(payload.rpartition(".")[2]))
        except ValueError:
            return False
        now = self._orchestrator.clock.now_ms() // 1000
        return bool(claims.get("RunID") == run_id and claims.get("exp", 0) > now)

    async def _key(self) -> bytes:
        if self._secret is None:
            self._secret = await self._orchestrator.store.read(_kept_secret)
        return self._secret


def _kept_secret(connection: sqlite3.Connection) -> bytes:
    """The database's own key for tokens; made when it is first needed."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS endpoint_secret (id INTEGER PRIMARY KEY CHECK (id = 1),"
        " secret BLOB NOT NULL) STRICT"
    )
    connection.execute(
        "INSERT OR IGNORE INTO endpoint_secret VALUES (1, ?)", (secrets.token_bytes(32),)
    )
    return bytes(connection.execute("SELECT secret FROM endpoint_secret").fetchone()[0])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _mac(key: bytes, payload: str) -> str:
    return _base64(hmac.new(key, payload.encode(), sha256).digest())
