"""Runs functions to their end against the real embedded orchestrator, over any entry.

The orchestrator, uvicorn and a WSGI server have threads of their own; the Lambda handler runs on
the main thread as it does on Lambda. Whatever the runtime sends is checked as it comes in, and
that nothing is left behind when a run has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import pytest

import onward.aws_lambda
from onward import App, Event
from onward.execution import side_loop
from onward.execution.abandoned import abandoned
from onward.execution.workers import workers
from onward.protocol.direct import call_payload
from onward.testing import BodyEvent, observe_bodies
from onward_server import Answer, HttpInvoker, Orchestrator, RunView, Settings, queries
from tests.support.allowed import allowed_response, one_outcome
from tests.support.loops import HANGS_AFTER_S, LoopThread, eventually
from tests.support.matrix import CHECKPOINTING
from tests.support.served import PATH, ServedByLambda, ServedOverHttp, ServedOverWsgi
from tests.support.wsgi_server import WsgiThread

APP, FUNCTION, EVENT = "scenarios", "function", "scenario/started"
COMPOSITE = f"{APP}-{FUNCTION}"

#: Short delays. A function that asks for a delay gets one of at most 50 ms.
QUICK: dict[str, Any] = {
    "retry_base_s": 0.01,
    "retry_max_s": 0.05,
    "retry_jitter": 0.0,
    "retry_after_min_s": 0.01,
    "retry_after_max_s": 0.05,
    "synchronous": "OFF",
}

#: What a checkpoint repeats of its call.
HEAD = ("run_id", "fn_id", "qi_id", "request_id", "generation_id")

#: What an injected fault answers: status and body. None: the orchestrator answers.
Fault = Callable[[dict[str, Any]], tuple[int, Any] | None]


@dataclass
class Checkpoint:
    """A checkpoint that was sent, and how it was answered."""

    request_id: str
    ops: list[dict[str, Any]]
    status: int
    head: dict[str, Any]

    @property
    def steps(self) -> list[str]:
        """The user's ids of its steps."""
        return [title(op) for op in self.ops]


@dataclass
class Invocation:
    """One call and its answer. `kind`: `a` to `f`, `handover`, `result` (200) or `error`."""

    request: dict[str, Any]
    target: str
    kind: str
    answer: Answer
    checkpoints: list[Checkpoint]

    @property
    def attempt(self) -> int:
        """The attempt of the call."""
        return int(self.request["ctx"]["attempt"])

    @property
    def body(self) -> Any:
        """The answer's body."""
        return json.loads(self.answer.body)

    @property
    def shape(self) -> list[str]:
        """Kind and user's id of each op of the answer."""
        ops = self.body if self.answer.status == 206 else []
        return [f"{op['op']} {title(op)}".strip() for op in ops]


@dataclass
class Run:
    """A run that has ended, and everything that it led to."""

    view: RunView
    invocations: list[Invocation]
    checkpoints: list[Checkpoint]
    starts: Counter[str]
    ends: Counter[str]

    @property
    def result(self) -> Any:
        """Its result; it has to have completed."""
        assert self.view.status == "Completed", self.view
        return self.view.result

    @property
    def error(self) -> dict[str, Any]:
        """Its error; it has to have failed."""
        assert self.view.status == "Failed", self.view
        assert self.view.error is not None
        return self.view.error

    @property
    def batches(self) -> list[list[str]]:
        """The confirmed checkpoints: the user's ids of their steps."""
        return [c.steps for c in self.checkpoints if c.status == 200]

    @property
    def kinds(self) -> str:
        """The kinds of the answers, in order, separated by spaces."""
        return " ".join(invocation.kind for invocation in self.invocations)

    @property
    def once(self) -> bool:
        """Whether no body began twice."""
        return set(self.starts.values()) <= {1}


def title(op: dict[str, Any]) -> str:
    """How the user calls the step of `op`: `id`, or `id:n` for its n-th repeat."""
    userland = op.get("userland", {})
    return f"{userland.get('id', '')}{':' + str(userland['index']) if 'index' in userland else ''}"


