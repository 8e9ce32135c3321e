"""The middleware of one invocation: when its hooks are called, and that each is once."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context as Variables
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from onward.context import InboundEvent, TimeLeft
from onward.core.calls import Failure, StepCall
from onward.core.journal import Journal, Memo
from onward.core.ops import ErrorInfo, Op, Opcode
from onward.core.response import Response, function_error
from onward.core.retry import Verdict
from onward.core.values import Codec
from onward.errors import MiddlewareError
from onward.execution.failing import failure_of
from onward.execution.steps import outside_steps
from onward.execution.workers import each_on_workers, workers
from onward.middleware.base import Answer, Call, Input, Outcome, SentCheckpoint, Step

if TYPE_CHECKING:
    from onward.app import Function
    from onward.core.deadline import Deadline
    from onward.execution.engine import Platform
    from onward.execution.session import Execution
    from onward.middleware.chain import Chain
    from onward.protocol.call_request import CallRequest

#: As what event `ctx.step.invoke` reaches the function that it calls.
INVOKED = "inngest/function.invoked"

#: Events about a run, which hold the event that started it.
ABOUT_RUNS = frozenset(
    {"inngest/function.failed", "inngest/function.finished", "inngest/function.cancelled"}
)

#: How many recorded outcomes are transformed at a time where middleware waits.
AT_A_TIME = 16


class CallHooks:
    """The middleware of one invocation.

    Hooks around the whole of it are called in `variables`, in which the function then runs.
    """

    def __init__(
        self,
        chain: Chain,
        function: Function,
        call: CallRequest,
        deadline: Deadline,
        platform: Platform,
    ) -> None:
        self.chain = chain
        self.waits = chain.waits
        self.variables: Variables = outside_steps()
        self.extras: Mapping[str, Any] = {}
        self.replaying: Callable[[], bool] = lambda: True
        #: What it answers may be handed to its caller by the orchestrator: nothing may hide it.
        self._is_endpoint = not function.triggers
        self._single = function.checkpointing is None or call.targeted
        self._last = call.attempt + 1 >= call.max_attempts
        self._lock = threading.RLock()
        self._executing = False
        self._executed = False
        #: Calls whose body has returned, so that `after_step` was called.
        self._returned: set[StepCall] = set()
        shared = Call(
            app_id=function.app_id,
            function_id=function.composite_id,
            run_id=call.run_id,
            request_id=call.request_id,
            attempt=call.attempt,
            max_attempts=call.max_attempts,
            target=call.target,
            recorded=len(call.journal),
            is_async=function.is_async,
            checkpointing=function.checkpointing is not None,
            deadline=TimeLeft(deadline),
            headers=platform.headers,
            raw_request=platform.raw_request,
            middleware=chain.middleware,
            is_replaying=self._is_replaying,
        )
        self.calls = tuple(replace(shared, state={}) for _ in chain.middleware)

    def _is_replaying(self) -> bool:
        return self.replaying()

    # ------------------------------------------------------------------ the whole invocation

    def _each(self, hook: str, *args: Any, outward: bool = False) -> None:
        """Call `hook` of all middleware, in the invocation's context variables."""
        order = self.chain.outward if outward else self.chain.inward
        with self._lock:  # nobody may enter the variables twice
            for item, call in order(hook, self.calls):
                try:
                    self.variables.run(getattr(item, hook), call, *args)
                except Exception as error:  # noqa: BLE001 - whatever a hook raises is told in one way
                    self.chain.failed(item, hook, error)

    def around(self, execution: Execution, run: Callable[[Execution], Response]) -> Response:
        """The response of `run`, with everything that comes before and after it. It may block."""
        try:
            opened = replace(execution, call=self.open(execution.call))
        except MiddlewareError as error:
            return self._closed_early(error)
        try:
            response = run(opened)
        except BaseException:
            self.drop()
            raise
        return self.finish(response)

    async def around_async(
        self, execution: Execution, run: Callable[[Execution], Awaitable[Response]]
    ) -> Response:
        """The same on an event loop; what blocks is done on a thread."""
        from onward.execution.on_worker import on_worker

        try:
            if self._blocks:
                call = await on_worker(partial(self.open, execution.call))
            else:
                call = self.open(execution.call)
        except MiddlewareError as error:
            return self._closed_early(error)
        try:
            response = await run(replace(execution, call=call))
        except BaseException:
            workers.submit(self.drop)
            raise
        if self.waits:
            return await on_worker(partial(self.finish, response))
        return self.finish(response)

    def _closed_early(self, error: MiddlewareError) -> Response:
        """The response where nothing of the function could be run."""
        self._executing = self._executed = True
        return self.finish(self.refusal(error))

    @property
    def _blocks(self) -> bool:
        """Whether `open` is work for a thread, where there is an event loop."""
        return self.waits or bool(self.calls[0].recorded and self.chain.has("transform_recorded"))

    def open(self, call: CallRequest) -> CallRequest:
        """`call` as the function is given it. Raises MiddlewareError. It may block."""
        if self.chain.has("transform_event"):
            events = tuple(map(self._event, call.events))
            first = call.events and call.event == call.events[0]
            call = replace(
                call, events=events, event=events[0] if first else self._event(call.event)
            )
        memos = self._recorded(call.journal)
        if memos is not None:
            call = replace(call, journal=Journal(memos))
        if self.chain.has("transform_input"):
            call = self._input(call)
        if not call.journal:
            self.executing()
        return call

    def _input(self, call: CallRequest) -> CallRequest:
        events = tuple(map(InboundEvent.of, call.events))
        steps = {memo.id: _outcome(memo) for memo in call.journal}
        given = Input(InboundEvent.of(call.event), events, steps)
        for item, own in self.chain.inward("transform_input", self.calls):
            before = given
            try:
                given = self.variables.run(item.transform_input, own, before)
                if not isinstance(given, Input):
                    raise TypeError(f"it returned {type(given).__name__}, not an Input.")  # noqa: TRY301
            except Exception as error:  # noqa: BLE001 - see above
                self.chain.failed(item, "transform_input", error)
        self.extras = given.extras
        changed = given.events != events or given.event != InboundEvent.of(call.event)
        if not changed:
            return call
        return replace(call, event=_wire(given.event), events=tuple(map(_wire, given.events)))

    def executing(self) -> None:
        """New code is about to run. Raises MiddlewareError."""
        if self._executing:
            return
        with self._lock:
            if not self._executing:
                try:
                    self._each("after_memoization")
                    self._each("before_execution")
                finally:
                    self._executing = True

    def _no_more_runs(self) -> None:
        """No more of the function runs here."""
        with self._lock:
            self.executing()
            if not self._executed:
                self._executed = True
                self._each("after_execution", outward=True)

    def finish(self, response: Response) -> Response:
        """`response` as it is answered. It may block."""
        try:
            self._no_more_runs()
            if self.chain.has("before_send_events"):
                response = replace(response, ops=tuple(map(self._invoking, response.ops)))
            self._each("before_response", _answer(response))
        except MiddlewareError as error:
            return self.refusal(error)
        return response

    def refusal(self, error: MiddlewareError) -> Response:
        """The answer when a hook that is about the whole invocation failed."""
        return function_error(failure_of(error).error, retriable=not self._last)

    def drop(self) -> None:
        """Nothing will be answered: the caller has gone, or the platform ends the process."""
        try:
            self._no_more_runs()
            self._each("before_response", None)
        except MiddlewareError:
            from onward.logs import runtime

            runtime.warning("A hook failed in an invocation that nobody waits for", exc_info=True)

    # ------------------------------------------------------------------ events

    def _event(self, wire: Mapping[str, Any]) -> Mapping[str, Any]:
        """An event on its way in; what it holds of another run's event passes as well."""
        event = InboundEvent.of(wire)
        if event.name in ABOUT_RUNS and isinstance(event.data, dict):
            event = replace(event, data=self._about_a_run(event.data))
        for item, call in self.chain.inward("transform_event", self.calls):
            before = event
            try:
                event = item.transform_event(call, before)
                if not isinstance(event, InboundEvent):
                    raise TypeError(f"it returned {type(event).__name__}, not an InboundEvent.")  # noqa: TRY301
            except Exception as error:  # noqa: BLE001 - see above
                self.chain.failed(item, "transform_event", error, f"the event {before.name!r}")
        return wire if event == InboundEvent.of(wire) else {**wire, **_wire(event)}

    def _about_a_run(self, data: dict[str, Any]) -> dict[str, Any]:
        opened = dict(data)
        if isinstance(data.get("event"), dict):
            opened["event"] = self._event(data["event"])
        if isinstance(data.get("events"), list):
            opened["events"] = [
                self._event(inner) if isinstance(inner, dict) else inner for inner in data["events"]
            ]
        if data.get("result") is not None:
            opened["result"] = self.chain.recorded(
                self.calls, Outcome(None, data=data["result"])
            ).data
        if isinstance(data.get("error"), dict):
            told = self.chain.recorded(self.calls, Outcome(None, error=_info(data["error"]))).error
            assert told is not None  # noqa: S101 - the chain has checked it
            changed = {"name": told.name, "message": told.message, "stack": told.stack}
            opened["error"] = {**data["error"], **changed}
        return opened

    def _invoking(self, op: Op) -> Op:
        """What calls another function carries data, which reaches that as an event."""
        payload = op.opts.get("payload")
        if op.code is not Opcode.INVOKE_FUNCTION or not isinstance(payload, dict):
            return op
        event = {"name": INVOKED, "data": payload.get("data")}
        going = self.chain.outgoing(self.calls, [event])
        data = going[0].get("data") if going else payload.get("data")
        return replace(op, opts={**op.opts, "payload": {**payload, "data": data}})

    def send(
        self,
        events: list[dict[str, Any]],
        post: Callable[[tuple[dict[str, Any], ...]], list[str]],
    ) -> list[str]:
        """Send events by `post`, which returns their ids. Raises MiddlewareError."""
        return self.chain.send(self.calls, events, post)

    # ------------------------------------------------------------------ outcomes

    def _recorded(self, journal: Journal) -> list[Memo] | None:
        """The journal's outcomes on their way in; None where nothing would change them."""
        events, outcomes = self.chain.has("transform_event"), self.chain.has("transform_recorded")
        if not journal or not (events or outcomes):
            return None

        def one(memo: Memo) -> Memo:
            if memo.raw is None and memo.error is None:
                return memo  # a sleep, or a wait that ended without an event
            if _is_event(memo):
                raw = self._event(memo.raw)
                return replace(memo, raw=raw, value=raw.get("data"))
            if memo.error is None and "data" not in memo.raw:
                return memo  # of no shape that is known here: refused when its step is called
            after = self.chain.recorded(self.calls, _outcome(memo))
            if after.error is not None:
                return replace(memo, error=after.error)
            return replace(memo, value=after.data, raw={**memo.raw, "data": after.data})

        memos = list(journal)
        if not self.waits or len(memos) == 1:
            return list(map(one, memos))
        return each_on_workers(one, memos, AT_A_TIME)

    def before_step(self, call: StepCall) -> None:
        """A body is about to run, here."""
        self.executing()
        step = _step(call)
        for item, own in self.chain.inward("before_step", self.calls):
            try:
                item.before_step(own, step)
            except Exception as error:  # noqa: BLE001 - see above
                self.chain.failed(item, "before_step", error, step)

    def _after_step(self, step: Step, error: BaseException | None) -> None:
        for item, own in self.chain.outward("after_step", self.calls):
            try:
                item.after_step(own, step, error)
            except Exception as raised:  # noqa: BLE001 - see above
                self.chain.failed(item, "after_step", raised, step)

    def step_returned(
        self, call: StepCall, data: str, value: Any, codec: Codec, where: str
    ) -> tuple[str, Any]:
        """A step's result as it is reported, and as user code gets it. Raises MiddlewareError."""
        step = _step(call)
        self._returned.add(call)
        self._after_step(step, None)
        if self._single:
            self._no_more_runs()
        if not self.chain.has("transform_output"):
            reported = Outcome(step, text=data)
        else:
            reported = self.chain.output(self.calls, Outcome(step, text=data))
        if self.chain.reversible:
            return reported.text, value
        again = self.chain.recorded(self.calls, Outcome(step, text=reported.text))
        return reported.text, codec.load(again.data, where)

    def step_failed(
        self, call: StepCall, failure: Failure, error: BaseException, *, retries_here: bool
    ) -> Failure:
        """A step's failure as it is reported. `retries_here`: it is not, but tried again."""
        step = _step(call)
        try:
            if call in self._returned:  # it is a hook after the body that failed
                self._returned.discard(call)
            else:
                self._after_step(step, error)
            if retries_here or isinstance(error, MiddlewareError):
                return failure
            if self._single:
                self._no_more_runs()
            return self._failure(failure, step)
        except MiddlewareError as raised:
            return failure_of(raised)

    def _failure(self, failure: Failure, step: Step | None) -> Failure:
        told = self.chain.output(self.calls, Outcome(step, error=failure.error)).error
        assert told is not None  # noqa: S101 - the chain has checked it
        return replace(failure, error=told)

    def function_returned(self, data: str) -> str:
        """The function's result as it is reported. Raises MiddlewareError."""
        self._no_more_runs()
        if self._is_endpoint:
            return data
        return self.chain.output(self.calls, Outcome(None, text=data)).text

    def function_failed(self, failure: Failure, error: BaseException) -> Failure:
        """The function's failure as it is reported."""
        try:
            self._no_more_runs()
            if self._is_endpoint or isinstance(error, MiddlewareError):
                return failure
            return self._failure(failure, None)
        except MiddlewareError as raised:
            return failure_of(raised)

    def watching(
        self,
        ops: tuple[Op, ...],
        size: int,
        report: Callable[[Verdict, str], None],
        spoil: Callable[[MiddlewareError], None],
    ) -> Callable[[Verdict, str], None]:
        """`report`, the receiver of a checkpoint's verdict, with the hooks before it."""
        if not self.chain.has("after_checkpoint"):
            return report
        steps, started_ns = tuple(map(_step_of, ops)), time.time_ns()

        def told(verdict: Verdict, detail: str) -> None:
            took = time.time_ns() - started_ns
            sent = SentCheckpoint(steps, size, started_ns, took, verdict.name, detail)
            try:
                for item, own in self.chain.inward("after_checkpoint", self.calls):
                    try:
                        item.after_checkpoint(own, sent)
                    except Exception as error:  # noqa: BLE001 - see above
                        self.chain.failed(item, "after_checkpoint", error)
            except MiddlewareError as error:
                spoil(error)
            report(verdict, detail)

        return told


