"""Drives a blocking function on the calling thread, and its branches on workers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from functools import partial
from math import inf
from typing import Any

from onward.app import is_async
from onward.context import BlockingContext
from onward.core.actions import Action, Cut, Deliver, ReadJournal, Respond, Send, Start
from onward.core.calls import StepCall
from onward.core.response import Response
from onward.errors import StepUsageError
from onward.execution.session import Execution, Hung, Session
from onward.execution.steps import (
    MapPlan,
    MapResults,
    StepMaker,
    Ticket,
    refuse_inside_a_step,
)
from onward.execution.workers import BodyCut, Interruptible, prepare_main_thread, workers


class Suspending(BaseException):
    """Onward is suspending this function: it goes on in a later invocation.

    It is raised at the step that the function waits for, so that `finally` blocks run. Let it pass:
    `except Exception` does, a bare `except:` or `except BaseException:` must raise it again.
    """

    def __init__(self) -> None:
        super().__init__(
            "Onward is suspending this function; it goes on in a later invocation. Let this"
            " exception pass (`except Exception` does)."
        )


class Branch:
    """A thread of user code: the function itself, or one branch of a gather."""

    __slots__ = ("body", "code", "gate", "inbox", "waiting")

    def __init__(self) -> None:
        self.inbox: deque[Any] = deque()
        self.gate = threading.Lock()
        self.gate.acquire()
        self.waiting = False
        self.body: Interruptible | None = None
        self.code = Interruptible()


class Gathering:
    """Branches that one branch waits for."""

    __slots__ = ("errors", "left", "parent", "results", "variables")

    def __init__(self, parent: Branch, count: int) -> None:
        self.parent = parent
        self.left = count
        self.results: list[Any] = [None] * count
        self.errors: list[BaseException | None] = [None] * count
        self.variables = [copy_context() for _ in range(count)]

    def joined(self) -> list[Any]:
        """Results in order; otherwise the error to raise: a real one before a suspension."""
        raised = [error for error in self.errors if error is not None]
        for error in raised:
            if not isinstance(error, (Suspending, BodyCut)):
                raise error
        if raised:
            raise Suspending
        return self.results


class BlockingDriver(Session):
    """One invocation of a blocking function.

    At most one branch runs user code at a time: the one that an outcome was delivered to. So the
    order of calls is the same in every replay, and `_awake` says exactly when user code is idle.
    """

    def __init__(self, execution: Execution) -> None:
        super().__init__(execution)
        self._main = Branch()
        self._branches: dict[int, Branch] = {}
        self._awake = 0
        self._ripe: deque[Branch] = deque()
        self._decided = threading.Event()
        self._response: Response | None = None
        self._interrupted = False
        self._unwind_until = inf
        self._running: dict[StepCall, Any] = {}
        self._cutting: set[StepCall] = set()
        self._stuck: set[StepCall] = set()

    def run(self) -> Response:
        """Drive the function to its response. Raises Hung.

        Where code that cannot be stopped may be left behind, the function gets a thread of its own.
        """
        execution = self.execution
        context = BlockingContext(
            self,
            StepMaker(execution.app, execution.hooks),
            call=execution.call,
            deadline=execution.deadline,
        )
        self._awake = 1
        with self.lock:
            self.rearm()
        try:
            if execution.abandons:
                workers.submit(partial(self._run_function, context))
            else:
                prepare_main_thread()
                self._run_function(context)
            self._decided.wait()
            self._wait_for_user_code()
        finally:
            self.close()
        if self._response is None or (self._branches and not self.execution.abandons):
            self.hang()
            raise Hung
        return self._response

    def _begin(self, context: BlockingContext) -> Any:
        self.receive(context)
        return self.execution.function.handler(context)

    def _run_function(self, context: BlockingContext) -> None:
        self._branches[threading.get_ident()] = self._main
        try:
            with self._main.code:
                value = self.function_variables().run(self._begin, context)
        except (Suspending, BodyCut):
            pass
        except BaseException as error:  # noqa: BLE001 - whatever the function raises is its outcome
            self.function_raised(error)
        else:
            self.function_returned(value)
        with self.lock:
            del self._branches[threading.get_ident()]
            self._awake -= 1
            self._pump()

    def _wait_for_user_code(self) -> None:
        """While suspending: `finally` blocks run; code that cannot be stopped is left behind."""
        while self._branches and time.monotonic() < self._unwind_until:
            if self._stuck and len(self._stuck) >= len(self._branches):
                break
            time.sleep(0.0005)
        if self._branches and self.execution.abandons:
            self.leave_behind([branch.code for branch in list(self._branches.values())])

    # ------------------------------------------------------------------ user code's side

    def step(self, call: StepCall, parent: object = None) -> Any:
        """The outcome of `call`, which is one of the branch `parent`; by default, of this one."""
        branch = self._branches.get(threading.get_ident())
        if branch is None:
            raise StepUsageError(
                f"The step {call.user_id!r} was called on a thread that Onward does not know. Call"
                " steps from the function itself, or from a branch of ctx.step.gather."
            )
        call.branch = parent or branch
        call.token.waiter = branch
        branch.code.masked = True
        with self.lock:
            self.core.called(call)
            self._awake -= 1
            self._pump()
        return self._await_outcome(branch)

    def _await_outcome(self, branch: Branch) -> Any:
        while True:
            action = self._take(branch)
            if isinstance(action, Start):
                self._run_body(branch, action.call)
                continue
            branch.code.unmask()
            if not isinstance(action, Deliver):
                raise Suspending
            value, error = self.outcome(action)
            if error is not None:
                raise error
            return value

    def _take(self, branch: Branch) -> Any:
        while True:
            with self.lock:
                if branch.inbox:
                    return branch.inbox.popleft()
                branch.waiting = True
            branch.gate.acquire()

    def _post(self, branch: Branch, action: Any) -> None:
        """Give a branch something to do. The lock is held."""
        branch.inbox.append(action)
        self._wake(branch)

    @staticmethod
    def _wake(branch: Branch) -> None:
        if branch.waiting:
            branch.waiting = False
            branch.gate.release()

    def map(self, plan: MapPlan) -> list[Any]:
        """The results of `plan`'s steps, as many open at a time as it says."""
        results, parent = MapResults(plan), self._branches.get(threading.get_ident())

        def lane() -> None:
            for number in results.numbers:
                try:
                    results.settle(number, self.step(plan.make(number), parent))
                except Exception as error:  # noqa: BLE001 - raised when all have ended
                    results.fail(number, error)

        self.gather([lane] * plan.concurrency)
        return results.joined()

    def gather(self, branches: Sequence[Callable[[], Any]]) -> list[Any]:
        """Run `branches` to their ends, one thread each."""
        refuse_inside_a_step("ctx.step.gather")
        parent = self._branches.get(threading.get_ident())
        if parent is None:
            raise StepUsageError(
                "ctx.step.gather was called on a thread that Onward does not know. Call it from the"
                " function itself, or from a branch of another gather."
            )
        if not branches:
            return []
        parent.code.masked = True
        gathering = Gathering(parent, len(branches))
        made = [Branch() for _ in branches]
        with self.lock:
            self._ripe.extend(made)
        for number, code in enumerate(branches):
            self._submit_branch(gathering, made[number], number, code)
        with self.lock:
            self._awake -= 1
            self._pump()
        self._take(parent)  # the last branch, or a suspension, wakes it
        while gathering.left > len(self._stuck) and time.monotonic() < self._unwind_until:
            time.sleep(0.0005)
        parent.code.unmask()
        return gathering.joined()

    def _submit_branch(
        self, gathering: Gathering, branch: Branch, number: int, code: Callable[[], Any]
    ) -> None:
        """Have a worker run a branch; without a thread to be had, the branch fails."""
        try:
            workers.submit(partial(self._run_branch, gathering, branch, number, code))
        except RuntimeError as error:
            with self.lock:
                if branch in self._ripe:
                    self._ripe.remove(branch)
                gathering.errors[number] = error
                self._branch_over(gathering)

    def _run_branch(
        self, gathering: Gathering, branch: Branch, number: int, code: Callable[[], Any]
    ) -> None:
        """One branch, on a worker."""
        self._branches[threading.get_ident()] = branch
        if self._take(branch) is Suspending:
            gathering.errors[number] = Suspending()
        else:
            try:
                with branch.code:
                    gathering.results[number] = gathering.variables[number].run(code)
            except BaseException as error:  # noqa: BLE001 - raised again by the parent
                gathering.errors[number] = error
        with self.lock:
            del self._branches[threading.get_ident()]
            self._branch_over(gathering)
            self._awake -= 1
            self._pump()

    def _branch_over(self, gathering: Gathering) -> None:
        """One branch of a gather has ended; the last one wakes the parent. The lock is held."""
        gathering.left -= 1
        if gathering.left == 0 and not self.core.over:
            self._ripe.append(gathering.parent)

    # ------------------------------------------------------------------ advancing

    def poke(self) -> None:
        """Advance from any thread, if user code is idle; at the deadline, interrupt it."""
        with self.lock:
            self._pump()
            if self._awake and time.monotonic() >= self.execution.deadline.ends_at:
                self._interrupt_user_code()

    def _interrupt_user_code(self) -> None:
        if self.core.over or self._interrupted:
            return
        self._interrupted = True
        for branch in self._branches.values():
            if branch.code.running and branch.body is None and not branch.waiting:
                branch.code.interrupt()

    def _pump(self) -> None:
        """Do everything that can be done while user code is idle. The lock is held."""
        try:
            while self._awake == 0 and not self.core.over:
                if self._ripe:
                    self._awake += 1
                    self._post(self._ripe.popleft(), None)
                    break
                action = self.core.advance(time.monotonic())
                if action is None:
                    break
                self._perform(action)
        except Exception as error:  # noqa: BLE001 - a defect of Onward's must not hang the caller
            self._end(self.broken(error))
        self.rearm()
        self.log_notices()

    def _perform(self, action: Action) -> None:
        if isinstance(action, Start):
            self._running[action.call] = None
            self._post(action.call.token.waiter, action)
        elif isinstance(action, Deliver):
            self._awake += 1
            self._post(action.call.token.waiter, action)
        elif isinstance(action, Send):
            self.send(action)
        elif isinstance(action, ReadJournal):
            self.read_journal()
        elif isinstance(action, Cut):
            for call in action.calls:
                self._cut(call)
        else:
            self._end(action.response if isinstance(action, Respond) else None)

    def end(self, response: Response) -> None:
        """Answer `response`, unless an answer was decided."""
        with self.lock:
            if not self._decided.is_set():
                self._end(response)

    def _end(self, response: Response | None) -> None:
        """The invocation is decided: parked branches get `Suspending`, bodies are cut.

        None: there is no response, the platform has to end the process. The lock is held.
        """
        if response is None:
            self.hang()
        self._response = response
        self._unwind_until = time.monotonic() + self.unwind_limit()
        for call in list(self._running):
            self._stop_body(call)
        for branch in {*self._branches.values(), *self._ripe}:
            self._post(branch, Suspending)
        self._ripe.clear()
        self._decided.set()

    # ------------------------------------------------------------------ bodies

    def _run_body(self, branch: Branch, call: StepCall) -> None:
        """Run a body on the branch's own thread, and report it."""
        ticket: Ticket = call.token
        started_ns, begun = time.time_ns(), time.monotonic()
        stretch = Interruptible()
        with self.lock:
            if call in self._cutting or self.core.over:
                self._not_run(call)
                return
            branch.body = self._running[call] = stretch
        try:
            assert ticket.variables is not None  # noqa: S101 - set with every body
            with stretch:
                value = ticket.variables.run(self._call_body, call)
        except BodyCut:
            with self.lock:
                self.core.was_cut(call, time.monotonic())
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
            self.body_failed(call, error, started_ns, begun)
        else:
            self.body_returned(call, value, started_ns, begun)
        branch.body = None
        with self.lock:
            self._running.pop(call, None)
            self._cutting.discard(call)
            self._stuck.discard(call)
            self._pump()

    def _not_run(self, call: StepCall) -> None:
        """The call was cut before its body began. The lock is held."""
        self._running.pop(call, None)
        self._cutting.discard(call)
        self.core.was_cut(call, time.monotonic())
        self._pump()

    def _call_body(self, call: StepCall) -> Any:
        self.enter_body(call)
        self.observe(call, "start")
        ticket: Ticket = call.token
        assert ticket.body is not None  # noqa: S101 - only calls with a body are started
        if is_async(ticket.body):
            return self._await_body(call, ticket.body(*ticket.args, **ticket.kwargs))
        value = ticket.body(*ticket.args, **ticket.kwargs)
        if isinstance(value, Coroutine):
            return self._await_body(call, value)
        return value

    def _await_body(self, call: StepCall, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run an async body on the process's loop for them, and wait."""
        from onward.execution.side_loop import run_on_side_loop

        return run_on_side_loop(
            coroutine,
            stoppable=lambda stop: self._running.__setitem__(call, stop),
            stopped=lambda: call in self._cutting or self.core.over,
        )

    def _stop_body(self, call: StepCall) -> None:
        body = self._running.get(call)
        if isinstance(body, Interruptible):
            body.interrupt()
        elif body is not None:
            body()

    def _cut(self, call: StepCall) -> None:
        """Stop a body; if it does not end in time, it is stuck."""
        self._cutting.add(call)
        self._stop_body(call)
        timer = threading.Timer(self.cut_patience(), self._check_cut, (call,))
        timer.daemon = True
        timer.start()

    def _check_cut(self, call: StepCall) -> None:
        with self.lock:
            if call not in self._running or self.core.over:
                return
            self._stuck.add(call)
            self.core.stuck(call, time.monotonic())
        self.poke()