class Platform:
    """What all scenarios share: the servers of the orchestrator's API and of the app."""

    def __init__(self, loops: LoopThread, app_loops: LoopThread, wsgi: WsgiThread) -> None:
        self.loops = loops
        self.app_loops = app_loops
        self.world: World | None = None
        self.api_url = loops.serve(self._api)
        self.asgi = ServedOverHttp(app_loops)
        self.wsgi = ServedOverWsgi(wsgi)

    async def _api(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.world is not None
        await self.world.api(scope, receive, send)


@dataclass
class World:
    """One scenario: an orchestrator, an app behind `entry`, and a ledger of its bodies.

    `mode`: how its functions checkpoint, by its name in the matrix; None: as they say themselves.
    """

    platform: Platform
    driver: str
    entry: str
    mode: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    app_options: dict[str, Any] = field(default_factory=dict)
    function_options: dict[str, Any] = field(default_factory=dict)
    lambda_seconds: float = 900.0
    fault: Fault | None = None
    before_call: Callable[[int], None] | None = None
    on_checkpoint: Callable[[Checkpoint], None] | None = None
    lose_answer: Callable[[str], bool] | None = None

    def __post_init__(self) -> None:
        self.app: App | None = None
        self.invocations: list[Invocation] = []
        self.checkpoints: list[Checkpoint] = []
        self.starts: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.violations: list[str] = []
        self._confirmed: dict[str, dict[str, Any]] = {}
        self._calls = 0
        self._abandoned = abandoned.count
        self._invoker: HttpInvoker | None = None
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ledger = threading.Lock()
        self._orchestrator: Orchestrator | None = None
        self.platform.world = self

    @property
    def url(self) -> str:
        """Where the app is served. Lambda is invoked directly; what it registers is ASGI's."""
        served = self.platform.wsgi if self.entry == "wsgi" else self.platform.asgi
        return served.url + PATH

    @property
    def _http(self) -> HttpInvoker:
        """Calls the app as the orchestrator does: signed, if it has a key."""
        if self._invoker is None:
            key = self.settings.get("signing_key")
            self._invoker = HttpInvoker(self.url, signing_key=key)
        return self._invoker

    # Declaring

    def define(
        self,
        in_async: Callable[[Any], Any] | None,
        in_blocking: Callable[[Any], Any] | None,
        **options: Any,
    ) -> App:
        """The function under test, for the world's driver. Again: a new version is deployed."""
        handler = in_async if self.driver == "async" else in_blocking
        assert handler is not None
        if self.app is not None:
            self.app.channel.close()
        assert self.mode is None or "checkpointing" not in options, (
            "pin it: tests/support/matrix.py"
        )
        own = {} if self.mode is None else {"checkpointing": CHECKPOINTING[self.mode]}
        app = App(APP, orchestrator=self.platform.api_url, **{**own, **self.app_options})
        options = {"trigger": Event(EVENT), **self.function_options, **options}
        app.function(FUNCTION, **options)(handler)
        observe_bodies(app, self._observe)
        self.deploy(app)
        return app

    def deploy(self, app: App) -> None:
        """From now on calls are for `app`."""
        self.app = self.platform.asgi.app = self.platform.wsgi.app = app

    def _observe(self, event: BodyEvent) -> None:
        name = f"{event.step_id}:{event.index}" if event.index else event.step_id
        with self._ledger:
            (self.starts if event.phase == "start" else self.ends)[name] += 1

    # Running

    @property
    def orchestrator(self) -> Orchestrator:
        """The orchestrator, started."""
        if self._orchestrator is None:
            settings = Settings(**{**QUICK, **self.settings})
            self._orchestrator = Orchestrator(settings=settings)
            self.platform.loops.run(self._orchestrator.start())
        return self._orchestrator

    def run(self, data: dict[str, Any] | None = None) -> Run:
        """Send the event that starts the function, and wait until its run has ended."""
        return self.finish(self.start(data))

    def start(self, data: dict[str, Any] | None = None) -> str:
        """Start a run; its id."""
        self._orchestrator = self.orchestrator  # started from here, and not from its loop
        run_id: str = self.platform.loops.run(self._start(data or {}))
        return run_id

    async def _start(self, data: dict[str, Any]) -> str:
        assert self.app is not None
        await self.orchestrator.register(self.app.registration(self.url), self)
        (event_id,) = await self.orchestrator.send([{"name": EVENT, "data": data}])
        (run_id,) = await self.orchestrator.runs_of(event_id)
        return run_id

    def finish(self, run_id: str) -> Run:
        """Wait until the run has ended; meanwhile this thread is Lambda's main thread."""
        ended = asyncio.run_coroutine_threadsafe(
            self.orchestrator.result(run_id), self.platform.loops.loop
        )
        ended.add_done_callback(lambda _: self._jobs.put(None))
        while (job := self._jobs.get(timeout=HANGS_AFTER_S)) is not None:
            job()
        assert not self.violations, "\n".join(self.violations)
        self._nothing_left_behind()
        view = ended.result()
        return Run(view, self.invocations, self.checkpoints, self.starts, self.ends)

    def cancel_soon(self, run_id: str, done: threading.Event) -> None:
        """Cancel a run from the orchestrator's own loop; `done` is set when it is cancelled."""

        async def cancel() -> None:
            await self.orchestrator.cancel(run_id)
            done.set()

        asyncio.run_coroutine_threadsafe(cancel(), self.platform.loops.loop)

    def until_called_back(self) -> None:
        """Wait until every call was answered, those of a run that is over too."""
        eventually(lambda: len(self.invocations) == self._calls, "a call was never answered")

    def runs_of(self, event_id: str) -> list[str]:
        """The runs that an event started."""
        return self.platform.loops.run(self.orchestrator.runs_of(event_id))

    def sent_events(self) -> list[str]:
        """The internal ids of all events that the orchestrator took in."""
        events = self.platform.loops.run(
            self.orchestrator.store.read(lambda c: queries.list_events(c, 1000))
        )
        return [event.event_id for event in events]

    def close(self) -> None:
        """Stop the orchestrator."""
        if self._orchestrator is not None:
            self.platform.loops.run(self._orchestrator.stop())
            self.platform.loops.run(self._http.aclose())
        if self.app is not None:
            self.app.channel.close()

    # The invoker of the orchestrator, on its loop

    async def invoke(
        self,
        function_id: str,
        target: str,
        request: dict[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - the orchestrator's own
    ) -> Answer:
        """Call the function over the world's entry."""
        self._calls += 1
        if self.before_call is not None:
            self.before_call(self._calls)
        if self.entry == "lambda":
            answer = await self._on_main_thread(function_id, target, request)
        else:
            answer = await self._http.invoke(function_id, target, request, timeout=timeout)
        self._answered(request, target, answer)
        return answer

    async def _on_main_thread(
        self, function_id: str, target: str, request: dict[str, Any]
    ) -> Answer:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Answer] = loop.create_future()

        def job() -> None:
            assert self.app is not None
            served = ServedByLambda(self.app, self.lambda_seconds)
            answered = served.invoke(call_payload(function_id, target, request))
            body = json.dumps(answered.body).encode()
            loop.call_soon_threadsafe(
                _settle, done, Answer(answered.status, answered.headers, body)
            )

        self._jobs.put(job)
        return await done

    # What the runtime sends

    def _answered(self, request: dict[str, Any], target: str, answer: Answer) -> None:
        own = [c for c in self.checkpoints if c.request_id == request["ctx"]["request_id"]]
        kind = {200: "result", 206: ""}.get(answer.status, "error")
        call = {key: request["ctx"][key] for key in HEAD}
        try:
            assert all(c.head == call for c in own), f"not the call's own: {own} {call}"
            if answer.status == 206:
                ops = json.loads(answer.body)
                refused = any(checkpoint.status != 200 for checkpoint in own)
                targeted = target != "step"
                kind = allowed_response(ops, targeted=targeted, unconfirmable=refused)
                known = self._confirmed.get(request["ctx"]["run_id"], {})
                one_outcome(known, [op for op in ops if not targeted])
        except AssertionError as error:
            self.violations.append(str(error))
        self.invocations.append(Invocation(request, target, kind, answer, own))

    async def api(self, scope: Any, receive: Any, send: Any) -> None:
        """The orchestrator's API, which writes down checkpoints and may be made to fail."""
        if not scope["path"].endswith("/async"):
            await self._other(scope, receive, send)
            return
        parts = [await receive()]
        while parts[-1].get("more_body"):
            parts.append(await receive())
        body = json.loads(b"".join(part.get("body", b"") for part in parts))
        injected = self.fault(body) if self.fault is not None else None
        if injected is not None:
            self._checkpointed(body, injected[0])
            content = json.dumps(injected[1]).encode()
            fields = [(b"content-type", b"application/json")]
            start = {"type": "http.response.start", "status": injected[0], "headers": fields}
            await send(start)
            await send({"type": "http.response.body", "body": content})
            return

        async def again() -> Any:
            return parts.pop(0)

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._checkpointed(body, message["status"])
            await send(message)

        await self.orchestrator.asgi(scope, again, sent)

    async def _other(self, scope: Any, receive: Any, send: Any) -> None:
        """Anything but a checkpoint; `lose_answer` says by path whose answer gets lost."""
        if self.lose_answer is None or not self.lose_answer(scope["path"]):
            await self.orchestrator.asgi(scope, receive, send)
            return

        async def lost(_message: Any) -> None:
            return

        await self.orchestrator.asgi(scope, receive, lost)
        await send({"type": "http.response.start", "status": 502, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def _checkpointed(self, body: dict[str, Any], status: int) -> None:
        ops = body["steps"]
        head = {key: body[key] for key in HEAD}
        checkpoint = Checkpoint(body["request_id"], ops, status, head)
        self.checkpoints.append(checkpoint)
        if self.on_checkpoint is not None:
            self.on_checkpoint(checkpoint)
        known = self._confirmed.setdefault(body["run_id"], {})
        try:
            assert all(op["op"] == "StepRun" for op in ops), "only StepRun is checkpointed"
            one_outcome(known, ops)
        except AssertionError as error:
            self.violations.append(str(error))
        if status == 200:
            known.update({op["id"]: op.get("data") for op in ops})

    # What is left behind

    def _nothing_left_behind(self) -> None:
        eventually(lambda: not self._stray(), "code of the function is left behind")
        assert abandoned.count == self._abandoned, "code of the function could not be stopped"

    def _stray(self) -> list[str]:
        """What still runs of the function: tasks on any loop, and workers that are not idle."""
        tasks = [task for task in self.platform.app_loops.tasks() if not _of_uvicorn(task)]
        for loop in (onward.aws_lambda._loop, side_loop._loop):
            if loop is not None and not loop.is_closed():
                tasks += asyncio.all_tasks(loop)
        threads = [thread for thread in threading.enumerate() if thread.name == "onward-worker"]
        busy = ["a worker"] * (len(threads) - len(workers._idle))
        return [*map(repr, tasks), *busy]


def _settle(done: asyncio.Future[Answer], answer: Answer) -> None:
    if not done.done():
        done.set_result(answer)


def _of_uvicorn(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and ("uvicorn" in code.co_filename or "serving" in code.co_filename)


def clean_environment(patch: pytest.MonkeyPatch) -> None:
    """No variable that the runtime reads, except that it is in dev mode."""
    for variable in list(os.environ):
        if variable.startswith(("INNGEST_", "ONWARD_", "AWS_LAMBDA_", "VERCEL")):
            patch.delenv(variable)
    patch.setenv("INNGEST_DEV", "1")
