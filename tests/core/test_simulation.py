"""Whole runs in a simulated world: random ones, and every crash of some."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onward.core.actions import Action
from onward.core.buffer import FlushPolicy
from onward.core.ids import hash_step
from onward.core.ops import Op, Opcode
from onward.core.retry import Verdict
from tests.core.chance import random_run
from tests.core.fates import CrashAt, Fate, RandomFate, Setting
from tests.core.programs import All, Node, Race, Seq, Sleep, Step, Try, Wait, named
from tests.core.simulation import World
from tests.core.strategies import PROGRAMS, SETTINGS

EXAMPLES = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


# ---------------------------------------------------------------------- random runs


@EXAMPLES
@given(PROGRAMS, SETTINGS)
def test_a_run_without_trouble_comes_to_the_result_of_the_model(
    program: Node, setting: Setting
) -> None:
    world = World(program, setting).run()
    error = world.orchestrator.error
    assert error is None or error.name == "ProgramError"
    assert world.kills == 0


@EXAMPLES
@given(PROGRAMS, SETTINGS, st.randoms(use_true_random=False))
def test_whatever_goes_wrong_a_run_ends_as_it_must(
    program: Node, setting: Setting, random: object
) -> None:
    fate = RandomFate(random, trouble=0.3, kills=3, disorder=0.2)  # type: ignore[arg-type]
    world = World(program, setting, fate).run()
    error = world.orchestrator.error
    assert error is None or error.name in {
        "ProgramError",
        "FunctionCrashedError",
        "InvocationTooSlowError",
    }


@pytest.mark.parametrize("part", range(5))
def test_branches_that_wait_outside_of_steps_hang_and_starve_nothing(part: int) -> None:
    """Their order is not in the journal, but every run ends, and no confirmed step runs again."""
    ends = Counter[str]()
    for seed in range(part * 200, (part + 1) * 200):
        world = random_run(seed, outside=True)
        error = world.orchestrator.error
        ends[error.name if error else "completed"] += 1
    assert set(ends) <= {
        "completed",
        "ProgramError",
        "FunctionCrashedError",
        "InvocationTooSlowError",
        "RunCancelledError",
        "StepNotFoundError",
    }
    assert ends["completed"] >= 40
    assert ends["StepNotFoundError"] <= 2


# ---------------------------------------------------------------------- every crash


def _steps(count: int, seconds: float = 0.3) -> tuple[Node, ...]:
    return tuple(Step(seconds) for _ in range(count))


PROGRAMS_TO_CRASH: dict[str, Node] = {
    "one after another": Seq(_steps(7)),
    "all at once": All(_steps(5)),
    "branches of several steps": All((Seq(_steps(3)), Seq(_steps(2, 0.5)), Step(1.0))),
    "a race": Seq((Race((Step(0.5), Seq(_steps(2, 0.2)))), Step(0.1))),
    "sleeps beside steps": Seq((All((Seq((Sleep(1.0), *_steps(2))), Step(0.5))), Step(0.1))),
    "a barrier": Seq((*_steps(2), Step(0.1, barrier=True), Step(0.1))),
    "a failure that is caught": Seq((Try(Step(0.1, fails=99, final=True), Step(0.2)), *_steps(2))),
    "tries": Seq((Step(0.1, fails=1), Step(0.1, fails=2), All((Step(0.1, fails=1), Step(0.2))))),
    "one id": Seq(_steps(4), same_id=True),
}

CRASH_SETTINGS: dict[str, Setting] = {
    "1": Setting(FlushPolicy(1), max_attempts=9),
    "3": Setting(FlushPolicy(3), max_attempts=9),
    "10": Setting(FlushPolicy(10), max_attempts=9),
    "pipelined": Setting(FlushPolicy(1, pipelined=True), max_attempts=9, round_trip=0.2),
    "3, with a deadline": Setting(FlushPolicy(3), max_attempts=9, window=1.2),
    "interval": Setting(FlushPolicy(10, max_interval=0.4), max_attempts=9),
    "planned": Setting(FlushPolicy(1), max_attempts=9, plan_parallel=True),
    "classic": Setting(None, max_attempts=9),
}


class CountActions(Fate):
    """Counts what could be the last thing that a process does."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def killed(self, action: Action | None) -> Literal["no", "before", "after"]:
        self.kinds.append(type(action).__name__)
        return "no"


