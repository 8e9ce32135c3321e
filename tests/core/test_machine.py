"""A run against the model, with an adversary: it decides what happens next, and what goes wrong."""

from __future__ import annotations

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from onward.core.calls import StepCall
from onward.core.ops import Op
from onward.core.retry import Verdict
from tests.core.fates import Ending, Fate, Setting
from tests.core.model import Violation
from tests.core.programs import Node, walk
from tests.core.simulation import World
from tests.core.strategies import PROGRAMS, SETTINGS

#: Errors with which a run may end: its own, and attempts that crashes and lateness have used up.
ENDS = {"ProgramError", "RunCancelledError", "FunctionCrashedError", "InvocationTooSlowError"}


class Adversary(Fate):
    """What the rules have decided on, once; kind otherwise."""

    punctual = False

    def __init__(self) -> None:
        self.chosen = 0
        self.told: tuple[Verdict | None, bool] = (None, True)
        self.ending: Ending = "stops"

    def choose(self, count: int) -> int:
        chosen, self.chosen = self.chosen % count, 0
        return chosen

    def verdict(self, ops: tuple[Op, ...]) -> tuple[Verdict | None, bool]:
        told, self.told = self.told, (None, True)
        return told

    def cut(self, call: StepCall) -> Ending:
        ending, self.ending = self.ending, "stops"
        return ending


class Run(RuleBasedStateMachine):
    """One run. Whatever it must never do raises `Violation` in the world around it."""

    world: World
    fate: Adversary

    @initialize(program=PROGRAMS, setting=SETTINGS)
    def begin(self, program: Node, setting: Setting) -> None:
        self.fate = Adversary()
        self.world = World(program, setting, self.fate)
        self.troubles = 0
        self.size = sum(1 for _ in walk(program))

    @rule(count=st.integers(1, 6))
    def next(self, count: int) -> None:
        """What is due first happens."""
        for _ in range(count):
            self.world.step()

    @rule(which=st.integers(0, 5))
    def another(self, which: int) -> None:
        """Something happens before its time, or late: bodies end in any order."""
        self.fate.chosen = which
        self.world.step()

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        """Everything that is due by then is late."""
        self.world.now += seconds

    @precondition(lambda self: self.world.processes)
    @rule(which=st.integers(0, 3))
    def watchdog(self, which: int) -> None:
        """The watchdog asks whether something has to be flushed."""
        processes = self.world.processes
        processes[which % len(processes)].watch()

    @rule(stored=st.booleans(), verdict=st.sampled_from([Verdict.UNCONFIRMED, Verdict.REFUSED]))
    def checkpoint_fails(self, *, stored: bool, verdict: Verdict) -> None:
        """The next checkpoint is not confirmed; it may have arrived all the same."""
        self.fate.told = verdict, stored and verdict is Verdict.UNCONFIRMED

    @rule(ending=st.sampled_from(["ends by itself", "is stuck"]))
    def body_resists(self, ending: Ending) -> None:
        """The next body that is cut does not just stop."""
        self.fate.ending = ending

    @precondition(lambda self: self.world.processes)
    @rule(which=st.integers(0, 3), lost=st.booleans())
    def crash(self, which: int, *, lost: bool) -> None:
        """A process dies. What it had sent arrives, or does not."""
        self.troubles += 1
        processes = self.world.processes
        processes[which % len(processes)].kill(lost=lost)

    @precondition(lambda self: self.world.processes)
    @rule(which=st.integers(0, 3), at_once=st.booleans())
    def goes_away(self, which: int, *, at_once: bool) -> None:
        """A process is to end soon, or whoever called it has gone."""
        self.troubles += 1
        process = self.world.processes[which % len(self.world.processes)]
        if at_once:
            process.hang_up()
        else:
            process.drain()

    @rule(really=st.sampled_from([False, False, False, True]))
    def cancel(self, *, really: bool) -> None:
        """The run is cancelled from outside, in one of a few runs."""
        if really and not self.world.orchestrator.over:
            self.world.orchestrator.cancel()

    @invariant()
    def one_batch_in_flight(self) -> None:
        if hasattr(self, "world"):
            for process in self.world.processes:
                assert process.core._buffer.in_flight == process.in_flight

    @invariant()
    def not_for_ever(self) -> None:
        """Every call ends in progress or uses up an attempt."""
        if hasattr(self, "world"):
            most = 8 * (self.size + 1) * self.world.setting.max_attempts + 4 * self.troubles
            assert self.world.orchestrator.calls <= most

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.fate.told, self.fate.ending = (None, True), "stops"
        self.world.run()
        self.not_for_ever()
        error = self.world.orchestrator.error
        event(error.name if error else "completed")
        if error is not None and error.name not in ENDS:
            raise Violation(f"the run ended with {error}")
        if error is not None and error.name == "FunctionCrashedError" and not self.world.kills:
            raise Violation("the run ended with a crash that was none")


Run.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestRun = Run.TestCase
