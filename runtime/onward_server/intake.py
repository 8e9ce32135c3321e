"""What events do: they wake waiting runs, cancel runs, start runs, and answer who invoked them.

Events come from outside, or from transitions of runs: those are written with the transition as
outgoing, and taken in after it; a restart takes in what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from onward.errors import ConfigurationError
from onward_server import children, events, queries, trace
from onward_server.clock import Clock
from onward_server.events import Event
from onward_server.identifiers import stable_uuid
from onward_server.json_text import loads
from onward_server.model import DropOutgoing, Effects, Now, PutEvent, Write
from onward_server.registration import Cancel, FunctionConfig
from onward_server.registry import Registry
from onward_server.run_state import RunState
from onward_server.runs import Runs
from onward_server.seeds import seeded_ids
from onward_server.settings import Settings
from onward_server.starts import Starts
from onward_server.store import Store, StoreError

_STORE_RETRY_S = 1.0
_ENDINGS = (events.FUNCTION_FINISHED, events.FUNCTION_FAILED, events.FUNCTION_CANCELLED)


class Intake:
    """Takes in events; `starts` starts runs, and `spawn` runs what is done later."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        clock: Clock,
        registry: Registry,
        runs: Runs,
        starts: Starts,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._registry = registry
        self._runs = runs
        self._starts = starts
        self._spawn = spawn
        self._one_by_one = asyncio.Lock()
        self._by_seed: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # From outside

    async def send(self, batch: Sequence[Mapping[str, Any]], seed: str | None = None) -> list[str]:
        """Takes in events; returns their internal ids.

        An event with the `id` of an earlier one is taken but has no effect. A `seed` makes the ids:
        events that were sent with it before are the same ones. Raises BadEventError for the first
        that cannot be taken; then none of them was.
        """
        now = self._clock.now_ms()
        seeded = seeded_ids(seed, len(batch))
        ids = seeded or [self._runs.ulid() for _ in batch]
        accepted = [
            events.accept(value, event_id, now) for value, event_id in zip(batch, ids, strict=True)
        ]
        if seed is None or not seeded:
            await self._take_in_fresh(accepted)
            return ids
        async with self._by_seed.setdefault(seed, asyncio.Lock()):
            if not await self._store.read(lambda c: queries.load_event(c, seeded[0])):
                await self._take_in_fresh(accepted)
        return ids

    async def _take_in_fresh(self, accepted: Sequence[Event]) -> None:
        if any(event.external_id for event in accepted):
            async with self._one_by_one:  # two at once with one id must not both be the first
                await self._take_in(accepted, await self._unseen(accepted))
        else:
            await self._take_in(accepted, accepted)

    async def _take_in(self, accepted: Sequence[Event], fresh: Iterable[Event]) -> None:
        writes: list[Write] = [self._row(event) for event in accepted]
        await self._act(fresh, writes)

    async def _unseen(self, accepted: Sequence[Event]) -> list[Event]:
        since = self._clock.now_ms() - round(self._settings.event_id_window_s * 1000)
        named = {event.external_id for event in accepted if event.external_id}
        seen: set[str] = set()
        if named:
            seen = await self._store.read(
                lambda connection: {n for n in named if queries.event_seen(connection, n, since)}
            )
        fresh = []
        for event in accepted:
            if event.external_id not in seen:
                fresh.append(event)
            if event.external_id:
                seen.add(event.external_id)
        return fresh

    # From runs

    def telling(self, state: RunState, effects: Effects) -> list[Event]:
        """The events of our own that follow from a transition: invocations, and the run's end."""
        now = self._clock.now_ms()
        told = [
            children.invocation_event(
                invocation,
                run_id=state.run_id,
                source_app_id=self._registry.app_id(state.function_id),
                source_fn_id=stable_uuid("function", state.function_id),
                event_id=self._runs.ulid(),
                now_ms=now,
            )
            for invocation in effects.invocations
        ]
        if effects.ended and self._heard(state):
            ending = children.ending_events(
                function_id=state.function_id,
                run_id=state.run_id,
                status=state.status,
                triggers=loads(state.events),
                output=loads(state.output),
                no_retry=state.no_retry,
                ulid=self._runs.ulid,
                now_ms=now,
            )
            told += [event for event in ending if self._matters(event)]
        return told

    def _heard(self, state: RunState) -> bool:
        """Whether the run's end may be news to anybody: most are not, and are not put together."""
        return '"correlation_id"' in state.events or any(map(self._listened_to, _ENDINGS))

    def _matters(self, event: Event) -> bool:
        """Whether anything hears an event about a run's end."""
        return "correlation_id" in event.value["data"] or self._listened_to(event.name)

    def _listened_to(self, name: str) -> bool:
        return bool(self._runs.waiting_for(name)) or any(
            function.hears(name) for function in self._registry.functions.values()
        )

    def publish(self, told: list[Event]) -> None:
        """Takes in events of our own that have been written as outgoing."""
        if told:
            self._spawn(self._take_in_own(told))

    async def left(self) -> list[Event]:
        """The events of our own that an earlier process wrote and did not take in."""
        rows = await self._store.read(queries.outgoing)
        return [events.stored(row.event_id, row.external_id, row.event) for row in rows]

    async def _take_in_own(self, told: Sequence[Event]) -> None:
        for event in told:
            while True:
                try:
                    await self._act([event], [DropOutgoing(event.id)])
                    break
                except StoreError as error:
                    trace.logger.error("The event %s waits: %s", event.name, error)
                    await asyncio.sleep(_STORE_RETRY_S)
                except Exception:  # noqa: BLE001 - logged; it stays outgoing, for the next start
                    trace.logger.exception("The event %s cannot be taken in", event.name)
                    break

    # What they do

    async def _act(self, fresh: Iterable[Event], writes: list[Write]) -> None:
        fresh = list(fresh)
        for event in fresh:
            await self._cancel_by(event)
            await self._wake_by(event)
            await self._answer_by(event)
        told = [refusal for event in fresh for refusal in self._unknown(event)]
        wanted = [(function, event) for event in fresh for function in self._started_by(event)]
        await self._starts.start(wanted, writes, told)

    async def _answer_by(self, event: Event) -> None:
        """The step that invoked the function which has finished gets its result."""
        correlation = event.value["data"].get("correlation_id")
        if event.name == events.FUNCTION_FINISHED and correlation:
            await self._reply(correlation, children.invoked_entry(event.value["data"]))

    async def _reply(self, correlation: str, entry: str) -> None:
        run_id, _, step_id = correlation.partition(".")
        await self._runs.change(run_id, lambda run, now: run.replied(step_id, entry, now))

    def _started_by(self, event: Event) -> Iterator[FunctionConfig]:
        """The functions that `event` is to start, each once."""
        invoked = self._invoked(event)
        for function in self._registry.functions.values():
            if function is invoked or any(t.matches(event.value) for t in function.triggers):
                yield function

    def _invoked(self, event: Event) -> FunctionConfig | None:
        if event.name != events.FUNCTION_INVOKED:
            return None
        return self._registry.find(str(children.meta_of(event.value).get("fn_id")))

    def _unknown(self, event: Event) -> Iterator[Event]:
        """The answer to the step that invoked a function which nobody registered."""
        correlation = children.correlation_of(event.value)
        if correlation is not None and self._invoked(event) is None:
            yield self._starts.refusal(
                correlation,
                "Error",
                f"could not find function with ID: {children.meta_of(event.value).get('fn_id')}."
                f" Registered are: {self._registry.known()}. Invoke one of these, or register the"
                " app that has it on this orchestrator.",
            )

    async def start(self, function_id: str, data: Mapping[str, Any]) -> str:
        """Starts a run of `function_id` without an event of its triggers; returns its id.

        Raises ConfigurationError for a function that is not registered.
        """
        function = self._registry.functions.get(function_id)
        if function is None:
            raise ConfigurationError(
                f"No function {function_id!r} is registered; registered are:"
                f" {self._registry.known()}. Give one of these ids, or register the app that has"
                " it."
            )
        now = self._clock.now_ms()
        event = events.make(events.FUNCTION_INVOKED, data, self._runs.ulid(), now)
        return await self._starts.start_directly(function, event, [self._row(event)])

    async def _cancel_by(self, event: Event) -> None:
        for function in self._registry.functions.values():
            for cancel in function.cancels:
                if cancel.event == event.name:
                    await self._cancel_runs(function.id, cancel, event)

    async def _cancel_runs(self, function_id: str, cancel: Cancel, event: Event) -> None:
        now = self._clock.now_ms()
        for state in self._runs.all():
            if state.function_id != function_id:
                continue
            if cancel.within_s is not None and now - state.started_ms > cancel.within_s * 1000:
                continue
            scope = {"event": loads(state.first_event), "async": event.value}
            if cancel.condition is None or cancel.condition.test(scope):
                await self._runs.change(state.run_id, RunState.cancel)

    async def _wake_by(self, event: Event) -> None:
        def woken(run: RunState, now: Now) -> Effects:
            return run.woken(event.value, now)

        for run_id in self._runs.waiting_for(event.name):
            await self._runs.change(run_id, woken)

    async def signal(self, signal: str, data: object) -> str | None:
        """Ends the wait for `signal` with `data`; its run's id, or None if nobody waits."""
        while (holder := self._runs.holder(signal)) is not None:
            run_id, step_id = holder

            def signalled(run: RunState, now: Now, step_id: str = step_id) -> Effects:
                return run.signalled(step_id, data, now)

            effects = await self._runs.change(run_id, signalled)
            if effects is not None and not effects.stale:
                return run_id
            if self._runs.holder(signal) == holder:
                break
        return None

    def _row(self, event: Event) -> PutEvent:
        return PutEvent(event.id, event.external_id, event.name, event.text, self._clock.now_ms())