@pytest.mark.parametrize("setting", CRASH_SETTINGS)
@pytest.mark.parametrize("name", PROGRAMS_TO_CRASH)
def test_a_crash_at_any_action_changes_nothing(name: str, setting: str) -> None:
    program = named(PROGRAMS_TO_CRASH[name])
    count = CountActions()
    calm = World(program, CRASH_SETTINGS[setting], count).run()
    bodies = sum(calm.ledger.tries.values())
    for number in range(len(count.kinds)):
        for when in ("before", "after"):
            fate = CrashAt(number, when)
            world = World(program, CRASH_SETTINGS[setting], fate).run()
            if "a race" not in name and "planned" not in setting:
                assert _order_free(world) == _order_free(calm)
            assert world.orchestrator.error == calm.orchestrator.error
            again = sum(world.ledger.tries.values()) - bodies
            policy = CRASH_SETTINGS[setting].policy
            window = 6 if policy is None or policy.pipelined else policy.buffered_steps
            assert again <= window + 4, "at most the buffer and what was running"
    print(f"{name}, {setting}: {len(count.kinds)} points, each before and after")  # noqa: T201
    assert len(count.kinds) >= 10


def _order_free(world: World) -> set[str]:
    """The steps that have a result."""
    return set(world.ledger.results)


def test_two_crashes_in_a_row() -> None:
    program = named(PROGRAMS_TO_CRASH["branches of several steps"])

    class Twice(CrashAt):
        def killed(self, action: Action | None) -> Literal["no", "before", "after"]:
            dies = super().killed(action)
            return "after" if len(self.kinds) - 1 == self.number + 4 else dies

    for number in range(30):
        world = World(program, CRASH_SETTINGS["3"], Twice(number, "before")).run()
        assert world.orchestrator.error is None
        assert world.kills == 2 or number > 15


# ---------------------------------------------------------------------- every checkpoint


class CheckpointFails(Fate):
    """The checkpoint with this number fails."""

    def __init__(self, number: int, verdict: Verdict, *, stored: bool) -> None:
        self.number, self.verdict_, self.stored, self.count = number, verdict, stored, 0

    def verdict(self, ops: tuple[Op, ...]) -> tuple[Verdict | None, bool]:
        self.count += 1
        if self.count - 1 == self.number:
            return self.verdict_, self.stored
        return None, True


@pytest.mark.parametrize("setting", ["1", "3", "pipelined", "3, with a deadline", "interval"])
@pytest.mark.parametrize("name", PROGRAMS_TO_CRASH)
@pytest.mark.parametrize(
    ("verdict", "stored"),
    [(Verdict.UNCONFIRMED, False), (Verdict.UNCONFIRMED, True), (Verdict.REFUSED, False)],
)
def test_a_checkpoint_that_fails_changes_nothing(
    name: str, setting: str, verdict: Verdict, *, stored: bool
) -> None:
    program = named(PROGRAMS_TO_CRASH[name])
    calm = World(program, CRASH_SETTINGS[setting]).run()
    number = 0
    while True:
        fate = CheckpointFails(number, verdict, stored=stored)
        world = World(program, CRASH_SETTINGS[setting], fate).run()
        assert world.orchestrator.error is None
        if CRASH_SETTINGS[setting].window is None:
            repeated = {
                id_: tries
                for id_, tries in world.ledger.tries.items()
                if tries > calm.ledger.tries.get(id_, 1)
            }
            assert not repeated
        if fate.count <= number:
            break
        number += 1
    assert number == fate.count
    checkpoints = sum(map(len, calm.confirmed_by.values()))
    assert number > 0 or not checkpoints


