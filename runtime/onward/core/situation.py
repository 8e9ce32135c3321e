"""What an invocation is given, and does not change while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from onward.core.buffer import FlushPolicy
from onward.core.deadline import NO_DEADLINE, Deadline
from onward.core.ids import NO_TARGET
from onward.core.journal import Journal

DEFAULT_POLICY = FlushPolicy()


@dataclass(frozen=True, slots=True)
class Situation:
    """What a call request and the function's options say about one invocation.

    `policy` None is the classic mode, a call a step. `abandons`: a body that cannot be stopped may
    be left behind (a server) or must not be (Lambda). `attempt_known`: whether `attempt` counts the
    tries; where the orchestrator does not tell, any call may be the last try. `hands_over`: whether
    the orchestrator reads the response, so that it can carry what no checkpoint confirmed.
    `plain_result`: it reads the function's result where the response is nothing else.
    `heartbeat`: after so many seconds without a checkpoint an empty one is sent; 0 for never.
    """

    request_id: str
    journal: Journal
    target: str = NO_TARGET
    attempt: int = 0
    max_attempts: int = 4
    policy: FlushPolicy | None = DEFAULT_POLICY
    deadline: Deadline = NO_DEADLINE
    plan_always: bool = False
    plan_parallel: bool = False
    abandons: bool = True
    attempt_known: bool = True
    hands_over: bool = True
    plain_result: bool = False
    heartbeat: float = 0.0

    @property
    def targeted(self) -> bool:
        """Whether one step is asked for."""
        return self.target != NO_TARGET

    @property
    def plans_parallel(self) -> bool:
        """Whether each of several open steps gets a call of its own."""
        return self.policy is None or self.plan_parallel

    @property
    def last_attempt(self) -> bool:
        """Whether a failure of this call is final."""
        return self.attempt + 1 >= self.max_attempts

    @property
    def single(self) -> bool:
        """Whether one frontier of steps is run and answered, and nothing is checkpointed before."""
        return self.policy is None or self.targeted

    @property
    def first_frontier_only(self) -> bool:
        """Whether only the first steps without a result run: a new attempt counter comes after."""
        return self.single or self.attempt > 0 or not self.attempt_known
