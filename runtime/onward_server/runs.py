"""The runs that are unfinished, in memory, each changed by one transition at a time.

A transition's writes are committed before anything else of it happens. Where that fails, the run in
memory is dropped and loaded again, so that memory never knows more than the database.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from onward_server import queries
from onward_server.clock import Clock
from onward_server.events import Event
from onward_server.identifiers import UlidSource, new_job_id
from onward_server.model import (
    Effects,
    Holder,
    Now,
    Pending,
    PutEvent,
    PutOutgoing,
    PutPending,
    Status,
    Write,
)
from onward_server.run_state import RunState
from onward_server.settings import Settings
from onward_server.store import Store, StoredRun, StoreError
from onward_server.waits import event_of, signal_of


def outgoing_rows(told: Iterable[Event], now_ms: int) -> list[Write]:
    """What is written about events of our own that are still to be taken in."""
    rows: list[Write] = []
    for event in told:
        rows += [
            PutEvent(event.id, event.external_id, event.name, event.text, now_ms),
            PutOutgoing(event.id),
        ]
    return rows


async def completed(work: Coroutine[Any, Any, None]) -> None:
    """Does `work` to its end, also when whoever waits for it is cancelled meanwhile.

    A run that is committed must become known in memory, or it would stand still until a restart.
    """
    await asyncio.shield(asyncio.create_task(work))


@dataclass(slots=True)
class LiveRun:
    """An unfinished run. `lock` is held from a transition until its effects are done.

    `flying` are the request ids of the calls that were in flight before the latest transition;
    `broken`: its writes failed, and memory has not been brought back to the store's state yet.
    `awaited` are names of events and `signals` signals that it has waited for so far.
    """

    state: RunState
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    flying: set[str] = field(default_factory=set)
    broken: bool = False
    awaited: set[str] = field(default_factory=set)
    signals: set[str] = field(default_factory=set)


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

    `apply` does everything that a committed transition asks for. `telling` are the events of our
    own that follow from a transition: they are written with it, and then handed to `publish`.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        *,
        max_attempts: Callable[[str], int],
        telling: Callable[[RunState, Effects], list[Event]],
        apply: Callable[[RunState, Effects], None],
        publish: Callable[[list[Event]], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._max_attempts = max_attempts
        self._telling = telling
        self._apply = apply
        self._publish = publish
        self._live: dict[str, LiveRun] = {}
        self._waiting: dict[str, set[str]] = {}
        self._signals: dict[str, Holder] = {}
        self._ulids = UlidSource()

    def __len__(self) -> int:
        return len(self._live)

    def now(self) -> Now:
        """The present, for a transition."""
        chance = random.random()  # noqa: S311 - jitter
        return Now(self._clock.now_ms(), chance, self._ulids, new_job_id, self.holder)

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

    def holder(self, signal: str) -> Holder | None:
        """The run and the step that wait for `signal`."""
        held = self._signals.get(signal)
        live = self._live.get(held[0]) if held is not None else None
        if held is None or live is None or held[1] not in live.state.pending:
            return None
        return held

    def _note_waits(self, live: LiveRun, pending: Iterable[Pending]) -> None:
        for op in pending:
            if event := event_of(op):
                self._waiting.setdefault(event, set()).add(live.state.run_id)
                live.awaited.add(event)

    def _claim_signals(self, live: LiveRun, writes: Iterable[Write]) -> dict[str, Holder | None]:
        """Gives the run the signals that it waits for from now on; returns who had each.

        At once, not after the commit: two runs must not both claim a signal.
        """
        claimed: dict[str, Holder | None] = {}
        for write in writes:
            if isinstance(write, PutPending) and (signal := signal_of(write.pending)):
                claimed.setdefault(signal, self._signals.get(signal))
                self._hold(live, signal, write.pending.id)
        return claimed

    def _hold(self, live: LiveRun, signal: str, step_id: str) -> None:
        self._signals[signal] = (live.state.run_id, step_id)
        live.signals.add(signal)

    def _give_back(self, claimed: dict[str, Holder | None]) -> None:
        for signal, holder in claimed.items():
            if holder is None:
                self._signals.pop(signal, None)
            else:
                self._signals[signal] = holder

    def _drop(self, run_id: str) -> None:
        live = self._live.pop(run_id, None)
        if live is None:
            return
        for signal in live.signals:
            if self._signals.get(signal, ("", ""))[0] == run_id:
                del self._signals[signal]
        for name in live.awaited:
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
        live = self._live.get(run_id)
        if live is None:
            live = self._live[run_id] = LiveRun(state)
            self._note_all(live)
            return live
        for job in state.jobs.values():
            job.in_flight = job.request_id in live.flying
        live.state, live.broken = state, False
        self._note_all(live)
        self._apply(state, _timers_of(state))
        return live

    def _note_all(self, live: LiveRun) -> None:
        self._note_waits(live, live.state.pending.values())
        for pending in live.state.pending.values():
            if signal := signal_of(pending):
                self._hold(live, signal, pending.id)

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
            try:
                effects = transition(state, self.now())
                told = self._telling(state, effects)
            except BaseException:  # half a transition must not stay in memory
                live.broken = True
                raise
            claimed = self._claim_signals(live, effects.writes)
            writes = [*effects.writes, *outgoing_rows(told, self._clock.now_ms())]
            # Before the commit, so that an event that comes during it waits for the lock.
            self._note_waits(live, (w.pending for w in writes if isinstance(w, PutPending)))
            if writes:
                live.broken = True
                try:
                    await self._store.commit(writes)
                except StoreError:
                    self._give_back(claimed)
                    await self._reload(live, run_id)
                    raise
                live.broken = False
            if effects.ended:
                self._drop(run_id)
            self._apply(state, effects)
            if told:
                self._publish(told)
            return effects

    async def _reload(self, live: LiveRun, run_id: str) -> None:
        """Brings memory back to what the store holds; failing that, at the next transition."""
        try:
            await self._load(run_id)
        except StoreError:
            live.broken = True