@pytest.mark.parametrize("setting", ["1", "3", "10", "pipelined", "interval"])
@pytest.mark.parametrize("name", PROGRAMS_TO_CRASH)
def test_a_cancelled_run_starts_nothing_after_its_next_checkpoint(name: str, setting: str) -> None:
    """`Process` objects to a body after the verdict; here, every process must end as well."""
    program = named(PROGRAMS_TO_CRASH[name])
    steps = 0
    while True:
        world = World(program, CRASH_SETTINGS[setting])
        for _ in range(steps):
            world.step()
        if world.orchestrator.over:
            break
        world.orchestrator.cancel()
        world.settle()
        steps += 1
    assert steps >= 4


# ---------------------------------------------------------------------- particular runs


def _started(world: World, name: str) -> list[float]:
    return [at for at, started in world.started if started == name]


def test_sleeps_and_a_long_wait_side_by_side_starve_nothing() -> None:
    program = named(
        All(
            (
                Seq((Sleep(1.0), Step(0.2, name="X"), Step(0.2, name="X2"))),
                Seq((Sleep(1.5), Step(0.2, name="Y"))),
                Wait(6.0, comes=False),
            )
        )
    )
    world = World(program).run()
    for name in ("X", "X2", "Y"):
        assert len(_started(world, name)) == 1
        assert _started(world, name)[0] < 3.0
    assert world.orchestrator.error is None
    assert 6.0 <= world.now < 6.5


def test_races_with_cancelled_losers_run_each_step_once() -> None:
    slow, quick = Seq((Sleep(2.0), Step(0.1, name="slow"))), Step(0.1, name="quick")
    world = World(named(Seq((Race((slow, quick)), Step(0.1, name="after"))))).run()
    assert [name for _, name in world.started] == ["quick", "after"]
    assert world.orchestrator.result[0] == {"winner": 1, "value": "quick.0 of try 0"}


def test_a_race_whose_loser_never_ends_in_time_is_won_on_a_later_attempt_too() -> None:
    """The step before it uses up an attempt, so the race is a first frontier."""
    race = Race((Step(9.0, name="endless"), Step(0.1, name="quick")))
    program = named(Seq((race, Step(0.1))))
    world = World(program, Setting(window=2.0, max_attempts=2), CrashAt(3, "after")).run()
    assert world.orchestrator.error is None
    assert world.orchestrator.result[0]["winner"] == 1


def test_a_long_job_takes_no_more_invocations_than_its_work_needs() -> None:
    program = named(Seq(_steps(40, 0.25)))
    world = World(program, Setting(window=2.0, round_trip=0.01)).run()
    assert world.orchestrator.error is None
    assert all(tries == 1 for tries in world.ledger.tries.values())
    assert world.orchestrator.calls <= 10 / 2.0 + 2
    assert world.kills == 0
    assert (
        not any(step.fails for step in program.nodes if isinstance(step, Step))
        if isinstance(program, Seq)
        else True
    )


@pytest.mark.parametrize("max_attempts", [1, 2, 4])
def test_a_step_longer_than_an_invocation_times_out_after_its_attempts(max_attempts: int) -> None:
    program = named(Seq((Step(0.1), Step(60.0, name="endless"))))
    setting = Setting(window=2.0, max_attempts=max_attempts)
    world = World(program, setting).run()
    error = world.orchestrator.error
    assert error is not None
    assert (error.name, error.message) == ("ProgramError", "endless")
    memo = world.orchestrator.memos[-1]
    assert memo.error is not None
    assert memo.error.name == "StepTimedOutError"
    # Once beside the progress of the first step, then with whole invocations to itself.
    assert len(_started(world, "endless")) in {max_attempts, max_attempts + 1}


@pytest.mark.parametrize("max_attempts", [1, 2, 4])
@pytest.mark.parametrize("in_place", [0, 1, 3])
def test_a_step_that_always_fails_is_tried_as_often_as_it_may(
    max_attempts: int, in_place: int
) -> None:
    program = named(Seq((Step(0.1), Step(0.1, fails=99, in_place=in_place, name="broken"))))
    world = World(program, Setting(max_attempts=max_attempts)).run()
    assert len(_started(world, "broken")) == max_attempts * (1 + in_place)
    assert world.orchestrator.error is not None
    assert world.orchestrator.error.message == "broken"


