"""One invocation driven by hand: what a test reports, and what it expects to be asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from onward.core.actions import Action, Cut, Deliver, ReadJournal, Respond, Send, Start
from onward.core.buffer import FlushPolicy
from onward.core.calls import Failure, StepCall
from onward.core.deadline import NO_DEADLINE, Deadline, Durations
from onward.core.ids import NO_TARGET, hash_step
from onward.core.invocation import Invocation
from onward.core.journal import Journal, Memo
from onward.core.ops import ORCHESTRATED, ErrorInfo, Opcode
from onward.core.response import Response
from onward.core.retry import Verdict
from onward.core.situation import Situation
from tests.support.allowed import why_not_answer

#: An invocation that may use ten seconds, and is killed one second later.
TEN_SECONDS = Deadline(0.0, 10.0, 11.0)

THREE = FlushPolicy(3)
PIPELINED = FlushPolicy(1, pipelined=True)


def memo(name: str, value: Any = "memoized", index: int = 0) -> Memo:
    """A result in the journal."""
    return Memo(hash_step(name, index), value, raw={"data": value})


def failed_memo(name: str) -> Memo:
    """A step that failed for good, in the journal."""
    return Memo(hash_step(name, 0), error=ErrorInfo("ValueError", f"{name} broke"))


def broke(name: str = "it", *, retriable: bool = True, retry_after: int | None = None) -> Failure:
    """A body's failure."""
    return Failure(ErrorInfo("ValueError", f"{name} broke"), retriable, retry_after)


class Driven:
    """An `Invocation`, and shorthands."""

    def __init__(
        self,
        journal: Iterable[Memo] = (),
        *,
        policy: FlushPolicy | None = FlushPolicy(),  # noqa: B008 - it is immutable
        target: str = "",
        deadline: Deadline = NO_DEADLINE,
        durations: Durations | None = None,
        **options: Any,
    ) -> None:
        self.situation = Situation(
            "request-1",
            Journal(journal),
            target=hash_step(target, 0) if target else NO_TARGET,
            policy=policy,
            deadline=deadline,
            **options,
        )
        self.core = Invocation(self.situation, durations)
        self.now = 0.0
        self.busy = False
        self.unconfirmable = False

    # What user code and bodies do

    def call(self, name: str, code: Opcode = Opcode.STEP_RUN, **options: Any) -> StepCall:
        """User code reaches a step."""
        call = StepCall(code, name, **options)
        self.core.called(call)
        return call

    def calls(self, *names: str) -> list[StepCall]:
        """Branches of user code reach these steps."""
        return [self.call(name, branch=name) for name in names]

    def sleep(self, name: str, seconds: float) -> StepCall:
        """User code reaches a sleep."""
        return self.call(name, Opcode.SLEEP, wakes_at=self.now + seconds)

    def settle(self, call: StepCall, value: Any = None, after: float = 0.0) -> bool:
        """The body of `call` returns, `after` seconds later."""
        self.now += after
        value = f"{call.user_id} done" if value is None else value
        return self.core.settled(call, json.dumps(value), value, 1, 2, self.now)

    def fail(self, call: StepCall, failure: Failure | None = None) -> bool:
        """The body of `call` raises."""
        return self.core.failed(call, failure or broke(call.user_id), self.now)

    def checkpointed(self, verdict: Verdict = Verdict.CONFIRMED, detail: str = "") -> None:
        """The checkpoint in flight ends."""
        self.unconfirmable |= verdict in {Verdict.UNCONFIRMED, Verdict.REFUSED}
        self.core.checkpointed(verdict, detail)

    # What is expected of the core

    def next(self) -> Action | None:
        """The next action."""
        return self.core.advance(self.now, lambda: self.busy)

    def rests(self) -> None:
        """Nothing is to be done now."""
        action = self.next()
        assert action is None, action
        assert self.core.next_wake() > self.now

    def starts(self, *calls: StepCall) -> None:
        """These bodies are started, and nothing else."""
        for call in calls:
            assert self.next() == Start(call)
        self.rests()

    def runs(self, *calls: StepCall) -> None:
        """These bodies are started, and nothing else is done until they have returned."""
        self.starts(*calls)
        for call in calls:
            assert self.settle(call)

    def delivers(self, call: StepCall, value: Any = None) -> Deliver:
        """The outcome of `call` is given to user code."""
        action = self.next()
        assert isinstance(action, Deliver), action
        assert action.call is call, action.call.user_id
        if value is not None:
            assert action.value == value
        return action

    def sends(self, *names: str) -> None:
        """A checkpoint with the results of these steps goes out."""
        action = self.next()
        assert isinstance(action, Send), action
        assert [op.user_id for op in action.ops] == list(names)
        assert {op.code for op in action.ops} == {Opcode.STEP_RUN}

    def reads(self, *memos: Memo, verdict: Verdict = Verdict.CONFIRMED) -> None:
        """The journal is asked for before a step is failed for good; now it has `memos`."""
        assert self.next() == ReadJournal()
        self.rests()
        known = verdict is Verdict.CONFIRMED
        self.core.journal_read(verdict, Journal(memos) if known else None)

    def confirms(self, *names: str) -> None:
        """A checkpoint with the results of these steps goes out, and is confirmed."""
        self.sends(*names)
        self.checkpointed()

    def cuts(self, *calls: StepCall) -> None:
        """These bodies are to be stopped."""
        action = self.next()
        assert action == Cut(tuple(calls)), action

    def answers(self, *expected: tuple[str, str] | str) -> Response:
        """It answers ops of these kinds about these steps, and then nothing is done any more."""
        action = self.next()
        assert isinstance(action, Respond), action
        response = action.response
        kinds = [
            (str(op.code), op.user_id) if op.code in {*_OF_STEPS} and op.user_id else str(op.code)
            for op in response.ops
        ]
        assert kinds == list(expected), response
        self._may_answer(response)
        return response

    def errs(self) -> Response:
        """It answers an error of the function."""
        action = self.next()
        assert isinstance(action, Respond), action
        assert action.response.error is not None, action
        self._may_answer(action.response)
        return action.response

    def _may_answer(self, response: Response) -> None:
        reason = why_not_answer(
            response,
            targeted=self.situation.targeted,
            classic=self.situation.policy is None,
            unconfirmable=self.unconfirmable,
        )
        assert reason is None, reason
        assert self.core.over
        assert self.next() is None
        assert self.core.next_wake() == float("inf")

    def notices(self) -> list[str]:
        """What the core has to say, once."""
        said, self.core.notices = self.core.notices, []
        return said


_OF_STEPS = {
    Opcode.STEP_RUN,
    Opcode.STEP_ERROR,
    Opcode.STEP_FAILED,
    Opcode.STEP_PLANNED,
    *ORCHESTRATED,
}

Ending = Callable[[Driven, StepCall], object]
