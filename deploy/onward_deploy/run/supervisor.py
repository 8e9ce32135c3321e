"""The invoker of `onward run`: worker processes that stay warm and are replaced when they end."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from onward.protocol.direct import call_payload
from onward_deploy.child import ended_how
from onward_deploy.errors import UsageError, WorkerError
from onward_deploy.run.process import Exchange, Worker, WorkerSpec
from onward_deploy.run.report import Ending, Invocation, classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from onward_server import Answer

#: How many invocations may run at once, each in a process of its own; more wait for their turn.
CONCURRENCY = 4


class Supervisor:
    """Invokes a function in worker processes and kills each invocation at `limit` seconds.

    A worker believes that it has `late` seconds more than it has. `changed` is called on the event
    loop when an invocation started or ended. Implements `onward_server.Invoker`.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        limit: float,
        late: float,
        changed: Callable[[Invocation], None],
    ) -> None:
        self.invocations: list[Invocation] = []
        self._spec = spec
        self._limit = limit
        self._late = late
        self._changed = changed
        self._origin = time.monotonic()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._slots = asyncio.Semaphore(CONCURRENCY)
        # Not the loop's own executor: a body that hangs must not hold up anything else.
        self._threads = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="worker")

    async def start(self) -> dict[str, Any]:
        """Start the first worker. Returns the app's registration.

        Raises UsageError when the app cannot be loaded, WorkerError when its process ends.
        """
        worker = await self._spawn()
        self._idle.append(worker)
        return worker.registration

    def begin(self) -> None:
        """The run starts now: `Invocation.started` counts from here."""
        self._origin = time.monotonic()

    async def _spawn(self) -> Worker:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._spawn_now)

    def _spawn_now(self) -> Worker:
        worker = Worker(self._spec)
        self._busy.add(worker)
        try:
            worker.until_ready()
        except BaseException:
            worker.close()
            raise
        finally:
            self._busy.discard(worker)
        return worker

    async def _take(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            worker.close()
        return await self._spawn()

    async def invoke(
        self,
        function_id: str,
        target: str,
        request: dict[str, Any],
        *,
        timeout: float,  # noqa: ARG002, ASYNC109 - the protocol's; here the limit is what counts
    ) -> Answer:
        """Run one invocation. Raises InvokeError when it is killed, crashes, or cannot start."""
        from onward_server import InvokeError

        async with self._slots:
            try:
                worker = await self._take()
            except (UsageError, WorkerError) as error:
                raise InvokeError(error.message) from error
            one = self._open(request, target)
            exchange = await self._exchange(worker, one, call_payload(function_id, target, request))
            return self._close(one, exchange)

    def _open(self, request: dict[str, Any], target: str) -> Invocation:
        context = request["ctx"]
        one = Invocation(
            number=len(self.invocations) + 1,
            request_id=context["request_id"],
            attempt=context.get("attempt", 0),
            target=target,
            memoized=len(request.get("steps") or {}),
            started=time.monotonic() - self._origin,
            limit=self._limit,
        )
        self.invocations.append(one)
        self._changed(one)
        return one

    async def _exchange(self, worker: Worker, one: Invocation, payload: dict[str, Any]) -> Exchange:
        def run() -> Exchange:
            return worker.invoke(one.number, payload, limit=self._limit, late=self._late)

        self._busy.add(worker)
        try:
            exchange = await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except asyncio.CancelledError:
            one.ending = Ending.STOPPED
            one.seconds = time.monotonic() - self._origin - one.started
            worker.kill()
            self._changed(one)
            raise
        finally:
            self._busy.discard(worker)
        if exchange.exit_status is None:
            self._idle.append(worker)
        else:
            worker.close()
        return exchange

    def _close(self, one: Invocation, exchange: Exchange) -> Answer:
        """Record how `one` ended. Returns its answer, or raises InvokeError."""
        from onward_server import Answer, InvokeError

        one.seconds, one.exit_status = exchange.seconds, exchange.exit_status
        if exchange.answer is not None:
            one.ending, one.detail = classify(exchange.answer)
        elif exchange.killed:
            one.ending = Ending.KILLED
        elif exchange.exit_status is not None:
            one.ending, one.detail = Ending.CRASHED, ended_how(exchange.exit_status)
        else:
            one.ending, one.detail = Ending.ERROR, exchange.raised
        self._changed(one)
        if exchange.answer is None:
            raise InvokeError(self._why(one))
        return Answer(
            exchange.answer["status"], exchange.answer["headers"], _body(exchange.answer["body"])
        )

    def _why(self, one: Invocation) -> str:
        if one.ending is Ending.KILLED:
            return (
                f"Invocation {one.number} was killed after {one.seconds:.2f} s"
                f" (limit {self._limit:g} s)"
            )
        if one.ending is Ending.CRASHED:
            return f"The process of invocation {one.number} {one.detail}"
        return f"The handler of invocation {one.number} raised {one.detail}"

    async def stop(self) -> None:
        """Kill every worker and wait for their ends."""
        workers = [*self._idle, *self._busy]
        self._idle.clear()
        for worker in workers:
            worker.kill()
        for worker in workers:
            await asyncio.to_thread(worker.close)
        self._threads.shutdown()


def _body(value: Any) -> bytes:
    import json

    return json.dumps(value, separators=(",", ":")).encode()
