"""The embedded orchestrator: takes in events, calls functions, keeps runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onward.errors import Fault, MissingExtraError, OnwardError, UnknownRunError
from onward_server import queries, trace
from onward_server.answers import Outcome, WireOp
from onward_server.call_body import render_call
from onward_server.clock import Clock, WallClock
from onward_server.dispatcher import Call, Dispatcher
from onward_server.endpoints import Endpoints
from onward_server.events import Event
from onward_server.identifiers import stable_uuid
from onward_server.intake import Intake
from onward_server.invokers import Invoker
from onward_server.json_text import dumps, loads
from onward_server.model import Effects, Now, PutApp, Status
from onward_server.registration import FunctionConfig, Registration, parse_registration
from onward_server.registry import Registry
from onward_server.run_limits import RunLimits
from onward_server.run_state import Refused, RunState
from onward_server.runs import Runs
from onward_server.settings import Settings
from onward_server.slots import Slot, slots_of
from onward_server.starts import Hooks, Starts
from onward_server.store import RunRow, Store, StoreError
from onward_server.timers import Timers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_TIMER_RETRY_MS = 1000


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
    """What a registration led to: whether it differs from the one before, and the app's UUID.

    `notices` say what was registered and has no effect on this orchestrator.
    """

    modified: bool
    app_id: str
    notices: tuple[str, ...] = ()


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
        self._registry = Registry(self.settings)
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._follow_ups: set[asyncio.Task[None]] = set()
        self._runs = Runs(
            self.store,
            self.settings,
            self.clock,
            max_attempts=self._registry.max_attempts,
            telling=self._telling,
            apply=self._apply,
            publish=self._publish,
        )
        hooks = Hooks(
            begun=self._begun,
            skipped=self._tell_skipped,
            arm=self._arm,
            publish=self._publish,
        )
        self._starts = Starts(
            store=self.store,
            settings=self.settings,
            clock=self.clock,
            registry=self._registry,
            runs=self._runs,
            hooks=hooks,
        )
        self._intake = Intake(
            store=self.store,
            settings=self.settings,
            clock=self.clock,
            registry=self._registry,
            runs=self._runs,
            starts=self._starts,
            spawn=self._spawn,
        )
        self._dispatcher = Dispatcher(
            self.settings, self.clock, self._trace, self._deliver, self._wanted
        )
        self._timers = Timers(self.clock, self._fire, self._may_be_due)
        self._run_limits = RunLimits(self._registry, self._timers.add)
        self.endpoints = Endpoints(self)
        self._noticed: set[str] = set()
        self._started = False
        self._asgi: ASGIApp | None = None

    @property
    def asgi(self) -> ASGIApp:
        """The HTTP API as an ASGI app. Raises MissingExtraError without Starlette."""
        if self._asgi is None:
            try:
                from onward_server.api import make_api
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] != "starlette":
                    raise
                raise MissingExtraError(
                    "The orchestrator's API needs Starlette. Run: pip install 'onward[server]'"
                ) from None
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
                self._registry.apps[app.name] = (app.url, app.registration)
                self._adopt(parse_registration(loads(app.registration)), None)
            left = await self._intake.left()
            self._started = True
            loaded = await self._runs.load_all()
            superseded = await self._starts.load()
            for state in loaded:
                self._tell_started(state, resumed=True)
                self._run_limits.watch(state, self.clock.now_ms(), resumed=True)
                await self._runs.change(state.run_id, RunState.resume)
            self._intake.publish(left)
            for run_id in superseded:
                await self._runs.change(run_id, RunState.cancel)
            await self._starts.sync()
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
        await self._registry.close()
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
        self._registry.check(parsed, invoker)
        text = dumps(body)
        known = (parsed.url, text)
        modified = self._registry.apps.get(parsed.app) != known
        if modified:
            await self.store.commit([PutApp(parsed.app, parsed.url, text)])
            self._registry.apps[parsed.app] = known
        self._adopt(parsed, invoker)
        await self._starts.sync()
        notices = parsed.notices()
        for notice in notices:
            if notice in self._noticed:
                continue
            self._noticed.add(notice)
            trace.notices.warning("%s", notice)
            self._trace.emit(trace.NOTICE, "", time.time(), {"app": parsed.app, "text": notice})
        return Registered(modified, stable_uuid("app", parsed.app), notices)

    async def sync(self, url: str) -> Registered | None:
        """Asks the app at `url` for its functions.

        Returns None where the app registers itself over the API instead. Raises SyncError for an
        app that does not answer as one, ConfigurationError for functions that cannot be served.
        """
        from onward_server.sync import sync

        return await sync(self, url)

    def _adopt(self, parsed: Registration, invoker: Invoker | None) -> None:
        for function_id, chosen in self._registry.adopt(parsed, invoker).items():
            self._dispatcher.set_invoker(function_id, chosen)

    @property
    def functions(self) -> Mapping[str, FunctionConfig]:
        """The registered functions by their composite ids."""
        return self._registry.functions

    # Events

    async def send(self, batch: Sequence[Mapping[str, Any]], seed: str | None = None) -> list[str]:
        """Takes in events: wakes and cancels runs, starts runs. Returns the internal event ids.

        An event with the `id` of an earlier one is taken but has no effect, nor have events that
        were sent with `seed` (`x-inngest-event-id-seed`) before. Raises BadEventError for the first
        that cannot be taken; then none of them was.
        """
        return await self._intake.send(batch, seed)

    async def signal(self, signal: str, data: object = None) -> str | None:
        """Ends the wait for `signal` with `data`. Returns its run's id, None if nobody waits."""
        return await self._intake.signal(signal, data)

    async def start_run(self, function_id: str, data: Mapping[str, Any]) -> str:
        """Starts a run of `function_id` (`app-function`) without an event of its triggers.

        Returns the run's id. Raises ConfigurationError for a function that is not registered.
        """
        return await self._intake.start(function_id, data)

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
            self.checkpointed(run_id, request_id, ops, effects)
        return effects

    def checkpointed(
        self, run_id: str, request_id: str, ops: Sequence[WireOp], effects: Effects
    ) -> None:
        """Tells of a checkpoint that was taken."""
        data = {
            "request_id": request_id,
            "steps": [op.label for op in ops],
            "new": effects.fresh,
        }
        self._trace.emit(trace.CHECKPOINT, run_id, time.time(), data)

    # For durable endpoints, whose runs begin elsewhere

    @property
    def runs(self) -> Runs:
        """The unfinished runs."""
        return self._runs

    @property
    def registrations(self) -> Mapping[str, tuple[str, str]]:
        """The URL and the registration (JSON text) of each app by its name."""
        return self._registry.apps

    def begun(self, state: RunState) -> None:
        """Tells of a run that began elsewhere."""
        self._tell_started(state, resumed=False)

    async def exists(self, run_id: str) -> bool:
        """Whether there is, or was, a run `run_id`."""
        row = await self.store.read(lambda connection: queries.load_row(connection, run_id))
        return row is not None

    # What transitions ask for

    def _apply(self, state: RunState, effects: Effects) -> None:
        if effects.ended:
            self._starts.ended(state)
            self._run_limits.ended(state.run_id)
            asyncio.get_running_loop().call_soon(self._ended, state)
        if not self._started:
            return
        for job in effects.dispatch:
            rendered = render_call(state, job, stable_uuid("function", state.function_id))
            slots = self._slots_of(state)
            self._dispatcher.dispatch(Call.of(state.run_id, job, rendered, slots))
        for due_ms, key in effects.timers:
            self._timers.add(due_ms, state.run_id, key)

    def _slots_of(self, state: RunState) -> tuple[Slot, ...]:
        function = self._registry.functions.get(state.function_id)
        if function is None or not function.flow.concurrency:
            return ()
        return slots_of(function, loads(state.first_event))

    def _wanted(self, call: Call) -> bool:
        """Whether a call that may have waited is still to be made: its run may be over."""
        state = self._runs.get(call.run_id)
        job = state.jobs.get(call.job_id) if state is not None else None
        if job is None or job.request_id != call.request_id:
            return False
        self._run_limits.called(call.run_id)
        return True

    def _arm(self, due_ms: int, key: str) -> None:
        self._timers.add(due_ms, "", key)

    def _ended(self, state: RunState) -> None:
        error = loads(state.output) if state.status is not Status.COMPLETED else None
        data = {"status": state.status.value, "error": error}
        self._trace.emit(trace.RUN_ENDED, state.run_id, time.time(), data)
        for waiter in self._waiters.pop(state.run_id, []):
            if not waiter.done():
                waiter.set_result(None)

    def _telling(self, state: RunState, effects: Effects) -> list[Event]:
        return self._intake.telling(state, effects)

    def _publish(self, told: list[Event]) -> None:
        self._intake.publish(told)

    async def _deliver(
        self, run_id: str, job_id: str, request_id: str, outcome: Outcome | Refused
    ) -> Effects | None:
        def transition(run: RunState, now: Now) -> Effects:
            run.max_attempts = self._registry.max_attempts(run.function_id)
            return run.answer(job_id, request_id, outcome, now)

        return await self._runs.change(run_id, transition)

    def _may_be_due(self, run_id: str) -> bool:
        return not run_id or self._runs.get(run_id) is not None

    def _fire(self, run_id: str, key: str) -> None:
        self._spawn(self._due(run_id, key))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._follow_ups.add(task)
        task.add_done_callback(self._follow_ups.discard)

    async def _due(self, run_id: str, key: str) -> None:
        try:
            if run_id:
                await self._runs.change(
                    run_id, lambda run, now: self._run_limits.due(run, key, now)
                )
            else:
                await self._starts.due(key)
        except StoreError as error:
            trace.logger.error("What is due (%s, %s) waits: %s", run_id, key, error)
            self._timers.add(self.clock.now_ms() + _TIMER_RETRY_MS, run_id, key)

    def _begun(self, state: RunState) -> None:
        self._tell_started(state, resumed=False)
        self._run_limits.watch(state, self.clock.now_ms(), resumed=False)

    def _tell_skipped(self, function_id: str, event: Event, reason: str) -> None:
        data = {"function_id": function_id, "event": event.name, "reason": reason}
        self._trace.emit(trace.RUN_SKIPPED, "", time.time(), data)

    def _tell_started(self, state: RunState, *, resumed: bool) -> None:
        data = {
            "function_id": state.function_id,
            "events": state.event_names.split("\n"),
            "resumed": resumed,
        }
        self._trace.emit(trace.RUN_STARTED, state.run_id, time.time(), data)
