"""The runs that are unfinished, in memory, each changed by one transition at a time.

A transition's writes are committed before anything else of it happens. Where that fails, the run in
memory is dropped and loaded again, so that memory never knows more than the database.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from onward_server import queries
from onward_server.clock import Clock
from onward_server.identifiers import UlidSource, new_job_id
from onward_server.model import Effects, Now, Pending, PutPending, Status, Write
from onward_server.run_state import RunState
from onward_server.settings import Settings
from onward_server.store import Store, StoredRun, StoreError


@dataclass(slots=True)
class LiveRun:
    """An unfinished run. `lock` is held from a transition until its effects are done.

    `flying` are the request ids of the calls that were in flight before the latest transition;
    `broken`: its writes failed, and memory has not been brought back to the store's state yet.
    """

    state: RunState
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    flying: set[str] = field(default_factory=set)
    broken: bool = False


def _timers_of(state: RunState) -> Effects:
    """Everything of `state` that is due some time."""
    idle = [(job.due_ms, job.id) for job in state.jobs.values() if not job.in_flight]
    return Effects(timers=[*idle, *((p.due_ms, p.id) for p in state.pending.values() if p.due_ms)])


def restore(stored: StoredRun, settings: Settings, max_attempts: int) -> RunState:
    """The run that the store holds."""
    row = stored.row
    state = RunState(
        run_id=row.run_id,
        function_id=row.function_id,
        event_id=row.event_id,
        event_names=row.event_names,
        events=row.events,
        settings=settings,
        max_attempts=max_attempts,
        started_ms=row.started_ms,
        version=row.version,
        status=Status(row.status),
    )
    for step in stored.steps:
        state.add_memo(step.step_id, step.entry)
    state.jobs = {job.id: job for job in stored.jobs}
    state.pending = {pending.id: pending for pending in stored.pending}
    state.continuations = set(stored.continuations)
    return state


class Runs:
    """Unfinished runs by id, and where they are found by what they wait for.

    `apply` does everything that a committed transition asks for; `closing` may add writes to the
    transaction that ends a run.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        *,
        max_attempts: Callable[[str], int],
        closing: Callable[[RunState], list[Write]],
        apply: Callable[[RunState, Effects], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._max_attempts = max_attempts
        self._closing = closing
        self._apply = apply
        self._live: dict[str, LiveRun] = {}
        self._waiting: dict[str, set[str]] = {}
        self._ulids = UlidSource()

    def __len__(self) -> int:
        return len(self._live)

    def now(self) -> Now:
        """The present, for a transition."""
        return Now(self._clock.now_ms(), random.random(), self._ulids, new_job_id)  # noqa: S311 - jitter

    def ulid(self) -> str:
        """A new ULID."""
        return self._ulids()

    def get(self, run_id: str) -> RunState | None:
        """The unfinished run `run_id`, to be looked at only."""
        live = self._live.get(run_id)
        return None if live is None else live.state

    def all(self) -> list[RunState]:
        """Every unfinished run, to be looked at only."""
        return [live.state for live in self._live.values()]

    def waiting_for(self, event_name: str) -> list[str]:
        """The ids of the runs that may wait for an event of this name."""
        return list(self._waiting.get(event_name, ()))

    def _note_waits(self, run_id: str, pending: Iterable[Pending]) -> None:
        for op in pending:
            if op.event:
                self._waiting.setdefault(op.event, set()).add(run_id)

    def _drop(self, run_id: str) -> None:
        self._live.pop(run_id, None)
        for name in [name for name, waiting in self._waiting.items() if run_id in waiting]:
            self._waiting[name].discard(run_id)
            if not self._waiting[name]:
                del self._waiting[name]

    def add(self, state: RunState, effects: Effects) -> None:
        """Takes in a run whose beginning, `effects`, has been committed."""
        self._live[state.run_id] = LiveRun(state)
        self._apply(state, effects)

    async def load_all(self) -> list[RunState]:
        """Loads every unfinished run from the store, without resuming it."""
        for run_id in await self._store.read(queries.unfinished):
            await self._load(run_id)
        return self.all()

    async def _load(self, run_id: str) -> LiveRun | None:
        stored = await self._store.read(lambda connection: queries.load_run(connection, run_id))
        if stored is None:
            self._drop(run_id)
            return None
        attempts = self._max_attempts(stored.row.function_id)
        state = restore(stored, self._settings, attempts)
        self._note_waits(run_id, state.pending.values())
        live = self._live.get(run_id)
        if live is None:
            live = self._live[run_id] = LiveRun(state)
            return live
        for job in state.jobs.values():
            job.in_flight = job.request_id in live.flying
        live.state, live.broken = state, False
        self._apply(state, _timers_of(state))
        return live

    async def change(
        self, run_id: str, transition: Callable[[RunState, Now], Effects]
    ) -> Effects | None:
        """Applies `transition` to the run, commits what it writes, and does what it asks for.

        Returns its effects, or None where the run is unknown or over. Raises StoreError: then
        nothing has changed.
        """
        live = self._live.get(run_id)
        if live is None:
            return None
        async with live.lock:
            if live.broken and await self._load(run_id) is None:
                return None
            if run_id not in self._live:
                return None
            state = live.state
            live.flying = {job.request_id for job in state.jobs.values() if job.in_flight}
            effects = transition(state, self.now())
            writes = [*effects.writes, *self._closing(state)] if effects.ended else effects.writes
            if writes:
                live.broken = True
                try:
                    await self._store.commit(writes)
                except StoreError:
                    await self._reload(live, run_id)
                    raise
                live.broken = False
            self._note_waits(run_id, (w.pending for w in writes if isinstance(w, PutPending)))
            if effects.ended:
                self._drop(run_id)
            self._apply(state, effects)
            return effects

    async def _reload(self, live: LiveRun, run_id: str) -> None:
        """Brings memory back to what the store holds; failing that, at the next transition."""
        try:
            await self._load(run_id)
        except StoreError:
            live.broken = True
