"""Drives an async function on the running event loop."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context as Variables
from functools import partial
from typing import Any

from onward.app import is_async
from onward.context import Context
from onward.core.actions import Cut, Deliver, Hang, ReadJournal, Respond, Send, Start
from onward.core.calls import StepCall
from onward.core.response import Response
from onward.execution.on_worker import on_worker
from onward.execution.session import Execution, Hung, Session
from onward.execution.steps import MapPlan, MapResults, StepMaker, Ticket
from onward.execution.task_owners import owner_of_tasks, track_tasks
from onward.execution.workers import BodyCut, Interruptible, workers

#: How many turns of a busy loop user code gets before it counts as idle.
PATIENT_TURNS = 32

#: How often in a row user code goes on without a turn of the loop.
AT_ONCE = 64

#: How many blocking bodies of one function run at a time; more wait for a thread.
BLOCKING_BODIES = 64


class AsyncDriver(Session):
    """One invocation of an async function."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(execution)
        self._loop = asyncio.get_running_loop()
        self._ready: Any = getattr(self._loop, "_ready", None)
        self._decided: asyncio.Future[Response] = self._loop.create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._bodies: dict[StepCall, asyncio.Task[Any] | Interruptible] = {}
        self._parked: set[asyncio.Task[Any]] = set()
        self._main: asyncio.Task[Any] | None = None
        self._concurrent = False
        self._scheduled = False
        self._turns = 0
        self._at_once = 0
        self._cutting: set[StepCall] = set()
        self._stuck: set[StepCall] = set()
        self._queued: deque[StepCall] = deque()
        self._blocking = 0
        waits = self.hooks is not None and self.hooks.waits
        self._settling = asyncio.Semaphore(BLOCKING_BODIES) if waits else None

    async def run(self) -> Response:
        """Drive the function to its response. Raises Hung."""
        track_tasks(self._loop)
        owner = owner_of_tasks.set(self)
        try:
            context = Context(
                self,
                StepMaker(self.execution.app, self.execution.hooks),
                call=self.execution.call,
                deadline=self.execution.deadline,
            )
            coroutine = self._begun(context)
            variables = self.function_variables()
            variables.run(owner_of_tasks.set, self)
            self._main = self._task(coroutine, variables)
            self._tasks.add(self._main)
        finally:
            owner_of_tasks.reset(owner)
        self._main.add_done_callback(self._on_main_done)
        with self.lock:
            self.rearm()
        try:
            return await asyncio.shield(self._decided)
        except asyncio.CancelledError:
            self.abandon()
            raise
        finally:
            self._decided.cancel()
            await self._unwind()
            self.close()

    def _begun(self, context: Context) -> Any:
        async def begin() -> Any:  # what has no room for the context fails the run, not the entry
            self.receive(context)
            return await self.execution.function.handler(context)

        return begin()

    def _task(self, coroutine: Any, variables: Variables | None) -> asyncio.Task[Any]:
        """A task of Onward's own, which never begins at once, whatever the loop's factory does."""
        return asyncio.Task(coroutine, loop=self._loop, context=variables)

    # ------------------------------------------------------------------ user code's side

    async def step(self, call: StepCall, branch: object = None) -> Any:
        """The outcome of `call`, which is one of `branch`; by default, of the current task."""
        task = asyncio.current_task()
        if task is not self._main:
            self._concurrent = True
        call.branch = branch or task
        with self.lock:
            self.core.called(call)
        waiter: asyncio.Future[Any] = self._loop.create_future()
        call.token.waiter = waiter
        if task is not None:
            self._parked.add(task)
        self._advance_at_once_or_soon()
        try:
            return await waiter
        except asyncio.CancelledError:
            with self.lock:
                stop = self.core.closed(call)
            if stop:
                self._stop_body(call)
            self._schedule()
            raise
        finally:
            if task is not None:
                self._parked.discard(task)

    async def map(self, plan: MapPlan) -> list[Any]:
        """The results of `plan`'s steps, as many open at a time as it says."""
        results, parent = MapResults(plan), asyncio.current_task()

        async def lane() -> None:
            for number in results.numbers:
                try:
                    results.settle(number, await self.step(plan.make(number), parent))
                except Exception as error:  # noqa: BLE001 - raised when all have ended
                    results.fail(number, error)

        if parent is not None:
            self._parked.add(parent)
        try:
            await asyncio.gather(*(lane() for _ in range(plan.concurrency)))
        finally:
            if parent is not None:
                self._parked.discard(parent)
        return results.joined()

    # ------------------------------------------------------------------ advancing

    def poke(self) -> None:
        """Wake the loop from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._schedule)
        except RuntimeError:
            return  # the loop was closed: nobody waits for this invocation any more

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._on_turn)

    def _on_turn(self) -> None:
        """A turn of the loop: advance, unless user code may still be running in it."""
        self._scheduled = False
        self._at_once = 0
        if self._others_ready() and self._turns < PATIENT_TURNS:
            self._turns += 1
            self._schedule()
        else:
            self._pump()

    def _others_ready(self) -> bool:
        """Whether anything but this driver's own turn is ready to run; loops may not tell."""
        return self._ready is None or len(self._ready) > self._scheduled

    def _advance_at_once_or_soon(self) -> None:
        """Advance now if nothing else is ready to run, since the caller is about to wait.

        That saves turns of the loop; every so often one is left for whatever else lives there.
        """
        if self._at_once < AT_ONCE and not self._others_ready():
            self._at_once += 1
            self._pump()
        else:
            self._schedule()

    def _pump(self) -> None:
        """Advance: user code is idle."""
        self._turns = 0
        with self.lock:
            try:
                while self._perform():
                    pass
            except Exception as error:  # noqa: BLE001 - a defect must not hang the caller
                self._decide(self.broken(error))
            self.rearm()
            self.log_notices()

    def _perform(self) -> bool:
        """Do the next action; whether another one may follow at once."""
        action = self.core.advance(time.monotonic(), self._busy)
        if isinstance(action, Start):
            self._start(action.call)
        elif isinstance(action, Send):
            self.send(action)
        elif isinstance(action, ReadJournal):
            self.read_journal()
        elif isinstance(action, Cut):
            for call in action.calls:
                self._cut(call)
        else:
            if isinstance(action, Deliver):
                self._deliver(action)
            elif isinstance(action, Respond):
                self._decide(action.response)
            elif isinstance(action, Hang):
                self._decide(None)
            return False
        return True

    def _decide(self, response: Response | None) -> None:
        if self._decided.done():
            return
        if response is None:
            self.hang()
            self._decided.set_exception(Hung())
        else:
            self._decided.set_result(response)

    def end(self, response: Response) -> None:
        """Answer `response`, unless an answer was decided."""
        self._call_on_loop(self._decide, response)

    def _busy(self) -> bool:
        """Whether some branch may be waiting outside of steps.

        One task that waits for no step is taken for the parent of those that do.
        """
        if not self._concurrent:
            return False
        return len(self._live_tasks() - self._parked) > 1

    def _live_tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks of this function that have not ended."""
        if sys.version_info >= (3, 12):
            return {
                task
                for task in asyncio.all_tasks(self._loop)
                if task.get_context().get(owner_of_tasks) is self
            }
        return {task for task in self._tasks if not task.done()}

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """A task that this function created."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _deliver(self, action: Deliver) -> None:
        waiter: asyncio.Future[Any] = action.call.token.waiter
        value, error = self.outcome(action)
        if not waiter.done():
            if error is None:
                waiter.set_result(value)
            else:
                waiter.set_exception(error)
        if self._concurrent:  # else user code's next call, or its end, comes by itself
            self._schedule()

    def _on_main_done(self, task: asyncio.Task[Any]) -> None:
        if self.core.over:
            if not task.cancelled():
                task.exception()  # it was asked to stop: what it says about that is not news
            return
        if task.cancelled():
            error: BaseException | None = asyncio.CancelledError("The function was cancelled.")
        else:
            error = task.exception()
        if error is not None:
            report = partial(self.function_raised, error)
        else:
            report = partial(self.function_returned, task.result())
        if self._settling is None:
            report()
            self._schedule()
        else:
            workers.submit(partial(self._report_and_poke, report))

    def _report_and_poke(self, report: Callable[[], None]) -> None:
        report()
        self.poke()

    # ------------------------------------------------------------------ bodies

    def _start(self, call: StepCall) -> None:
        ticket: Ticket = call.token
        assert ticket.variables is not None  # noqa: S101 - set with every body
        ticket.variables.run(owner_of_tasks.set, None)  # tasks that a body makes are its own
        if is_async(ticket.body):
            self._run_async(call, self._await_body(call, partial(self._call_body, call)))
        elif self._blocking < BLOCKING_BODIES:
            self._run_on_worker(call)
        else:
            self._queued.append(call)

    def _run_async(self, call: StepCall, coroutine: Coroutine[Any, Any, None]) -> None:
        self._bodies[call] = self._task(coroutine, call.token.variables)

    def _run_on_worker(self, call: StepCall) -> None:
        stretch = Interruptible()
        self._bodies[call] = stretch
        self._blocking += 1
        call.started_at = time.monotonic()
        try:
            workers.submit(lambda: self._run_blocking(call, stretch))
        except RuntimeError as error:  # no thread is to be had
            self.body_failed(call, error, time.time_ns(), time.monotonic())
            self._blocking_over(call)

    def _blocking_over(self, call: StepCall) -> None:
        """A blocking body has ended, and its thread is free."""
        self._body_over(call)
        self._free_worker()

    def _free_worker(self) -> None:
        """The next body that waits for a thread may begin."""
        self._blocking -= 1
        while self._queued and self._blocking < BLOCKING_BODIES:
            self._run_on_worker(self._queued.popleft())

    async def _await_body(
        self,
        call: StepCall,
        begin: Callable[[], Awaitable[Any]],
        began: tuple[int, float] | None = None,
    ) -> None:
        """Await what `begin` gives, and report it; `began` where the body has begun before."""
        started_ns, begun = began or (time.time_ns(), time.monotonic())
        try:
            try:
                value = await begin()
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
                await self._settle(partial(self.body_failed, call, error, started_ns, begun))
            else:
                await self._settle(partial(self.body_returned, call, value, started_ns, begun))
        except asyncio.CancelledError as error:
            self._on_cancelled(call, error, started_ns, begun)
        except BaseException as error:  # noqa: BLE001 - as above
            self.body_failed(call, error, started_ns, begun)
        self._bodies.pop(call, None)
        self._advance_at_once_or_soon()

    async def _settle(self, report: Callable[[], None]) -> None:
        """Report what came of a body; on a thread where middleware waits."""
        if self._settling is None:
            report()
        else:
            async with self._settling:
                await on_worker(report)

    def _on_cancelled(
        self, call: StepCall, error: BaseException, started_ns: int, begun: float
    ) -> None:
        if call in self._cutting:
            with self.lock:
                self.core.was_cut(call, time.monotonic())
        else:
            self.body_failed(call, error, started_ns, begun)

    def _run_blocking(self, call: StepCall, stretch: Interruptible) -> None:
        """A blocking body, on a worker."""
        ticket: Ticket = call.token
        started_ns, begun = time.time_ns(), time.monotonic()
        try:
            with stretch:
                assert ticket.variables is not None  # noqa: S101 - set with every body
                value = ticket.variables.run(self._call_body, call)
        except BodyCut:
            with self.lock:
                self.core.was_cut(call, time.monotonic())
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
            self.body_failed(call, error, started_ns, begun)
        else:
            if isinstance(value, Coroutine):
                self._call_on_loop(self._adopt_coroutine, call, value, started_ns, begun)
                return
            self.body_returned(call, value, started_ns, begun)
        self._call_on_loop(self._blocking_over, call)

    def _call_body(self, call: StepCall) -> Any:
        self.enter_body(call)
        self.observe(call, "start")
        ticket: Ticket = call.token
        assert ticket.body is not None  # noqa: S101 - only calls with a body are started
        return ticket.body(*ticket.args, **ticket.kwargs)

    def _call_on_loop(self, callback: Any, *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            return  # the loop was closed: nobody waits for this invocation any more

    def _adopt_coroutine(
        self, call: StepCall, coroutine: Coroutine[Any, Any, Any], started_ns: int, begun: float
    ) -> None:
        """A body that did not look async gave a coroutine, as a lambda can: await it here."""
        self._run_async(call, self._await_body(call, lambda: coroutine, (started_ns, begun)))
        self._free_worker()

    def _body_over(self, call: StepCall) -> None:
        """A body has ended, however it did."""
        self._bodies.pop(call, None)
        self._stuck.discard(call)
        if call in self._cutting:
            self._cutting.discard(call)
            with self.lock:
                self.core.was_cut(call, time.monotonic())
        self._advance_at_once_or_soon()

    def _stop_body(self, call: StepCall) -> None:
        body = self._bodies.get(call)
        if call in self._queued:
            self._queued.remove(call)
            self._loop.call_soon(self._body_over, call)
        elif isinstance(body, Interruptible):
            body.interrupt()
        elif body is not None:
            body.cancel()
            # One that is cancelled before its first turn runs nothing of its coroutine.
            body.add_done_callback(lambda _: self._body_over(call))

    def _cut(self, call: StepCall) -> None:
        """Stop a body; if it does not end in time, it is stuck."""
        self._cutting.add(call)
        self._stop_body(call)
        self._loop.call_later(self.cut_patience(), self._check_cut, call)

    def _check_cut(self, call: StepCall) -> None:
        if call not in self._bodies or call not in self._cutting:
            return
        self._stuck.add(call)
        with self.lock:
            self.core.stuck(call, time.monotonic())
        self._schedule()

    # ------------------------------------------------------------------ the end

    async def _unwind(self) -> None:
        """Cancel what user code still runs, and wait for its `finally` blocks."""
        self._queued.clear()
        for call in list(self._bodies):
            self._stop_body(call)
        if self._main is not None and not self._main.done():
            self._main.cancel()
        until = time.monotonic() + self.unwind_limit()
        first = {self._main} if self._main is not None else set()
        await self._wait_for(first, until)
        rest = self._live_tasks()
        for task in rest:
            task.cancel()
        bodies = {body for body in self._bodies.values() if isinstance(body, asyncio.Task)}
        left = await self._wait_for(rest | bodies, until)
        # Those that are known to be stuck are not waited for.
        while self._threads() - self._stuck and time.monotonic() < until:  # noqa: ASYNC110 - threads
            await asyncio.sleep(0.001)
        stuck = [*left, *(self._bodies[call] for call in self._threads())]
        if stuck and not self.execution.abandons:
            self.hang()
            raise Hung
        if stuck:
            self.leave_behind(stuck)

    def _threads(self) -> set[StepCall]:
        return {call for call, body in self._bodies.items() if isinstance(body, Interruptible)}

    async def _wait_for(
        self, tasks: set[asyncio.Task[Any]], until: float
    ) -> set[asyncio.Task[Any]]:
        pending = {task for task in tasks if not task.done()}
        if pending:
            _, pending = await asyncio.wait(pending, timeout=max(0.0, until - time.monotonic()))
        return pending
