"""Every seeded mutant of the core is caught: by simulated runs, and many by the state machine.

Those that the state machine hunts are, by default, every fourth; with ONWARD_REQUIRE_ALL=1 all.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.core.chance import random_race, random_run
from tests.core.mutants import MUTANTS
from tests.core.test_machine import Run
from tests.support.tools import all_required

#: A mutant has to be caught in so many random runs. The core itself passes all of them.
RUNS = 1500

#: And in the first so many of them it is run on an orchestrator that makes calls side by side, too.
RACES = 500

#: Mutants that the state machine, too, catches with few examples.
BY_MACHINE = [
    "no_flush_before_an_answer",
    "no_flush_of_a_full_buffer",
    "delivers_before_the_confirm",
    "sends_while_a_batch_is_in_flight",
    "confirms_twice",
    "buffers_in_another_order_than_it_delivers",
    "a_failed_batch_is_forgotten",
    "results_do_not_ride_with_the_end",
    "an_unconfirmed_batch_counts_as_confirmed",
    "replays_in_another_order",
    "bodies_start_before_the_replay_is_over",
    "a_memoized_step_runs_again",
    "continues_without_progress",
    "forgets_the_results_beside_a_failed_step",
    "results_stand_beside_a_failed_step",
    "plans_without_race_mode",
    "plans_only_one_open_branch",
    "starts_bodies_beside_orchestrated_ops",
    "runs_eagerly_where_it_is_told_to_plan",
    "a_targeted_call_runs_whatever_is_open",
    "every_attempt_has_another_after_it",
    "begins_steps_after_the_deadline",
]

HUNTED = BY_MACHINE if all_required() else BY_MACHINE[::4]

HUNT = settings(
    max_examples=600,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

#: A mutant that is caught like this has a defect of its own.
MISTAKES = (TypeError, NameError, AttributeError)


def _many_runs() -> None:
    for seed in range(RUNS):
        random_run(seed)
        if seed < RACES:
            random_race(seed)


def test_the_core_itself_is_not_caught() -> None:
    _many_runs()


@pytest.mark.parametrize("name", MUTANTS)
def test_caught_by_random_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - a mutant fails in whatever way
        _many_runs()
    assert not isinstance(caught.value, MISTAKES), caught.value


@pytest.mark.parametrize("name", HUNTED)
def test_caught_by_the_state_machine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - a mutant fails in whatever way
        run_state_machine_as_test(Run, settings=HUNT)
    assert not isinstance(caught.value, MISTAKES), caught.value
