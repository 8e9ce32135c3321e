"""Drives the embedded orchestrator with recorded responses, in recorded order, on its own clock."""

from __future__ import annotations

import asyncio
import heapq
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from onward.protocol.signature import bearer_token, sign, verify
from onward_server import Orchestrator, RunView, Settings, TraceEvent
from onward_server.serving import serve, serve_asgi
from tests.golden.recordings import (
    Exchange,
    Mapping,
    RecordedCall,
    Recording,
    differences,
)

#: Long enough for any machine: a replay that takes it hangs.
HANGS_AFTER_S = 30.0
START_MS = 1_795_400_000_000


class ManualClock:
    """A clock that stands still until it is moved to the next instant that anything waits for."""

    def __init__(self) -> None:
        self._now = START_MS
        self._due: list[tuple[int, int, Callable[[], None], list[bool]]] = []
        self._count = 0

    def now_ms(self) -> int:
        return self._now

    def call_at(self, due_ms: int, wake: Callable[[], None]) -> ManualHandle:
        alive = [True]
        self._count += 1
        heapq.heappush(self._due, (due_ms, self._count, wake, alive))
        return ManualHandle(alive)

    def advance(self) -> bool:
        """Moves to the next instant. False if nothing waits for any."""
        while self._due:
            due, _, wake, alive = heapq.heappop(self._due)
            if alive[0]:
                self._now = max(self._now, due)
                wake()
                return True
        return False


@dataclass
class ManualHandle:
    alive: list[bool]

    def cancel(self) -> None:
        self.alive[0] = False


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid_ms(text: str) -> int:
    """When the ULID `text` was made, in milliseconds since the epoch."""
    value = 0
    for letter in text[:10]:
        value = value * 32 + _CROCKFORD.index(letter)
    return value


Stimulus = Callable[["Replay"], Any]


