"""What a simulated world is like, and what happens in it where several things could."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

from onward.core.actions import Action
from onward.core.buffer import FlushPolicy
from onward.core.calls import StepCall
from onward.core.ops import Op
from onward.core.retry import Verdict
from onward.core.situation import DEFAULT_POLICY

if TYPE_CHECKING:
    from tests.core.simulation import World


@dataclass(frozen=True, slots=True)
class Setting:
    """How the function is configured, and what the platform is like.

    `races`: the orchestrator makes a call for each result in race mode, beside what runs already.
    Times in seconds. `window`: how long an invocation may use; None for no deadline. After `margin`
    more it is killed.
    """

    policy: FlushPolicy | None = DEFAULT_POLICY
    plan_parallel: bool = False
    max_attempts: int = 4
    window: float | None = None
    margin: float = 0.5
    round_trip: float = 0.01
    abandons: bool = True
    max_result: int = 1_000_000_000
    races: bool = False

    @property
    def classic(self) -> bool:
        """Whether there is no checkpointing."""
        return self.policy is None


Ending = Literal["stops", "ends by itself", "is stuck"]


class Fate:
    """What happens where several things could. This one is kind."""

    #: Whether everything happens when it is due, and not later.
    punctual = True

    def verdict(self, ops: tuple[Op, ...]) -> tuple[Verdict | None, bool]:
        """What a checkpoint's sender hears, None for the truth, and whether it arrives."""
        return None, True

    def cut(self, call: StepCall) -> Ending:
        """How a body ends that is asked to stop."""
        return "stops"

    def killed(self, action: Action | None) -> Literal["no", "before", "after"]:
        """Whether the process dies before or after it performs `action` (None: it waits)."""
        return "no"

    def readable(self) -> bool:
        """Whether the journal can be read when somebody asks for it."""
        return True

    def meanwhile(self, world: World) -> None:
        """What another invocation of the run does before the journal is read."""

    def choose(self, count: int) -> int:
        """Which of the `count` things that can happen next does; 0 is the one that is due first."""
        return 0


class RandomFate(Fate):
    """Whatever could go wrong does so now and then."""

    def __init__(
        self, random: Random, *, trouble: float = 0.0, kills: int = 0, disorder: float = 0.0
    ) -> None:
        self.random, self.trouble, self.kills, self.disorder = random, trouble, kills, disorder
        self.punctual = not disorder

    def verdict(self, ops: tuple[Op, ...]) -> tuple[Verdict | None, bool]:
        if self.random.random() >= self.trouble:
            return None, True
        verdict = self.random.choice((Verdict.REFUSED, Verdict.UNCONFIRMED))
        return verdict, verdict is Verdict.UNCONFIRMED and self.random.random() < 0.5

    def cut(self, call: StepCall) -> Ending:
        return self.random.choice(("stops", "stops", "ends by itself", "is stuck"))

    def readable(self) -> bool:
        return self.random.random() >= self.trouble

    def killed(self, action: Action | None) -> Literal["no", "before", "after"]:
        if not self.kills or self.random.random() > 0.05:
            return "no"
        self.kills -= 1
        return self.random.choice(("before", "after"))

    def choose(self, count: int) -> int:
        if count > 1 and self.random.random() < self.disorder:
            return self.random.randrange(min(count, 4))
        return 0


class CrashAt(Fate):
    """The process dies at the action with this number, counted over the run from 0."""

    def __init__(self, number: int, when: Literal["before", "after"]) -> None:
        self.number, self.when = number, when
        self.kinds: list[str] = []

    def killed(self, action: Action | None) -> Literal["no", "before", "after"]:
        self.kinds.append(type(action).__name__)
        return self.when if len(self.kinds) - 1 == self.number else "no"
