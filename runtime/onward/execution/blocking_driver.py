"""Drives a blocking function on the calling thread, and its branches on workers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

from onward.app import is_async
from onward.context import BlockingContext
from onward.core.actions import Cut, Deliver, Hang, Respond, Send, Start
from onward.core.calls import StepCall
from onward.core.response import Response
from onward.errors import StepUsageError
from onward.execution.session import UNWIND_LIMIT, Execution, Hung, Session
from onward.execution.steps import StepMaker, Ticket
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
        self._response: Response | None = None
        self._hangs = False
        self._unwinding = False
        self._running: dict[StepCall, Any] = {}
        self._cutting: set[StepCall] = set()

    def run(self) -> Response:
        """Drive the function to its response. Raises Hung."""
        prepare_main_thread()
        self._branches[threading.get_ident()] = self._main
        context = BlockingContext(
            self,
            StepMaker(self.execution.app),
            call=self.execution.call,
            deadline=self.execution.deadline,
        )
        self._awake = 1
        with self.lock:
            self.rearm()
        try:
            self._run_function(context)
            self._await_response()
        finally:
            self.close()
        if self._hangs or self._response is None:
            raise Hung
        return self._response

    def _run_function(self, context: BlockingContext) -> None:
        try:
            with self._main.code:
                value = copy_context().run(self.execution.function.handler, context)
        except (Suspending, BodyCut):
            pass
        except BaseException as error:  # noqa: BLE001 - whatever the function raises is its outcome
            if not self.core.over:
                self.function_raised(error)
        else:
            if not self.core.over:
                self.function_returned(value)
        with self.lock:
            self._awake -= 1
            self._pump()

    def _await_response(self) -> None:
        while True:
            with self.lock:
                if self._response is not None or self._hangs:
                    break
                self._main.waiting = True
            self._main.gate.acquire()
        until = time.monotonic() + self._unwind_limit()
        while self._running and time.monotonic() < until:
            time.sleep(0.001)
        if self._running:
            self._left_behind(len(self._running))

    def _unwind_limit(self) -> float:
        left = self.execution.deadline.kill_at - time.monotonic()
        return min(UNWIND_LIMIT, max(left, 0.1) / 2)

    def _left_behind(self, count: int) -> None:
        from onward.execution.abandoned import abandoned

        if not self.execution.abandons:
            self._hangs = True
            return
        abandoned.add(count)

    # ------------------------------------------------------------------ user code's side

    def step(self, call: StepCall) -> Any:
        """The outcome of `call`."""
        branch = self._branches.get(threading.get_ident())
        if branch is None:
            raise StepUsageError(
                f"The step {call.user_id!r} was called on a thread that Onward does not know. Call"
                " steps from the function itself, or from a branch of ctx.step.gather."
            )
        call.branch = branch
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

    def gather(self, branches: Sequence[Callable[[], Any]]) -> list[Any]:
        """Run `branches` to their ends, one thread each."""
        parent = self._branches.get(threading.get_ident())
        if parent is None:
            raise StepUsageError(
                "ctx.step.gather was called on a thread that Onward does not know. Call it from the"
                " function itself, or from a branch of another gather."
            )
        if not branches:
            return []
        gathering = Gathering(parent, len(branches))
        for number, code in enumerate(branches):
            branch = Branch()
            with self.lock:
                self._ripe.append(branch)
            workers.submit(partial(self._run_branch, gathering, branch, number, code))
        parent.code.masked = True
        with self.lock:
            self._awake -= 1
            self._pump()
        while gathering.left and not self.core.over:
            self._take(parent)
        self._wait_for_branches(gathering)
        parent.code.unmask()
        return gathering.joined()

    def _wait_for_branches(self, gathering: Gathering) -> None:
        """While suspending: branches may end, but one that cannot be stopped is left behind."""
        until = time.monotonic() + self._unwind_limit()
        while gathering.left and time.monotonic() < until:
            gathering.parent.gate.acquire(timeout=0.005)
        if gathering.left:
            self._left_behind(gathering.left)

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
            gathering.left -= 1
            self._awake -= 1
            if gathering.left == 0 and self.core.over:
                self._post(gathering.parent, Suspending)
            elif gathering.left == 0:
                self._ripe.append(gathering.parent)
            self._pump()

    # ------------------------------------------------------------------ advancing

    def poke(self) -> None:
        """Advance from any thread, if user code is idle; at the deadline, interrupt it."""
        with self.lock:
            self._pump()
            if self._awake and time.monotonic() >= self.execution.deadline.ends_at:
                self._interrupt_user_code()

    def _interrupt_user_code(self) -> None:
        if self.core.over or self._unwinding:
            return
        self._unwinding = True
        for branch in self._branches.values():
            if branch.code.running and branch.body is None and not branch.waiting:
                branch.code.interrupt()

    def _pump(self) -> None:
        """Do everything that can be done while user code is idle. The lock is held."""
        while self._awake == 0 and not self.core.over:
            if self._ripe:
                self._awake += 1
                self._post(self._ripe.popleft(), None)
                break
            action = self.core.advance(time.monotonic())
            if action is None:
                self.rearm()
                break
            self._perform(action)
        self.log_notices()

    def _perform(self, action: object) -> None:
        if isinstance(action, Start):
            self._running[action.call] = None
            self._post(action.call.token.waiter, action)
        elif isinstance(action, Deliver):
            self._awake += 1
            self._post(action.call.token.waiter, action)
        elif isinstance(action, Send):
            self.send(action)
        elif isinstance(action, Cut):
            for call in action.calls:
                self._cut(call)
        elif isinstance(action, Respond):
            self._response = action.response
            self._unwind()
        elif isinstance(action, Hang):
            self._hangs = True
            self._unwind()

    def _unwind(self) -> None:
        """End what still waits or runs: parked branches get `Suspending`, bodies are cut."""
        for call in list(self._running):
            self._stop_body(call)
        for branch in {*self._branches.values(), *self._ripe}:
            self._post(branch, Suspending)
        self._ripe.clear()
        self._wake(self._main)

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

        return run_on_side_loop(coroutine, lambda stop: self._running.__setitem__(call, stop))

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
            self.core.stuck(call, time.monotonic())
        self.poke()