@dataclass
class Replay:
    """One or more recordings played against one orchestrator.

    `problems` are the differences found, `unexpected` the calls that were not recorded. A stimulus
    is played when the orchestrator has no call in flight, before the clock moves.
    """

    recordings: Sequence[Recording]
    orchestrator: Orchestrator
    clock: ManualClock
    adapt: Callable[[RecordedCall, dict[str, Any]], dict[str, Any]]
    stimuli: list[Stimulus] = field(default_factory=list)
    mapping: Mapping = field(default_factory=Mapping)
    problems: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    made: list[dict[str, Any]] = field(default_factory=list)
    api: str = ""

    def __post_init__(self) -> None:
        self._marks: list[tuple[int, Exchange]] = []
        for recording in self.recordings:
            first = recording.calls[0]
            offset = ulid_ms(first.ctx["request_id"]) - first.exchange.at
            for call in recording.calls:
                self._marks += [(offset + e.end, e) for e in (*call.checkpoints, call.exchange)]
        self._marks.sort(key=lambda mark: mark[0])
        self._passed: set[int] = set()
        self._blocked = 0
        self._in_flight = 0
        self._turn = asyncio.Condition()
        self._checks: set[asyncio.Task[None]] = set()

    # The function, as recorded

    async def function(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a call as the recorded function did."""
        request = Request(scope, receive)
        self._raw = await request.body()
        body = json.loads(self._raw)
        self.made.append(body)
        call = self._match(request, body)
        if call is None:
            self.unexpected.append(f"{request.url.query} {body['ctx']}")
            response = Response(b"[]", 500)
        else:
            response = await self._play(call, body)
        await response(scope, receive, send)

    def _match(self, request: Request, body: dict[str, Any]) -> RecordedCall | None:
        candidates = [
            call
            for recording in self.recordings
            for call in recording.calls
            if not call.taken
            and call.query == dict(request.query_params)
            and call.ctx["attempt"] == body["ctx"]["attempt"]
        ]
        if not candidates:
            return None
        call = next((c for c in candidates if not self._compare(c, request, body, Mapping())), None)
        call = call or candidates[0]
        call.taken = True
        self.problems += self._compare(call, request, body, self.mapping)
        return call

    def _compare(
        self, call: RecordedCall, request: Request, body: dict[str, Any], mapping: Mapping
    ) -> list[str]:
        recorded = self.adapt(call, body)
        found = differences(recorded, body, mapping, "body")
        expected = {
            key: value
            for key, value in call.exchange.request["headers"].items()
            if key not in IGNORED_HEADERS
        }
        ctx = body["ctx"]
        ours = {key: request.headers.get(key) for key in expected}
        found += differences(expected, ours, mapping, "headers")
        if "x-inngest-signature" in call.exchange.request["headers"]:
            found += self._signature_problems(request)
        ids = {"x-request-id": ctx["request_id"], "x-inngest-job-id": ctx["job_id"]}
        found += [
            f"header {key} is not {value!r}"
            for key, value in ids.items()
            if request.headers.get(key) != value
        ]
        found += differences(call.exchange.request["method"], request.method, mapping, "method")
        path = call.exchange.request["path"].split("?")[0]
        found += differences(path, request.url.path, mapping, "path")
        return found

    def _signature_problems(self, request: Request) -> list[str]:
        key = self.orchestrator.settings.signing_key
        header = request.headers.get("x-inngest-signature", "")
        good = key is not None and verify(self._raw, header, key, now=time.time())
        return [] if good else [f"the signature {header!r} is wrong"]

    async def _play(self, call: RecordedCall, body: dict[str, Any]) -> Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            for checkpoint in call.checkpoints:
                await self._wait_for_turn(checkpoint)
                if not checkpoint.injected:
                    await self._checkpoint(client, checkpoint)
                await self._pass(checkpoint)
        await self._wait_for_turn(call.exchange)
        await self._pass(call.exchange)
        answer = call.exchange.response
        content = json.dumps(self.mapping.translate(answer["body"]))
        headers = dict(answer["headers"])
        if "x-inngest-signature" in headers:  # made again: its ids differ, and it has an age
            key = self.orchestrator.settings.signing_key
            assert key is not None
            headers["x-inngest-signature"] = sign(content.encode(), key, int(time.time()))
        return Response(content, answer["status"], headers)

    async def _checkpoint(self, client: httpx.AsyncClient, checkpoint: Exchange) -> None:
        request = self.mapping.translate(checkpoint.body)
        path = checkpoint.request["path"].replace(checkpoint.body["run_id"], request["run_id"])
        fields = {"authorization": checkpoint.request["headers"].get("authorization", "")}
        response = await client.post(self.api + path, json=request, headers=fields)
        expected = checkpoint.response
        ours = {
            "status": response.status_code,
            "headers": {key: response.headers.get(key) for key in expected["headers"]},
            "body": response.json(),
        }
        recorded = {key: expected[key] for key in ours}
        self.problems += differences(recorded, ours, self.mapping, "checkpoint")

    # Whose turn it is, and when the clock moves

    async def _wait_for_turn(self, exchange: Exchange) -> None:
        async with self._turn:
            if self._first_open() is exchange:
                return
            self._blocked += 1
            self._check_soon()
            await self._turn.wait_for(lambda: self._first_open() is exchange)
            self._blocked -= 1

    def _first_open(self) -> Exchange | None:
        return next((e for _, e in self._marks if id(e) not in self._passed), None)

    async def _pass(self, exchange: Exchange) -> None:
        async with self._turn:
            self._passed.add(id(exchange))
            self._turn.notify_all()

    def seen(self, event: TraceEvent) -> None:
        """Counts the calls in flight."""
        self._in_flight += {"call.started": 1, "call.ended": -1}.get(event.kind, 0)
        if event.kind == "call.ended":
            self._check_soon()

    def _check_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self._check())
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _check(self) -> None:
        """Moves on if every call in flight waits for something that only time can bring."""
        await asyncio.sleep(0)
        await asyncio.gather(*self.orchestrator._follow_ups)
        for _ in range(3):  # what they dispatched has begun by then
            await asyncio.sleep(0)
        if self._in_flight != self._blocked or not self.orchestrator._runs.all():
            return
        if self.stimuli:
            await self.stimuli.pop(0)(self)
        elif self.clock.advance():
            self._check_soon()

    async def run(self, registration: dict[str, Any], begin: Callable[[Replay], Any]) -> RunView:
        """Plays it all; the run that `begin` starts, once it ended."""
        async with (
            serve_asgi(self.function) as function,
            serve(self.orchestrator) as api,
            asyncio.timeout(HANGS_AFTER_S),
        ):
            self.api = api.url
            self.orchestrator.subscribe(self.seen)
            text = json.dumps(registration).replace("http://127.0.0.1:3000", function.url)
            response = httpx.Response(200)
            async with httpx.AsyncClient(trust_env=False) as client:
                fields = {}
                if key := self.orchestrator.settings.signing_key:
                    fields["authorization"] = f"Bearer {bearer_token(key)}"
                response = await client.post(f"{api.url}/fn/register", content=text, headers=fields)
            assert response.status_code == 200, response.text
            run_id = await begin(self)
            view = await self.orchestrator.result(run_id)
            while self.orchestrator._runs.all() or self.orchestrator._follow_ups:
                await asyncio.gather(*self.orchestrator._follow_ups)
                for state in self.orchestrator._runs.all():
                    await self.orchestrator.result(state.run_id)
            return view


#: Headers that are not compared, each with the reason.
IGNORED_HEADERS = {
    "traceparent": "trace ids are random; every call carries one of its own",
    "x-request-id": "checked against ctx.request_id, which is mapped",
    "x-inngest-job-id": "checked against ctx.job_id, which is mapped",
    "x-inngest-signature": "checked with the key: it holds the time",
}


async def orchestrator_on(clock: ManualClock, settings: Settings | None = None) -> Orchestrator:
    """A started orchestrator in memory."""
    orchestrator = Orchestrator(":memory:", settings or Settings(), clock=clock)
    await orchestrator.start()
    return orchestrator
