"""A simulated orchestrator for one run: memos in order, attempts, race mode, one winner a step.

It follows what was recorded of a real server, and objects where that server would hang.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from onward.core.ids import NO_TARGET
from onward.core.journal import Memo
from onward.core.ops import ErrorInfo, Op, Opcode
from onward.core.response import Response
from onward.core.retry import Verdict
from tests.core.model import Ledger, Violation
from tests.support.allowed import why_not_answer

#: Seconds before a retry.
RETRY_DELAY = 5.0


@dataclass(slots=True, eq=False)
class Job:
    """Something to call the function for, until it is answered. `planned`: run nothing eagerly."""

    target: str = NO_TARGET
    attempt: int = 0
    planned: bool = False
    request_id: str = ""


@dataclass(slots=True)
class Orchestrator:
    """`dispatch` makes a call, `later` does something after some seconds.

    `parse` reads a result as the run's user would; `naps` tells how long what only an orchestrator
    can resolve takes, by its id, and what it resolves to. `races`: as a real server does, every
    result that comes in race mode makes a call of its own, whatever runs already, and no call says
    that others may be under way.
    """

    ledger: Ledger
    dispatch: Callable[[Job], None]
    later: Callable[[float, Callable[[], None]], None]
    parse: Callable[[str | None], Any]
    naps: Callable[[str], tuple[float, Memo]]
    max_attempts: int = 4
    classic: bool = False
    max_result: int = 1_000_000_000
    races: bool = False
    memos: list[Memo] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    pending: set[str] = field(default_factory=set)
    planned: set[str] = field(default_factory=set)
    continuations: set[str] = field(default_factory=set)
    calls: int = 0
    redo: bool = False
    over: bool = False
    result: Any = None
    error: ErrorInfo | None = None

    def __contains__(self, id_: str) -> bool:
        return any(memo.id == id_ for memo in self.memos)

    def begin(self) -> None:
        """The run's first call."""
        self._call(Job())

    def cancel(self) -> None:
        """The run is over from now on."""
        self._end(None, ErrorInfo("RunCancelledError", ""))

    def checkpoint(self, job: Job, ops: tuple[Op, ...]) -> Verdict:
        """Memoize finished steps while the function goes on."""
        if self.over or job not in self.jobs:
            return Verdict.GONE
        if any(op.size > self.max_result for op in ops):
            return Verdict.TOO_LARGE
        for op in ops:
            if op.code is not Opcode.STEP_RUN:
                raise Violation(f"a checkpoint holds {op.code}")
            self._save(op)
        return Verdict.CONFIRMED

    def crashed(self, job: Job) -> None:
        """The invocation ended without an answer."""
        if job in self.jobs and not self.over:
            self._retry(job, ErrorInfo("FunctionCrashedError", "no answer"), None)

    def answered(self, job: Job, response: Response, *, unconfirmable: bool) -> None:
        """An invocation answered."""
        targeted = job.target != NO_TARGET
        reason = why_not_answer(
            response, targeted=targeted, classic=self.classic, unconfirmable=unconfirmable
        )
        if reason is not None:
            raise Violation(f"{reason}: {response}")
        if self.over or job not in self.jobs:
            return
        if response.error is not None:
            final = response.status == 400 or job.attempt + 1 >= self.max_attempts
            if final:
                self._end(None, response.error)
            else:
                self._retry(job, response.error, response.retry_after)
            return
        if response.status == 200:
            self._end(self.parse(response.result), None)
            return
        self._reported(job, response)

    def _reported(self, job: Job, response: Response) -> None:
        last = response.ops[-1]
        if last.code is Opcode.STEP_ERROR and last.error is not None:
            if job.attempt + 1 >= self.max_attempts:
                raise Violation("StepError was answered where no attempt is left")
            self._retry(job, last.error, response.retry_after)
            return
        self.jobs.remove(job)
        self.pending.discard(job.target)
        finished = [op for op in response.ops if op.code in {Opcode.STEP_RUN, Opcode.STEP_FAILED}]
        for op in finished:
            self._save(op)
        if last.code is Opcode.RUN_COMPLETE:
            self._end(self.parse(last.data), None)
            return
        self._call_next(response.ops, finished)
        if self.redo and not self.over:
            self._discover()
        if not self.jobs and not self.pending and not self.over:
            raise Violation(f"nothing is left to call the function for, after {response.ops}")

    def _call_next(self, ops: Sequence[Op], finished: Sequence[Op]) -> None:
        last = ops[-1]
        if last.code is Opcode.DISCOVERY_REQUEST:
            if last.id in self.continuations:
                raise Violation("a continuation's id was repeated: the run hangs")
            self.continuations.add(last.id)
            self._discover()
        elif len(finished) > 1 and len(finished) == len(ops):
            for _ in finished:
                self._call(Job(planned=True))
        else:
            for op in ops:
                self._open(op)
            if finished and len(finished) == len(ops):
                self._discover()

    def _open(self, op: Op) -> None:
        if op.code in {Opcode.STEP_RUN, Opcode.STEP_FAILED, Opcode.NONE}:
            return
        if op.id in self.pending or op.id in self:
            return
        self.pending.add(op.id)
        if op.code is Opcode.STEP_PLANNED:
            if not (self.races and op.id in self.planned):
                self.planned.add(op.id)
                self._call(Job(op.id))
            return
        seconds, memo = self.naps(op.id)
        self.later(seconds, lambda: self._resolve(memo, op.code))

    def _resolve(self, memo: Memo, code: Opcode) -> None:
        if self.over or memo.id not in self.pending:
            return
        self.pending.discard(memo.id)
        if memo.error is None:
            self.ledger.confirm(memo.id, memo.value_for(code))
        else:
            self.ledger.confirm(memo.id, error=memo.error.message)
        self.memos.append(memo)
        self._discover()

    def _save(self, op: Op) -> None:
        error = str(op.user_id) if op.error is not None else None
        self.ledger.confirm(op.id, None if error else self.parse(op.data), error)
        if op.id not in self:
            value = self.parse(op.data)
            self.memos.append(Memo(op.id, value, op.error, raw={"data": value}))

    def _discover(self) -> None:
        if not self.races and any(job.target == NO_TARGET for job in self.jobs):
            self.redo = True
        else:
            self._call(Job())

    def _retry(self, job: Job, error: ErrorInfo, after: float | None) -> None:
        if job.attempt + 1 >= self.max_attempts:
            self._end(None, error)
            return
        self.jobs.remove(job)
        again = Job(job.target, job.attempt + 1, job.planned)
        self.jobs.append(again)
        self.later(after or RETRY_DELAY, lambda: self._call(again))

    def _call(self, job: Job) -> None:
        if self.over:
            return
        if job not in self.jobs:
            self.jobs.append(job)
        if job.target == NO_TARGET:
            self.redo = False
        self.calls += 1
        job.request_id = f"request-{self.calls}"
        if job.target == NO_TARGET and self.pending and not self.races:
            job.planned = True
        self.dispatch(job)

    def _end(self, result: Any, error: ErrorInfo | None) -> None:
        self.over, self.result, self.error = True, result, error
        self.jobs.clear()
        self.pending.clear()
