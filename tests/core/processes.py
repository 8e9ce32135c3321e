"""Simulated invocations: a driver as plain as it can be, which checks every action of the core."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from onward.core.actions import Action, Cut, Deliver, Hang, ReadJournal, Respond, Send, Start
from onward.core.buffer import PIPELINE_STEPS
from onward.core.calls import Failure, StepCall
from onward.core.deadline import NO_DEADLINE, Deadline, Durations
from onward.core.invocation import Invocation
from onward.core.journal import Journal
from onward.core.ops import ORCHESTRATED, ErrorInfo, Op, Opcode
from onward.core.response import Response
from onward.core.retry import Verdict
from onward.core.situation import Situation
from onward.errors import StepUsageError
from tests.core.bodies import Body
from tests.core.model import Violation
from tests.core.orchestration import Job
from tests.core.programs import Fiber, Fibers, Leaf, ProgramError, Sleep, Step

if TYPE_CHECKING:
    from tests.core.simulation import Happening, World

#: Kinds of responses before which everything in the buffer must be confirmed.
_CONFIRMED_BEFORE = {
    Opcode.STEP_ERROR,
    Opcode.STEP_FAILED,
    Opcode.DISCOVERY_REQUEST,
    Opcode.STEP_PLANNED,
    *ORCHESTRATED,
}

_PLANS = {Opcode.STEP_PLANNED, *ORCHESTRATED}


class Process:
    """One invocation: a driver, as plain as it can be."""

    def __init__(self, world: World, job: Job) -> None:
        setting = world.setting
        deadline = NO_DEADLINE
        if setting.window is not None:
            ends_at = world.now + setting.window
            deadline = Deadline(world.now, ends_at, ends_at + setting.margin, setting.round_trip)
        self.world, self.job = world, job
        self.situation = Situation(
            request_id=job.request_id,
            journal=Journal(world.orchestrator.memos),
            target=job.target,
            attempt=job.attempt,
            max_attempts=setting.max_attempts,
            policy=setting.policy,
            deadline=deadline,
            plan_always=job.planned,
            plan_parallel=setting.plan_parallel,
            abandons=setting.abandons,
        )
        self.core = Invocation(self.situation, Durations())
        self.fibers = Fibers(
            world.program, call=self._call, close=self._close, wait=self._wait, ended=self._ended
        )
        self.bodies: dict[StepCall, Happening] = {}
        self.fiber_of: dict[StepCall, Fiber] = {}
        self.step_of: dict[StepCall, Leaf] = {}
        self.settled: list[StepCall] = []
        self.failed: list[StepCall] = []
        self.begun: set[str] = set()
        self.memos_seen: list[str] = []
        self.seen: list[str] = []
        self.in_flight: tuple[Op, ...] = ()
        self.reading = False
        self.journal_now = Journal()
        self.confirmed = 0
        self.unconfirmable = False
        self.refused = False
        self.gone = False
        self.ended = False
        self.dead = False
        self.warned = False
        self.hung = False
        self.response: Response | None = None
        self._wake_at = inf

    def begin(self) -> None:
        """The call request is here."""
        if self.situation.deadline.kill_at < inf:
            self.world.at(self.situation.deadline.kill_at, "kill", self._overdue, self)
        self.turn()

    # What user code does

    def _call(self, fiber: Fiber, leaf: Leaf) -> StepCall:
        call = StepCall(Opcode.STEP_RUN, leaf.name, branch=id(fiber))
        if isinstance(leaf, Step):
            call.callable_key = leaf.name
            call.barrier, call.timeout = leaf.barrier, leaf.timeout
            call.in_place_left = leaf.in_place
        elif isinstance(leaf, Sleep):
            call.code, call.wakes_at = Opcode.SLEEP, self.world.now + leaf.seconds
        else:
            call.code = leaf.kind
        self.core.called(call)
        self.fiber_of[call], self.step_of[call] = fiber, leaf
        return call

    def _close(self, call: StepCall) -> None:
        stop = self.core.closed(call)
        if stop and call not in self.bodies and self.situation.abandons:
            raise Violation(f"{call.user_id} is to be stopped, but it does not run")
        if call in self.bodies:
            if not stop:
                raise Violation(f"{call.user_id} is not to be stopped, but it runs")
            self._drop(call)
        if call in self.failed:
            self.failed.remove(call)

    def _drop(self, call: StepCall) -> None:
        self.world.happenings.remove(self.bodies.pop(call))
        self.world.ledger.ends(call.id)

    def _wait(self, seconds: float, wake: Callable[[], None]) -> None:
        def awake() -> None:
            wake()
            self.turn()

        self.world.after(seconds, "outside", awake, self)

    def _ended(self, value: Any, error: Exception | None) -> None:
        self.ended = True
        if error is None:
            self.core.returned(json.dumps(value))
        elif isinstance(error, (ProgramError, StepUsageError)):
            info = ErrorInfo(type(error).__name__, str(error))
            self.core.raised(Failure(info, retriable=False))
        else:
            raise error

    # What the core wants

    def turn(self) -> None:
        """Let user code run until it is idle, then do what the core says, and again."""
        if self.dead or self.hung:
            return
        self.fibers.run()
        while not self.dead:
            action = self.core.advance(self.world.now, lambda: self.fibers.busy)
            self._note()
            killed = self.world.fate.killed(action)
            if killed == "before" and not isinstance(action, Send):
                self.kill()
                return
            self.world.count()
            if action is None:
                self._rest()
            else:
                self._perform(action)
                self.fibers.run()
            if killed != "no":
                self.kill(lost=killed == "before")
            if action is None:
                return

    def _note(self) -> None:
        self.warned = self.warned or any("another order" in text for text in self.core.notices)
        self.world.notices.extend(self.core.notices)
        self.core.notices.clear()

    def _rest(self) -> None:
        wake = self.core.next_wake()
        if wake <= self.world.now:
            raise Violation(f"at {self.world.now} nothing is to be done, but it wakes at {wake}")
        comes = self.bodies or self.in_flight or self.reading or self.fibers.busy
        if wake == inf and not comes and not self.core.over:
            raise Violation("the invocation waits for something that never comes")
        if wake < self._wake_at or self._wake_at <= self.world.now:
            self._wake_at = wake
            if wake < inf:
                self.world.at(wake, "wake", self.watch, self)

    def watch(self) -> None:
        """The watchdog comes."""
        if self.dead or self.hung:
            return
        self._wake_at = inf
        due = self.core.flush_due(self.world.now)
        if due is not None:
            self._perform(due)
        self.turn()

    def _perform(self, action: Action) -> None:
        if isinstance(action, Deliver):
            self._deliver(action)
        elif isinstance(action, Start):
            self._start(action.call)
        elif isinstance(action, Send):
            self.send(action)
        elif isinstance(action, Cut):
            for call in action.calls:
                self._cut(call)
        elif isinstance(action, ReadJournal):
            self._read_journal()
        elif isinstance(action, Hang):
            self._hang()
        elif isinstance(action, Respond):
            self._respond(action.response)

    def _deliver(self, action: Deliver) -> None:
        call, live = action.call, not action.memoized
        if live:
            self._check_live_delivery(call)
        else:
            self.memos_seen.append(call.id)
            self._check_replay(call)
        self.seen.append(call.id)
        error = None if action.failure is None else ProgramError(call.user_id)
        self.fibers.resume(self.fiber_of[call], action.value, error)

    def _check_live_delivery(self, call: StepCall) -> None:
        policy = self.situation.policy
        frontier_only = self.situation.attempt > 0 and not self.unconfirmable
        if policy is None or self.situation.targeted or frontier_only:
            raise Violation("a result was delivered where only the first steps may run")
        if call in self.failed or call.id in self.world.refused:
            raise Violation("a failed step's result was delivered")
        if self.unconfirmable:
            return
        done = [*self.seen, call.id]
        open_ = sum(id_ not in self.world.ledger.results for id_ in done)
        most = policy.buffered_steps - 1
        if policy.pipelined:
            most = 2 * max(policy.buffered_steps, PIPELINE_STEPS)
        if open_ > most:
            raise Violation(f"{open_} unconfirmed results were delivered; at most {most} may be")

    def _check_replay(self, call: StepCall) -> None:
        position = self.situation.journal.position
        late = any(position(id_) > position(call.id) for id_ in self.memos_seen)
        if late and not self.warned:
            raise Violation("memoized results were delivered out of order, and nothing was said")

    def _start(self, call: StepCall) -> None:
        step = self.step_of[call]
        if not isinstance(step, Step):
            raise Violation(f"{call.user_id} has no body")
        world, situation = self.world, self.situation
        if situation.targeted and call.id != situation.target:
            raise Violation("a targeted call ran another step")
        if situation.plan_always and not situation.targeted:
            raise Violation("a body was started where everything has to be planned")
        if not situation.targeted and self._waits_for_orchestrator():
            raise Violation("a body was started beside an orchestrated op")
        if self.failed:
            raise Violation("a body was started although a step has failed")
        if self.gone or self.unconfirmable:
            raise Violation("a body was started after a checkpoint that was not confirmed")
        if step.barrier and not self._all_confirmed():
            raise Violation("a barrier step was started beside unconfirmed results")
        if world.now >= situation.deadline.ends_at:
            raise Violation("a body was started after the deadline")
        if not (situation.single and call.id in self.begun):
            self._check_replayed()
        self.begun.add(call.id)
        world.started.append((world.now, call.user_id))
        body = Body(self, call, step, world.ledger.begins(call.id))
        self.bodies[call] = world.after(step.seconds, "body", lambda: body.end(world.now), self)

    def _waits_for_orchestrator(self) -> bool:
        journal = self.situation.journal
        return any(c.orchestrated and c.id not in journal for c in self.fibers.waiting())

    def _check_replayed(self) -> None:
        waiting = [call for call in self.fibers.waiting() if call.id in self.situation.journal]
        if waiting:
            raise Violation("a body was started before every memoized result was delivered")

    def _all_confirmed(self) -> bool:
        return all(call.id in self.world.ledger.results for call in self.settled)

    def send(self, action: Send) -> None:
        """A checkpoint goes out."""
        if self.in_flight:
            raise Violation("two batches are in flight")
        if self.situation.policy is None or self.situation.targeted:
            raise Violation("a checkpoint was sent where the response tells everything")
        if not action.ops:
            raise Violation("an empty batch was sent")
        for op in action.ops:
            if op.id in self.situation.journal or op.id in self.world.sent_for_good(self):
                raise Violation(f"{op.user_id} is confirmed twice")
        self.in_flight = action.ops
        self.world.after(self.world.setting.round_trip, "checkpoint", self._arrives, self)

    def _arrives(self) -> None:
        ops = self.in_flight
        told, stored = self.world.fate.verdict(ops)
        truth = self.world.orchestrator.checkpoint(self.job, ops) if stored else Verdict.UNCONFIRMED
        verdict = truth if told is None or truth is Verdict.GONE else told
        self.in_flight = ()
        if verdict is Verdict.CONFIRMED:
            self.confirmed += len(ops)
            self.world.confirmed_by.setdefault(self, set()).update(op.id for op in ops)
        elif verdict is Verdict.GONE:
            self.gone = True
        elif verdict is Verdict.TOO_LARGE:
            self._too_large(ops)
        else:
            self.unconfirmable = True
        self.core.checkpointed(verdict, "told so")
        self.world.seen(self)
        self.turn()

    def _too_large(self, ops: tuple[Op, ...]) -> None:
        if len(ops) == 1:
            self.world.refused.add(ops[0].id)
            self.settled = [call for call in self.settled if call.id != ops[0].id]

    def _read_journal(self) -> None:
        if self.reading or self.in_flight:
            raise Violation("the journal is read beside something else")
        self.reading = True
        self.world.after(self.world.setting.round_trip, "journal", self._journal_comes, self)

    def _journal_comes(self) -> None:
        self.reading = False
        orchestrator = self.world.orchestrator
        self.world.fate.meanwhile(self.world)
        if orchestrator.over:
            self.gone = True
            self.core.journal_read(Verdict.GONE)
        elif self.world.fate.readable():
            self.journal_now = Journal(orchestrator.memos)
            self.core.journal_read(Verdict.CONFIRMED, self.journal_now)
        else:
            self.core.journal_read(Verdict.UNCONFIRMED)
        self.turn()

    def _cut(self, call: StepCall) -> None:
        if call not in self.bodies:
            raise Violation(f"{call.user_id} is cut, but it does not run")
        self._drop(call)
        ending = self.world.fate.cut(call)
        step = self.step_of[call]
        assert isinstance(step, Step)
        if ending == "ends by itself":
            body = Body(self, call, step, step.fails)
            self.bodies[call] = self.world.after(0, "body", lambda: body.end(self.world.now), self)
            self.world.ledger.running.add(call.id)
            return
        if ending == "is stuck":
            self.bodies[call] = self.world.after(0.02, "cut", lambda: self._is_stuck(call), self)
        else:
            self.bodies[call] = self.world.after(0.02, "cut", lambda: self._was_cut(call), self)

    def _was_cut(self, call: StepCall) -> None:
        del self.bodies[call]
        self.core.was_cut(call, self.world.now)
        if call.failure is not None:
            self.failed.append(call)
        self.turn()

    def _is_stuck(self, call: StepCall) -> None:
        del self.bodies[call]
        self.core.stuck(call, self.world.now)
        step = self.step_of[call]
        assert isinstance(step, Step)
        if call.failure is not None:
            self.failed.append(call)
        if self.situation.abandons:
            self._returns_late(call)
        elif self.world.now < self.situation.deadline.ends_at:  # it goes on, and is waited for
            body = Body(self, call, step, step.fails)
            self.bodies[call] = self.world.after(
                0.1, "body", lambda: body.end(self.world.now), self
            )
            self.world.ledger.running.add(call.id)
        self.turn()

    def _hang(self) -> None:
        """It does not answer; the platform ends it."""
        if self.situation.abandons:
            raise Violation("it hangs where a body may be left behind")
        lost = [c for c in self.settled if c.id not in self.world.ledger.results]
        if lost and not (self.situation.single or self.unconfirmable):
            raise Violation("it hangs with unconfirmed results")
        self.hung = True

    def _returns_late(self, call: StepCall) -> None:
        def late() -> None:
            before = (call.state, call.op, call.value)
            if self.core.settled(call, '"late"', "late", 0, 0, self.world.now):
                raise Violation("the outcome of an abandoned body was taken")
            if before != (call.state, call.op, call.value):
                raise Violation("the outcome of an abandoned body changed something")

        self.world.after(0.05, "late return", late, self)

    # The end

    def _respond(self, response: Response) -> None:
        self.response = response
        self._check_response(response)
        self._stop()
        self.world.answered(self, response)

    def _check_response(self, response: Response) -> None:
        codes = {op.code for op in response.ops}
        if self.gone:
            if codes != {Opcode.NONE}:
                raise Violation(f"the run is over, and the answer is {response}")
            return
        if Opcode.NONE in codes and not self.situation.targeted:
            raise Violation("it goes quietly although the run goes on")
        if self.in_flight:
            raise Violation("it answers while a checkpoint is in flight")
        told = {op.id for op in response.ops if op.code is Opcode.STEP_RUN}
        must = bool(codes & _CONFIRMED_BEFORE) or (response.error and not self.situation.single)
        lost = [
            call.user_id
            for call in self.settled
            if call.id not in self.world.ledger.results and call.id not in told
        ]
        if lost and (must or not self.ended):
            raise Violation(f"results are lost: {lost}, in {response}")
        overruled = any(call.id in self.journal_now for call in self.failed)
        if Opcode.DISCOVERY_REQUEST in codes and not self.confirmed and not overruled:
            raise Violation("it continues without progress")
        if Opcode.STEP_FAILED in codes and response.ops[0].id in self.journal_now:
            raise Violation("a step is failed that has a result, as the journal says")
        if codes & {Opcode.STEP_ERROR, Opcode.STEP_FAILED}:
            self._check_failure(response.ops[0])
        if codes and codes <= _PLANS and not told:
            self._check_plan(response)

    def _check_failure(self, op: Op) -> None:
        if op.id in self.situation.journal or op.id in self.world.refused:
            return
        failed = sorted(self.failed, key=lambda call: call.sequence)
        beside = self._waits_for_orchestrator() and not self.situation.targeted
        if beside and op.code is Opcode.STEP_ERROR:
            raise Violation("a failed step is reported beside orchestrated ops, not planned")
        if failed and not beside and failed[0].id != op.id:
            raise Violation(f"{op.user_id} is reported, but {failed[0].user_id} failed before it")

    def _check_plan(self, response: Response) -> None:
        journal = self.situation.journal
        is_open = {call.id for call in self.fibers.waiting() if call.id not in journal}
        planned = {op.id for op in response.ops}
        one = len(planned) == 1 and planned <= is_open
        if one and not self._waits_for_orchestrator():
            return  # one for all: other calls may see the same journal
        if planned != is_open:
            raise Violation(f"{planned} are planned, but {is_open} are open")

    def kill(self, *, lost: bool = False) -> None:
        """The process dies. What it had sent may have arrived, or is `lost`."""
        if self.dead:
            return
        answered = self.response is not None
        if self.in_flight and not lost:
            self.world.orchestrator.checkpoint(self.job, self.in_flight)
        self.in_flight = ()
        self._stop()
        self.world.kills += not answered
        if not answered:
            self.world.orchestrator.crashed(self.job)

    def drain(self) -> None:
        """The process is told that it will go away."""
        self.core.drain()
        self.watch()

    def hang_up(self) -> None:
        """Whoever called does not wait for the answer any more."""
        flush = self.core.abandon()
        if flush is not None:
            self.send(flush)
        self.kill()

    def _overdue(self) -> None:
        if self.dead:
            return
        if self.world.fate.punctual and not self.hung:
            raise Violation("it was killed at its limit, although all was done in time")
        self.kill()

    def _stop(self) -> None:
        self.dead = True
        for call in list(self.bodies):
            self._drop(call)
        self.world.happenings = [h for h in self.world.happenings if h.owner is not self]
        self.fibers.stop()
        if self in self.world.processes:
            self.world.processes.remove(self)
        self.world.left(self)
