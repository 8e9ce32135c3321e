"""How runs start: what flow control decides is written, and then done, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from onward_server import children, queries, schedules
from onward_server.clock import Clock
from onward_server.events import Event
from onward_server.flow import Decision, Flow, Start, key_of
from onward_server.json_text import loads
from onward_server.model import DropHeld, Effects, Held, PutEvent, PutRunEvent, Write
from onward_server.registration import FunctionConfig
from onward_server.registry import Registry
from onward_server.run_state import RunState
from onward_server.runs import Runs, completed, outgoing_rows
from onward_server.settings import Settings
from onward_server.store import Store, StoreError

_Single = tuple[str, str]
#: What is due, followed by a run's id, where a run of a singleton could not be cancelled at once.
_SUPERSEDED = "superseded:"
_SWEPT_FROM = 1024


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is told to others: runs that begin, starts that come to nothing, what is due when."""

    begun: Callable[[RunState], None]
    skipped: Callable[[str, Event, str], None]
    arm: Callable[[int, str], None]
    publish: Callable[[list[Event]], None]


@dataclass(slots=True)
class _Plan:
    """What is to be written, and what is done once it is."""

    writes: list[Write]
    told: list[Event]
    begun: list[tuple[RunState, Effects]] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    skipped: list[tuple[str, Event, str]] = field(default_factory=list)
    arm: list[tuple[int, str]] = field(default_factory=list)
    occupied: dict[_Single, str | None] = field(default_factory=dict)