def _step(call: StepCall) -> Step:
    return Step(call.user_id, call.id, call.index, str(call.code))


def _step_of(op: Op) -> Step:
    return Step(op.user_id, op.id, op.index, str(op.code))


def _info(error: Mapping[str, Any]) -> ErrorInfo:
    texts = (str(error.get(key) or "") for key in ("name", "message", "stack"))
    return ErrorInfo(*texts)


def _outcome(memo: Memo) -> Outcome:
    step = Step("", memo.id)
    if memo.error is not None:
        return Outcome(step, error=memo.error)
    return Outcome(step, data=memo.value)


def _is_event(memo: Memo) -> bool:
    """Whether a recorded outcome is the event that ended a wait (as recorded)."""
    return isinstance(memo.raw, dict) and isinstance(memo.raw.get("name"), str)


def _wire(event: InboundEvent) -> dict[str, Any]:
    wire = {"name": event.name, "data": event.data, "id": event.id, "ts": event.ts}
    if event.user:
        wire["user"] = event.user
    if event.v is not None:
        wire["v"] = event.v
    return wire


def _answer(response: Response) -> Answer:
    """What a response says, for hooks."""
    ops = response.ops
    codes = {op.code for op in ops}
    kind = "plan"
    if response.error is not None:
        kind = "error"
    elif not ops or Opcode.RUN_COMPLETE in codes:
        kind = "result"
    elif codes & {Opcode.STEP_ERROR, Opcode.STEP_FAILED}:
        kind = "step_error"
    elif codes == {Opcode.DISCOVERY_REQUEST}:
        kind = "continuation"
    elif codes == {Opcode.NONE}:
        kind = "over"
    elif codes == {Opcode.STEP_RUN}:
        kind = "steps"
    steps = tuple(_step_of(op) for op in ops if op.user_id)
    error = response.error or next((op.error for op in ops if op.error is not None), None)
    return Answer(kind, response.status, steps, error)
