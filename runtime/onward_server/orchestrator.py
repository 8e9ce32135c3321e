"""The embedded orchestrator: takes in events, calls functions, keeps runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onward.errors import ConfigurationError, Fault, OnwardError
from onward_server import events, queries, trace
from onward_server.answers import Outcome, WireOp
from onward_server.call_body import render_call
from onward_server.clock import Clock, WallClock
from onward_server.dispatcher import Call, Dispatcher
from onward_server.events import Event
from onward_server.identifiers import stable_uuid
from onward_server.invokers import Invoker, make_invoker
from onward_server.json_text import dumps, loads
from onward_server.model import Effects, Now, PutApp, PutEvent, Status, Write
from onward_server.registration import Cancel, FunctionConfig, Registration, parse_registration
from onward_server.run_state import Refused, RunState
from onward_server.runs import Runs
from onward_server.settings import Settings
from onward_server.store import RunRow, Store, StoreError
from onward_server.timers import Timers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_DEFAULT_ATTEMPTS = 4
_TIMER_RETRY_MS = 1000


class UnknownRunError(OnwardError):
    """No run has this id."""

    code = "unknown_run"
    fault = Fault.USER


class OrchestratorStoppedError(OnwardError):
    """The orchestrator was stopped while somebody waited for a run."""

    code = "orchestrator_stopped"
    fault = Fault.USER


@dataclass(frozen=True, slots=True)
class RunView:
    """A run from outside.

    `status` is `Running`, `Completed`, `Failed` or `Cancelled`. `result` is the function's result,
    None unless it completed; `error` is `{name, message, stack}` if it failed or was cancelled.
    Times are milliseconds since the epoch, `ended_ms` 0 while it runs.
    """

    run_id: str
    function_id: str
    status: str
    result: Any
    error: dict[str, Any] | None
    event_id: str
    event_names: tuple[str, ...]
    started_ms: int
    ended_ms: int


def view_of(row: RunRow) -> RunView:
    """The stored run as seen from outside."""
    output = loads(row.output)
    completed = row.status == Status.COMPLETED
    failed = row.status in {Status.FAILED, Status.CANCELLED}
    return RunView(
        run_id=row.run_id,
        function_id=row.function_id,
        status=row.status,
        result=output if completed else None,
        error=output if failed and isinstance(output, dict) else None,
        event_id=row.event_id,
        event_names=tuple(row.event_names.split("\n")),
        started_ms=row.started_ms,
        ended_ms=row.ended_ms,
    )


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration led to: whether it differs from the one before, and the app's UUID."""

    modified: bool
    app_id: str


