"""Calls in flight: each job's call, its limits, and the way of its answer into the run's state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from onward_server import trace
from onward_server.answers import (
    Outcome,
    Raised,
    Reported,
    Throttled,
    error_info,
    interpret,
)
from onward_server.call_body import RenderedCall
from onward_server.clock import Clock
from onward_server.invokers import InvokeError, Invoker, invoke
from onward_server.model import Effects, Job
from onward_server.run_state import Refused
from onward_server.settings import Settings
from onward_server.slots import Slot, Slots
from onward_server.store import StoreError, StoreValueError

_STORE_RETRY_S = 1.0
_DEFAULT_CONCURRENCY = 100

Deliver = Callable[[str, str, str, Outcome | Refused], Awaitable[Effects | None]]


@dataclass(frozen=True, slots=True)
class Call:
    """One dispatch: which job of which run, with its request as rendered at that moment."""

    run_id: str
    job_id: str
    request_id: str
    attempt: int
    generation: int
    journal: int
    rendered: RenderedCall
    slots: tuple[Slot, ...] = ()

    @classmethod
    def of(
        cls, run_id: str, job: Job, rendered: RenderedCall, slots: tuple[Slot, ...] = ()
    ) -> Call:
        """The dispatch of `job` as it stands; `slots` it needs to be made."""
        return cls(
            run_id,
            job.id,
            job.request_id,
            job.attempt,
            job.generation,
            job.steps_at_dispatch,
            rendered,
            slots,
        )


class Dispatcher:
    """Makes calls concurrently, as far as their slots and each invoker allow.

    Their outcomes go to `deliver`. `wanted` is asked right before each call, which may have waited.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        tracer: trace.Trace,
        deliver: Deliver,
        wanted: Callable[[Call], bool],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._trace = tracer
        self._deliver = deliver
        self._wanted = wanted
        self._invokers: dict[str, Invoker] = {}
        self._limits: dict[int, asyncio.Semaphore] = {}
        self._waiting: dict[str, list[Call]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = Slots()

    def set_invoker(self, function_id: str, invoker: Invoker) -> None:
        """Calls `function_id` by `invoker` from now on, and makes the calls that waited for one."""
        self._invokers[function_id] = invoker
        for call in self._waiting.pop(function_id, []):
            self.dispatch(call)

    def dispatch(self, call: Call) -> None:
        """Makes `call`; one of a function that is not registered yet waits until it is."""
        function_id = call.rendered.function_id
        if function_id not in self._invokers:
            self._waiting.setdefault(function_id, []).append(call)
            return
        task = asyncio.create_task(self._call(call), name=f"onward-call-{call.request_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Abandons every call; their runs stay resumable."""
        self._waiting.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._limits.clear()

    def _limit(self, invoker: Invoker) -> asyncio.Semaphore:
        limit = self._limits.get(id(invoker))
        if limit is None:
            most = getattr(invoker, "concurrency", None) or _DEFAULT_CONCURRENCY
            limit = self._limits[id(invoker)] = asyncio.Semaphore(most)
        return limit

    async def _call(self, call: Call) -> None:
        invoker = self._invokers[call.rendered.function_id]
        await self._slots.take(call.slots)
        try:
            async with self._limit(invoker):
                if not self._wanted(call):
                    return
                self._tell_started(call)
                started = time.perf_counter()
                outcome, status = await self._outcome(invoker, call)
                wall_ms = (time.perf_counter() - started) * 1000
        finally:
            self._slots.free(call.slots)
        outcome, effects = await self._delivered(call, outcome)
        self._tell_ended(call, outcome, status, wall_ms, stale=effects is None or effects.stale)

    async def _outcome(self, invoker: Invoker, call: Call) -> tuple[Outcome | Refused, int | None]:
        try:
            answer = await invoke(invoker, call.rendered, self._settings.call_timeout_s)
            return interpret(answer, self._clock.now_ms()), answer.status
        except InvokeError as error:
            if error.throttled:
                return Throttled(error.retry_after), None
            if error.refused:
                return Refused(error.message), None
            failure = error_info("InvocationError", error.message)
            return Raised(failure, retriable=True, retry_after_s=error.retry_after), None
        except Exception as error:  # noqa: BLE001 - logged; an invoker of somebody else's may raise anything
            trace.logger.exception("The invoker of %s failed", call.rendered.function_id)
            failure = error_info("InvokerError", f"The invoker failed: {error!r}")
            return Raised(failure, retriable=True), None

    async def _delivered(
        self, call: Call, outcome: Outcome | Refused
    ) -> tuple[Outcome | Refused, Effects | None]:
        """Hands the outcome over, however long the store refuses it: it exists only here.

        One that can never be taken is a failed attempt, so that its run does not hang. Returns
        what was handed over.
        """
        given = outcome
        while True:
            try:
                effects = await self._deliver(call.run_id, call.job_id, call.request_id, given)
            except Exception as error:  # noqa: BLE001 - logged; whatever it is, the run must not hang
                if given is not outcome or (
                    isinstance(error, StoreError) and not isinstance(error, StoreValueError)
                ):
                    trace.logger.error("The answer of run %s waits: %s", call.run_id, error)
                    await asyncio.sleep(_STORE_RETRY_S)
                    continue
                trace.logger.exception("The answer of run %s cannot be taken", call.run_id)
                failure = error_info(
                    "ProtocolError", f"The function's answer cannot be taken: {error!r}"
                )
                given = Raised(failure, retriable=True)
            else:
                return given, effects

    def _tell_started(self, call: Call) -> None:
        self._trace.emit(
            trace.CALL_STARTED,
            call.run_id,
            time.time(),
            {
                "request_id": call.request_id,
                "target": call.rendered.target,
                "attempt": call.attempt,
                "generation": call.generation,
                "journal": call.journal,
            },
        )

    def _tell_ended(
        self,
        call: Call,
        outcome: Outcome | Refused,
        status: int | None,
        wall_ms: float,
        *,
        stale: bool,
    ) -> None:
        ops = outcome.ops if isinstance(outcome, Reported) else ()
        error: object = None
        if isinstance(outcome, Raised):
            error = dict(outcome.error)
        elif isinstance(outcome, Refused):
            error = error_info("FunctionUnreachableError", outcome.message)
        elif isinstance(outcome, Throttled):
            error = error_info("Throttled", "Too many invocations run at once.")
        else:
            error = next((dict(op.error) for op in ops if op.error is not None), None)
        self._trace.emit(
            trace.CALL_ENDED,
            call.run_id,
            time.time(),
            {
                "request_id": call.request_id,
                "status": status,
                "ops": [{"op": op.code, "name": op.label, "id": op.id} for op in ops],
                "error": error,
                "wall_ms": wall_ms,
                "stale": stale,
            },
        )
