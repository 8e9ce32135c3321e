"""Functions that answer what a test wants, and short ways to write ops and registrations."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

from onward.core.ids import RUN_COMPLETE_ID, hash_step
from onward_server import Answer, InvokeError
from onward_server.answers import WireOp, parse_op
from onward_server.model import Now

RACE = {"parallelMode": "race"}
#: Waits longer than this have hung.
HANGS_AFTER_S = 20.0

Handler = Callable[["Call"], Awaitable[Answer]]


def step_id(name: str) -> str:
    return hash_step(name, 0)


def run_op(name: str, data: Any = 1, **opts: Any) -> dict[str, Any]:
    return {"id": step_id(name), "op": "StepRun", "name": name, "data": data, "opts": opts}


def plan_op(name: str, **opts: Any) -> dict[str, Any]:
    return {"id": step_id(name), "op": "StepPlanned", "name": name, "opts": opts}


def sleep_op(name: str, duration: str, **opts: Any) -> dict[str, Any]:
    return {
        "id": step_id(name),
        "op": "Sleep",
        "name": duration,
        "displayName": name,
        "opts": {"duration": duration, **opts},
    }


def wait_op(name: str, event: str, timeout: str, **opts: Any) -> dict[str, Any]:
    return {
        "id": step_id(name),
        "op": "WaitForEvent",
        "name": event,
        "displayName": name,
        "opts": {"event": event, "timeout": timeout, **opts},
    }


def signal_op(name: str, signal: str, timeout: str = "1h", **opts: Any) -> dict[str, Any]:
    return {
        "id": step_id(name),
        "op": "WaitForSignal",
        "name": signal,
        "displayName": name,
        "opts": {"signal": signal, "timeout": timeout, **opts},
    }


def invoke_op(name: str, function_id: str, data: Any = None, **opts: Any) -> dict[str, Any]:
    return {
        "id": step_id(name),
        "op": "InvokeFunction",
        "displayName": name,
        "opts": {"function_id": function_id, "payload": {"data": data or {}}, **opts},
    }


def error_op(name: str, op: str = "StepError") -> dict[str, Any]:
    error = {"name": "ValueError", "message": f"{name} broke", "stack": ""}
    return {"id": step_id(name), "op": op, "name": name, "error": error}


def continue_op(id_: str) -> dict[str, Any]:
    return {"id": id_, "op": "DiscoveryRequest", "name": "continue"}


def none_op(id_: str) -> dict[str, Any]:
    return {"id": id_, "op": "None"}


def complete_op(data: Any = None) -> dict[str, Any]:
    return {"id": RUN_COMPLETE_ID, "op": "RunComplete", "data": data}


def parsed(*ops: dict[str, Any]) -> tuple[WireOp, ...]:
    return tuple(parse_op(op) for op in ops)


def report(*ops: dict[str, Any], **headers: str) -> Answer:
    fields = {"x-inngest-req-version": "2"}
    fields.update({key.replace("_", "-"): value for key, value in headers.items()})
    return Answer(206, fields, json.dumps(ops).encode())


def complete(data: Any = None, *before: dict[str, Any]) -> Answer:
    return report(*before, complete_op(data))


def failure(message: str = "boom", status: int = 500, **headers: str) -> Answer:
    fields = {key.replace("_", "-"): value for key, value in headers.items()}
    body = {"name": "ValueError", "message": message, "stack": ""}
    return Answer(status, fields, json.dumps(body).encode())


class Call:
    """A call request as a function sees it."""

    def __init__(self, function_id: str, target: str, request: dict[str, Any]) -> None:
        self.function_id = function_id
        self.target = target
        self.request = request
        self.ctx: dict[str, Any] = request["ctx"]

    @property
    def steps(self) -> dict[str, Any]:
        steps: dict[str, Any] = self.request["steps"]
        return steps

    def has(self, name: str) -> bool:
        return step_id(name) in self.ctx["stack"]["stack"]


class Function:
    """An invoker that asks `handler` for every answer and keeps the calls."""

    def __init__(self, handler: Handler, concurrency: int = 100) -> None:
        self.handler = handler
        self.concurrency = concurrency
        self.calls: list[Call] = []
        self.running = 0
        self.most_running = 0

    async def invoke(
        self,
        function_id: str,
        target: str,
        request: dict[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - the protocol
    ) -> Answer:
        call = Call(function_id, target, request)
        self.calls.append(call)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self.handler(call)
        finally:
            self.running -= 1


def script(*answers: Answer | InvokeError) -> Function:
    """A function that gives these answers, one after the other."""
    left = list(answers)

    async def handler(_call: Call) -> Answer:
        answer = left.pop(0)
        if isinstance(answer, InvokeError):
            raise answer
        return answer

    return Function(handler)


async def never(_call: Call) -> Answer:
    """Does not answer."""
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


def registration(
    *functions: str | dict[str, Any],
    app: str = "app",
    url: str = "http://127.0.0.1:9/x",
    retries: int = 0,
) -> dict[str, Any]:
    """Functions of `app`; one called `f` is started by the event `app/f`."""
    entries = []
    for function in functions:
        entry: dict[str, Any] = {"id": function} if isinstance(function, str) else dict(function)
        name = entry["id"]
        entry["id"] = f"{app}-{name}"
        entry.setdefault("triggers", [{"event": f"{app}/{name}"}])
        runtime = {"type": "http", "url": f"{url}?fnId={entry['id']}&stepId=step"}
        entry.setdefault("steps", {"step": {"runtime": runtime, "retries": {"attempts": retries}}})
        entries.append(entry)
    return {"appName": app, "url": url, "functions": entries}


class Ids:
    """Ids and a clock for the state machine on its own. `ms` may be set."""

    def __init__(self) -> None:
        self.ms = 1_000_000
        self._numbers = itertools.count(1)

    def now(self) -> Now:
        return Now(
            self.ms, 0.5, lambda: f"R{next(self._numbers)}", lambda: f"J{next(self._numbers)}"
        )