class Orchestrator:
    """Keeps runs in the database `db` (a path, or `":memory:"`) and calls their functions.

    It belongs to the event loop that `start` ran on, and takes the time from `clock`. Everything
    that a method acknowledges is durable; what cannot be written raises StoreError and has changed
    nothing.
    """

    def __init__(
        self,
        db: str | Path = ":memory:",
        settings: Settings | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.clock = clock or WallClock()
        self.store = Store(db, synchronous=self.settings.synchronous)
        self._trace = trace.Trace()
        self._functions: dict[str, FunctionConfig] = {}
        self._apps: dict[str, tuple[str, str]] = {}
        self._invokers: dict[str, Invoker] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._runs = Runs(
            self.store,
            self.settings,
            self.clock,
            max_attempts=self._max_attempts,
            closing=self._closing,
            apply=self._apply,
        )
        self._dispatcher = Dispatcher(self.settings, self.clock, self._trace, self._deliver)
        self._timers = Timers(self.clock, self._fire)
        self._intake = asyncio.Lock()
        self._follow_ups: set[asyncio.Task[None]] = set()
        self._failures: dict[str, list[tuple[RunState, Effects]]] = {}
        self._started = False
        self._asgi: ASGIApp | None = None

    @property
    def asgi(self) -> ASGIApp:
        """The HTTP API as an ASGI app."""
        if self._asgi is None:
            from onward_server.api import make_api

            self._asgi = make_api(self)
        return self._asgi

    # Life

    async def start(self) -> None:
        """Opens the database and resumes every run found there.

        Raises StoreError for a database that cannot be used, with the reason and the fix.
        """
        await self.store.open()
        try:
            for app in await self.store.read(queries.load_apps):
                self._apps[app.name] = (app.url, app.registration)
                self._adopt(parse_registration(loads(app.registration)), None)
            self._started = True
            for state in await self._runs.load_all():
                self._tell_started(state, resumed=True)
                await self._runs.change(state.run_id, RunState.resume)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Abandons the calls in flight and closes the database; every run stays resumable."""
        self._started = False
        self._timers.stop()
        await self._dispatcher.stop()
        tasks = list(self._follow_ups)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for invoker in {id(i): i for i in self._invokers.values()}.values():
            close = getattr(invoker, "aclose", None)
            if close is not None:
                await close()
        await self.store.close()
        for waiter in [waiter for waiters in self._waiters.values() for waiter in waiters]:
            if not waiter.done():
                waiter.set_exception(
                    OrchestratorStoppedError(
                        "The orchestrator was stopped while the run was unfinished. Start it again"
                        " on the same database: the run goes on."
                    )
                )
        self._waiters.clear()

    def subscribe(self, callback: trace.Callback) -> Callable[[], None]:
        """Calls `callback(TraceEvent)` on the loop as things happen. Returns what ends that."""
        return self._trace.subscribe(callback)

    # Registration

    async def register(
        self, registration: Mapping[str, Any], invoker: Invoker | None = None
    ) -> Registered:
        """Takes in an app's functions; they are called by `invoker`, or as their URLs say.

        Raises ConfigurationError for a registration that cannot be served; then nothing changed.
        """
        body = dict(registration)
        parsed = parse_registration(body)
        if invoker is None:
            for function in parsed.functions:
                make_invoker(function.url, concurrency=self.settings.max_concurrent_calls)
        text = dumps(body)
        known = (parsed.url, text)
        modified = self._apps.get(parsed.app) != known
        if modified:
            await self.store.commit([PutApp(parsed.app, parsed.url, text)])
            self._apps[parsed.app] = known
        self._adopt(parsed, invoker)
        return Registered(modified, stable_uuid("app", parsed.app))

    def _adopt(self, parsed: Registration, invoker: Invoker | None) -> None:
        kept = {function.id for function in parsed.functions}
        for id_, function in list(self._functions.items()):
            if function.app == parsed.app and id_ not in kept:
                del self._functions[id_]
        for function in parsed.functions:
            self._functions[function.id] = function
            chosen = invoker or self._invoker_for(function.url)
            if chosen is not None:
                self._dispatcher.set_invoker(function.id, chosen)

    def _invoker_for(self, url: str) -> Invoker | None:
        if url not in self._invokers:
            try:
                made = make_invoker(url, concurrency=self.settings.max_concurrent_calls)
            except ConfigurationError:
                return None  # registered with an invoker of its own, in an earlier process
            self._invokers[url] = made
        return self._invokers[url]

    @property
    def functions(self) -> Mapping[str, FunctionConfig]:
        """The registered functions by their composite ids."""
        return self._functions

    def _max_attempts(self, function_id: str) -> int:
        function = self._functions.get(function_id)
        return function.max_attempts if function else _DEFAULT_ATTEMPTS

    def _fn_id(self, function_id: str) -> str:
        return stable_uuid("function", function_id)

    # Events

    async def send(self, batch: Sequence[Mapping[str, Any]]) -> list[str]:
        """Takes in events: wakes and cancels runs, starts runs. Returns the internal event ids.

        An event with the `id` of an earlier one is taken but has no effect. Raises BadEventError
        for the first that cannot be taken; then none of them was.
        """
        now = self.clock.now_ms()
        accepted = [events.accept(value, self._runs.ulid(), now) for value in batch]
        if any(event.external_id for event in accepted):
            async with self._intake:  # two at once with one id must not both be the first
                await self._take_in(accepted)
        else:
            await self._take_in(accepted)
        return [event.id for event in accepted]

    async def _take_in(self, accepted: Sequence[Event]) -> None:
        fresh = await self._unseen(accepted)
        for event in fresh:
            await self._cancel_by(event)
            await self._wake_by(event)
        started = [begun for event in fresh for begun in self._begin_by(event)]
        writes: list[Write] = [self._event_row(event) for event in accepted]
        for _, effects in started:
            writes.extend(effects.writes)
        await self.store.commit(writes)
        self._add_all(started)

    async def _unseen(self, accepted: Sequence[Event]) -> list[Event]:
        since = self.clock.now_ms() - round(self.settings.event_id_window_s * 1000)
        named = {event.external_id for event in accepted if event.external_id}
        seen: set[str] = set()
        if named:
            seen = await self.store.read(
                lambda connection: {n for n in named if queries.event_seen(connection, n, since)}
            )
        fresh = []
        for event in accepted:
            if event.external_id not in seen:
                fresh.append(event)
            if event.external_id:
                seen.add(event.external_id)
        return fresh

    def _begin_by(self, event: Event) -> list[tuple[RunState, Effects]]:
        return [
            self._begin(function, event)
            for function in self._functions.values()
            if any(trigger.matches(event.value) for trigger in function.triggers)
        ]

    def _begin(self, function: FunctionConfig, event: Event) -> tuple[RunState, Effects]:
        now = self._runs.now()
        state = RunState(
            run_id=now.ulid(),
            function_id=function.id,
            event_id=event.id,
            event_names=event.name,
            events=f"[{event.text}]",
            settings=self.settings,
            max_attempts=function.max_attempts,
            started_ms=now.ms,
        )
        return state, state.begin(now)

    def _add_all(self, started: Iterable[tuple[RunState, Effects]]) -> None:
        for state, effects in started:
            self._tell_started(state, resumed=False)
            self._runs.add(state, effects)

    async def _cancel_by(self, event: Event) -> None:
        for function in self._functions.values():
            for cancel in function.cancels:
                if cancel.event == event.name:
                    await self._cancel_runs(function.id, cancel, event)

    async def _cancel_runs(self, function_id: str, cancel: Cancel, event: Event) -> None:
        now = self.clock.now_ms()
        for state in self._runs.all():
            if state.function_id != function_id:
                continue
            if cancel.within_s is not None and now - state.started_ms > cancel.within_s * 1000:
                continue
            scope = {"event": loads(state.first_event), "async": event.value}
            if cancel.condition is None or cancel.condition(scope):
                await self._runs.change(state.run_id, RunState.cancel)

    async def _wake_by(self, event: Event) -> None:
        for run_id in self._runs.waiting_for(event.name):
            await self._runs.change(run_id, lambda run, now: run.woken(event.value, now))

    async def start_run(self, function_id: str, data: Mapping[str, Any]) -> str:
        """Starts a run of `function_id` (`app-function`) without an event of its triggers.

        Returns the run's id. Raises ConfigurationError for a function that is not registered.
        """
        function = self._functions.get(function_id)
        if function is None:
            known = ", ".join(sorted(self._functions)) or "none"
            raise ConfigurationError(
                f"No function {function_id!r} is registered; registered are: {known}. Give one of"
                " these ids, or register the app that has it."
            )
        event = events.make(events.FUNCTION_INVOKED, data, self._runs.ulid(), self.clock.now_ms())
        state, effects = self._begin(function, event)
        await self.store.commit([self._event_row(event), *effects.writes])
        self._add_all([(state, effects)])
        return state.run_id

    # Runs

    async def runs_of(self, event_id: str) -> list[str]:
        """The ids of the runs that the event with the internal id `event_id` started."""
        rows = await self.store.read(lambda c: queries.runs_of_event(c, event_id))
        return [row.run_id for row in rows]

    async def view(self, run_id: str) -> RunView:
        """The run as it stands. Raises UnknownRunError."""
        row = await self.store.read(lambda connection: queries.load_row(connection, run_id))
        if row is None:
            raise UnknownRunError(
                f"No run has the id {run_id!r} in {self.store.path}. List the runs to see theirs."
            )
        return view_of(row)

    async def result(self, run_id: str) -> RunView:
        """The run, once it has ended. Raises UnknownRunError, OrchestratorStoppedError."""
        if self._runs.get(run_id) is not None:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(run_id, []).append(ended)
            await ended
        return await self.view(run_id)

    async def cancel(self, run_id: str) -> bool:
        """Cancels the run. False if it was over before. Raises UnknownRunError."""
        effects = await self._runs.change(run_id, RunState.cancel)
        if effects is None:
            await self.view(run_id)
        return effects is not None and not effects.stale

    def live_run(self, run_id: str) -> RunState | None:
        """The unfinished run's state, to be read only; None for one that is over or unknown."""
        return self._runs.get(run_id)

    async def checkpoint(
        self, run_id: str, request_id: str, ops: Sequence[WireOp]
    ) -> Effects | None:
        """Confirms finished steps; None for a run that is unknown or over. Raises StoreError."""
        effects = await self._runs.change(run_id, lambda run, _now: run.checkpoint(request_id, ops))
        if effects is not None and effects.refusal is None and ops:
            data = {
                "request_id": request_id,
                "steps": [op.label for op in ops],
                "new": effects.fresh,
            }
            self._trace.emit(trace.CHECKPOINT, run_id, time.time(), data)
        return effects

    # What transitions ask for

    def _apply(self, state: RunState, effects: Effects) -> None:
        if effects.ended:
            asyncio.get_running_loop().call_soon(self._ended, state)
        if not self._started:
            return
        for job in effects.dispatch:
            rendered = render_call(state, job, self._fn_id(state.function_id))
            self._dispatcher.dispatch(Call.of(state.run_id, job, rendered))
        for due_ms, key in effects.timers:
            self._timers.add(due_ms, state.run_id, key)

    def _ended(self, state: RunState) -> None:
        error = loads(state.output) if state.status is not Status.COMPLETED else None
        data = {"status": state.status.value, "error": error}
        self._trace.emit(trace.RUN_ENDED, state.run_id, time.time(), data)
        self._add_all(self._failures.pop(state.run_id, []))
        for waiter in self._waiters.pop(state.run_id, []):
            if not waiter.done():
                waiter.set_result(None)

    def _closing(self, state: RunState) -> list[Write]:
        """What is written together with the end of `state`: the failure event and its runs."""
        if state.status is not Status.FAILED or state.event_names == events.FUNCTION_FAILED:
            return []
        event = events.failure_event(
            function_id=state.function_id,
            run_id=state.run_id,
            events=loads(state.events),
            error=loads(state.output),
            no_retry=state.no_retry,
            event_id=self._runs.ulid(),
            now_ms=self.clock.now_ms(),
        )
        started = self._begin_by(event)
        if not started:
            return []
        self._failures[state.run_id] = started
        return [
            self._event_row(event),
            *(write for _, effects in started for write in effects.writes),
        ]

    async def _deliver(
        self, run_id: str, job_id: str, request_id: str, outcome: Outcome | Refused
    ) -> Effects | None:
        def transition(run: RunState, now: Now) -> Effects:
            run.max_attempts = self._max_attempts(run.function_id)
            return run.answer(job_id, request_id, outcome, now)

        return await self._runs.change(run_id, transition)

    def _fire(self, run_id: str, key: str) -> None:
        task = asyncio.create_task(self._due(run_id, key))
        self._follow_ups.add(task)
        task.add_done_callback(self._follow_ups.discard)

    async def _due(self, run_id: str, key: str) -> None:
        try:
            await self._runs.change(run_id, lambda run, now: run.due(key, now))
        except StoreError as error:
            trace.logger.error("What is due in run %s waits: %s", run_id, error)
            self._timers.add(self.clock.now_ms() + _TIMER_RETRY_MS, run_id, key)

    def _tell_started(self, state: RunState, *, resumed: bool) -> None:
        data = {
            "function_id": state.function_id,
            "events": state.event_names.split("\n"),
            "resumed": resumed,
        }
        self._trace.emit(trace.RUN_STARTED, state.run_id, time.time(), data)

    def _event_row(self, event: Event) -> PutEvent:
        now = self.clock.now_ms()
        return PutEvent(event.id, event.external_id, event.name, event.text, now)