class Starts:
    """Starts runs as the flow control of their functions allows."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        clock: Clock,
        registry: Registry,
        runs: Runs,
        hooks: Hooks,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._registry = registry
        self._runs = runs
        self._hooks = hooks
        self._flow = Flow()
        self._single: dict[_Single, str] = {}
        self._sweep_at = _SWEPT_FROM
        # A decision that builds on one that is then given up would write over what is stored.
        self._one_by_one = asyncio.Lock()

    # Life

    async def load(self) -> list[str]:
        """Remembers what was held. Returns runs of singletons that later ones superseded."""
        self._flow.load(await self._store.read(queries.load_held))
        superseded = []
        for state in sorted(self._runs.all(), key=lambda state: state.run_id):
            key = self._single_key(state.function_id, loads(state.first_event))
            if key is not None:
                if key in self._single:
                    superseded.append(self._single[key])
                self._single[key] = state.run_id
        for row in self._flow.held.values():
            if row.due_ms:
                self._hooks.arm(row.due_ms, row.key)
        return superseded

    async def sync(self) -> None:
        """Holds the next time of every registered schedule, and of no other.

        What fell due while its function was not registered is done once it is again.
        """
        async with self._one_by_one:
            await self._sync()

    async def _sync(self) -> None:
        now = self._clock.now_ms()
        wanted = schedules.rows_of(self._registry.functions, now)
        held = {key for key, row in self._flow.held.items() if row.kind == schedules.CRON}
        fresh = [row for key, row in wanted.items() if key not in held]
        writes: list[Write] = [self._flow.put(row) for row in fresh]
        writes += [self._flow.drop(key) for key in held - wanted.keys()]
        writes += self._flow.expired(self._registry.functions, now)
        overdue = [row for row in self._flow.held.values() if 0 < row.due_ms <= now]
        arm = [(row.due_ms, row.key) for row in (*fresh, *overdue)]
        await self._write(_Plan(writes, [], arm=arm))

    def ended(self, state: RunState) -> None:
        """A run has ended: a singleton may run again."""
        key = self._single_key(state.function_id, loads(state.first_event))
        if key is not None and self._single.get(key) == state.run_id:
            del self._single[key]

    # Starting

    async def start(
        self,
        wanted: Iterable[tuple[FunctionConfig, Event]],
        writes: Sequence[Write],
        told: Sequence[Event] = (),
    ) -> None:
        """Starts what `wanted` may, in one transaction with `writes` and `told`.

        Raises StoreError: then nothing has happened.
        """
        wanted = list(wanted)
        alone = any(function.flow.remembers for function, _ in wanted)
        async with self._one_by_one if alone else nullcontext():
            plan = _Plan([*writes, *self._swept()], [*told])
            for function, event in wanted:
                decision = self._flow.decide(function, event, self._clock.now_ms())
                self._add(plan, function, event, decision)
            await self._write(plan)

    def _swept(self) -> list[DropHeld]:
        """Now and then, the limits that are free again: there may be one for each event."""
        if len(self._flow.held) < self._sweep_at:
            return []
        dropped = self._flow.expired(self._registry.functions, self._clock.now_ms())
        self._sweep_at = max(_SWEPT_FROM, 2 * len(self._flow.held))
        return dropped

    async def start_directly(
        self, function: FunctionConfig, event: Event, writes: Sequence[Write]
    ) -> str:
        """Starts a run whatever its flow control says; returns its id. Raises StoreError."""
        plan = _Plan([*writes], [])
        run_id = self._begin(plan, Start(function, (event,), self._clock.now_ms()))
        await self._write(plan)
        return run_id

    async def due(self, key: str) -> None:
        """Does what the held row `key` is for, if its time has come. Raises StoreError."""
        if key.startswith(_SUPERSEDED):
            await self._runs.change(key.removeprefix(_SUPERSEDED), RunState.cancel)
            return
        async with self._one_by_one:
            await self._due(key)

    async def _due(self, key: str) -> None:
        row = self._flow.held.get(key)
        now = self._clock.now_ms()
        if row is None or row.due_ms > now:
            return
        function = self._registry.functions.get(row.function_id)
        if row.kind != schedules.CRON:
            decision = self._flow.due(key, function, now)
            plan = _Plan([], [])
            if function is not None and decision.start is not None:
                self._add(plan, function, decision.start.events[0], decision)
            await self._write(plan)
            return
        schedule = schedules.schedule_of(row, function)
        if schedule is None or function is None:
            return
        event = schedules.timer_event(schedule, row, self._runs.ulid())
        following = schedules.next_row(function.id, schedule, int(row.value))
        plan = _Plan([self._event_row(event), self._flow.put(following)], [])
        plan.arm.append((following.due_ms, following.key))
        self._add(plan, function, event, self._flow.decide(function, event, now))
        await self._write(plan)

    def _add(self, plan: _Plan, function: FunctionConfig, event: Event, decision: Decision) -> None:
        plan.writes.extend(decision.writes)
        plan.arm.extend((row.due_ms, row.key) for row in decision.due)
        for displaced in decision.displaced:
            self._skip(plan, function, displaced, "a later event took its place in its debounce")
        reason = decision.dropped
        if decision.start is not None and not (reason := self._occupied(plan, decision.start)):
            run_id = self._begin(plan, decision.start)
            self._occupy(plan, decision.start, run_id)
        if reason:
            for refused in decision.start.events if decision.start is not None else (event,):
                self._skip(plan, function, refused, reason)

    def _skip(self, plan: _Plan, function: FunctionConfig, event: Event, reason: str) -> None:
        plan.skipped.append((function.id, event, reason))
        correlation = children.correlation_of(event.value)
        if correlation:
            message = f"The function {function.id} was not started: {reason}."
            plan.told.append(self.refusal(correlation, "InvocationSkippedError", message))

    def refusal(self, correlation: str, name: str, message: str) -> Event:
        """The news, for the step that invoked it, that a function did not start."""
        return children.refusal_event(
            correlation, name, message, event_id=self._runs.ulid(), now_ms=self._clock.now_ms()
        )

    # One at a time

    def _single_key(self, function_id: str, event: Mapping[str, Any]) -> _Single | None:
        function = self._registry.functions.get(function_id)
        singleton = function.flow.singleton if function is not None else None
        key = key_of(singleton.key, event) if singleton is not None else None
        return None if key is None else (function_id, key)

    def _occupied(self, plan: _Plan, start: Start) -> str:
        """Why `start` may not be: another run of a singleton is on. Empty if it may."""
        key = self._single_key(start.function.id, start.events[0].value)
        running = self._single.get(key) if key is not None else None
        singleton = start.function.flow.singleton
        if running is None or singleton is None:
            return ""
        if singleton.mode == "cancel":
            plan.cancels.append(running)
            return ""
        return f"it is a singleton, and run {running} of it has not ended"

    def _occupy(self, plan: _Plan, start: Start, run_id: str) -> None:
        key = self._single_key(start.function.id, start.events[0].value)
        if key is not None:
            plan.occupied.setdefault(key, self._single.get(key))
            self._single[key] = run_id

    # Writing

    def _begin(self, plan: _Plan, start: Start) -> str:
        now = self._runs.now()
        first = start.events[0]
        state = RunState(
            run_id=now.ulid(),
            function_id=start.function.id,
            event_id=first.id,
            event_names="\n".join(dict.fromkeys(event.name for event in start.events)),
            events=f"[{','.join(event.text for event in start.events)}]",
            settings=self._settings,
            max_attempts=start.function.max_attempts,
            started_ms=start.due_ms,
        )
        effects = state.begin(now)
        further = [PutRunEvent(event.id, state.run_id) for event in start.events[1:]]
        plan.writes += [*effects.writes, *further]
        plan.begun.append((state, effects))
        return state.run_id

    async def _write(self, plan: _Plan) -> None:
        work = self._do(plan, self._flow.take_undo())
        await (completed(work) if plan.writes or plan.told else work)

    async def _do(self, plan: _Plan, undo: Mapping[str, Held | None]) -> None:
        rows = outgoing_rows(plan.told, self._clock.now_ms())
        try:
            await self._store.commit([*plan.writes, *rows])
        except StoreError:
            self._flow.give_up(undo)
            for single, holder in plan.occupied.items():
                if holder is None:
                    self._single.pop(single, None)
                else:
                    self._single[single] = holder
            raise
        for state, effects in plan.begun:
            self._runs.add(state, effects)
            self._hooks.begun(state)
        for due_ms, key in plan.arm:
            self._hooks.arm(due_ms, key)
        for function_id, event, reason in plan.skipped:
            self._hooks.skipped(function_id, event, reason)
        for run_id in plan.cancels:
            try:
                await self._runs.change(run_id, RunState.cancel)
            except StoreError:  # what supersedes it is written: it is only late
                self._hooks.arm(self._clock.now_ms(), _SUPERSEDED + run_id)
        if plan.told:
            self._hooks.publish(plan.told)

    def _event_row(self, event: Event) -> PutEvent:
        return PutEvent(event.id, event.external_id, event.name, event.text, self._clock.now_ms())
