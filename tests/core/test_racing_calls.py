"""Calls of one run beside each other, as a real server makes them in race mode.

Each result that is resolved there makes a call of its own, with the journal as it is when the call
starts. No body may start while it runs in another call, or after its result is confirmed: the
ledger of every simulated world says so.
"""

from __future__ import annotations

from tests.core.chance import random_race
from tests.core.fates import Setting
from tests.core.programs import All, Node, Seq, Sleep, Step, named
from tests.core.simulation import World
from tests.support.tools import all_required

#: How many random runs; many more where everything is required.
RUNS = 20_000 if all_required() else 1_000


def race(program: Node, **options: object) -> World:
    """A run of `program` where each result makes a call of its own."""
    return World(named(program), Setting(races=True, **options)).run()  # type: ignore[arg-type]


def test_random_programs_without_losers_start_each_body_once() -> None:
    beside = 0
    for seed in range(RUNS):
        world = random_race(seed)
        beside += world.most_at_once > 1
    assert beside > RUNS / 4, "calls run beside each other, or nothing is shown"


def test_sleeps_that_end_together_before_a_chain_of_steps() -> None:
    naps = All(tuple(Sleep(1.0) for _ in range(4)))
    world = race(Seq((naps, *(Step(0.1) for _ in range(5)))))
    assert set(world.ledger.tries.values()) == {1}
    assert world.orchestrator.result[0] == [None] * 4


def test_a_step_that_was_planned_beside_a_sleep_runs_in_its_own_call() -> None:
    world = race(All((Sleep(0.05), Seq((Step(0.3), Step(0.1))))))
    assert set(world.ledger.tries.values()) == {1}


def test_planned_branches_that_end_together() -> None:
    branches = All(tuple(Step(0.2) for _ in range(4)))
    world = race(Seq((branches, Step(0.1), Step(0.1))), plan_parallel=True)
    assert set(world.ledger.tries.values()) == {1}