@pytest.mark.parametrize("in_place", [0, 2])
def test_a_step_that_always_fails_beside_a_sleep_is_tried_as_often_as_it_may(in_place: int) -> None:
    program = named(All((Sleep(100.0), Step(0.1, fails=99, in_place=in_place, name="broken"))))
    world = World(program, Setting(max_attempts=3)).run()
    assert len(_started(world, "broken")) == 3 * (1 + in_place)
    assert world.orchestrator.error is not None
    assert world.orchestrator.error.message == "broken"


def test_a_failing_branch_uses_up_attempts_although_its_siblings_make_progress() -> None:
    endless = Seq(_steps(60, 1.0))
    program = named(All((endless, Step(0.1, fails=99, name="broken"))))
    world = World(program, Setting(window=2.5, max_attempts=4)).run()
    assert world.orchestrator.error is not None
    assert world.orchestrator.error.message == "broken"
    assert len(_started(world, "broken")) <= 20


def test_the_classic_mode_never_sends_a_checkpoint_and_calls_once_a_step() -> None:
    world = World(named(Seq(_steps(5))), Setting(None)).run()
    assert world.orchestrator.calls == 6
    assert not world.confirmed_by


def test_a_buffer_of_ten_confirms_ten_at_a_time() -> None:
    world = World(named(Seq(_steps(25))), Setting(FlushPolicy(10))).run()
    assert world.orchestrator.calls == 1
    (confirmed,) = world.confirmed_by.values()
    assert len(confirmed) == 20, "the last five ride with the result"
    assert len(world.ledger.results) == 25


def test_repeated_ids_keep_their_order_over_crashes() -> None:
    program = named(Seq(_steps(6), same_id=True))
    for number in range(20):
        world = World(program, CRASH_SETTINGS["3"], CrashAt(number, "after")).run()
        assert list(world.ledger.results) == [hash_step("s1", n) for n in range(6)]


def test_an_orchestrated_op_is_never_answered_without_the_branches_beside_it() -> None:
    program = named(All((Wait(5.0), Seq((Step(0.1), Step(0.1))), Sleep(1.0))))
    world = World(program).run()
    kinds = [
        [op.code for op in process.response.ops]
        for process in world.history
        if process.response is not None and not process.situation.targeted
    ]
    assert kinds[0] == [Opcode.WAIT_FOR_EVENT, Opcode.STEP_PLANNED, Opcode.SLEEP]


def test_a_result_that_the_orchestrator_refuses_fails_its_step() -> None:
    program = named(Seq((Step(0.1), Try(Step(0.1, size=600, name="large"), Step(0.1)), Step(0.1))))
    world = World(program, Setting(max_result=500)).run()
    assert world.orchestrator.result[1] == {"caught": "large", "then": "s2.0 of try 0"}
    assert set(world.ledger.tries.values()) == {1}


# ---------------------------------------------------------------------- two at a time


class GivenUpButAlive(Fate):
    """An earlier invocation, given up, confirms results of steps that fail in the one that is."""

    def __init__(self) -> None:
        self.confirmed: list[str] = []

    def meanwhile(self, world: World) -> None:
        process = world.processes[-1]
        for call in process.failed:
            if call.id not in world.ledger.results:
                world.orchestrator.checkpoint(
                    process.job, (call.op_of(Opcode.STEP_RUN, data='"theirs"'),)
                )
                self.confirmed.append(call.user_id)


@pytest.mark.parametrize("window", [None, 1.2])
@pytest.mark.parametrize("policy", [None, FlushPolicy(1), FlushPolicy(3)])
def test_a_step_that_another_invocation_confirmed_is_never_failed(
    policy: FlushPolicy | None, window: float | None
) -> None:
    steps = (Step(0.1), Step(0.1, fails=99), Try(Step(0.3, fails=99), Step(0.2)), Step(0.1))
    fate = GivenUpButAlive()
    setting = Setting(policy, max_attempts=2, window=window)
    world = World(named(Seq(steps)), setting, fate).run()
    assert len(fate.confirmed) == 2
    assert world.orchestrator.error is None
    confirmed = [result.value for result in world.ledger.results.values()]
    assert confirmed.count("theirs") == 2
