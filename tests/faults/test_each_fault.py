"""Every fault, on the calls of a run and on its checkpoints: the run ends once, with its result."""

from __future__ import annotations

import pytest

from tests.core.mutants import MUTANTS
from tests.faults.faulty import FaultyWorld, every, nothing
from tests.faults.proxy import FAULTS
from tests.support.harness import Platform
from tests.support.programs import Node
from tests.support.tools import all_required

PROGRAM: Node = [
    "seq",
    [
        ["step", "s1", 0, False],
        ["step", "s2", 1, False],
        ["all", [["step", "a", 0, False], ["sleep", "nap"], ["step", "b", 0, False]]],
        ["try", ["step", "bad", 99, True], ["step", "instead", 0, False]],
        ["event", "came", True],
        ["step", "s3", 0, False],
    ],
]
MODES = ("classic", "confirmed", "buffered", "pipelined")
WORLDS = [("async", "asgi"), ("blocking", "wsgi"), ("async", "wsgi"), ("blocking", "asgi")]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["calls", "checkpoints"])
def test_a_fault_at_every_third_request(platform: Platform, where: str, fault: str) -> None:
    number = FAULTS.index(fault) + (where == "checkpoints")
    worlds = WORLDS if all_required() else [WORLDS[number % 2]]
    modes = MODES[1:] if where == "checkpoints" else MODES
    for driver, entry in worlds:
        for mode in modes if all_required() else [modes[number % len(modes)]]:
            spoil = {where: every(3, fault)}
            with FaultyWorld(platform, driver, entry, checkpointing=mode, **spoil) as world:
                world.check(PROGRAM)
                spoiled = world.calls if where == "calls" else world.api_proxy
            assert fault in spoiled.happened


def test_without_faults_each_body_begins_once(platform: Platform) -> None:
    with FaultyWorld(platform, "async", "asgi", checkpointing="confirmed", calls=nothing) as world:
        world.check(PROGRAM)
        tries = {step: count for (_, step), count in world.tries.began.items()}
    assert tries == {**dict.fromkeys(["s1", "a", "b", "bad", "instead", "s3"], 1), "s2": 2}


def test_a_step_that_runs_again_is_noticed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be shown could be otherwise: a core that forgets a result is found out."""
    MUTANTS["a_memoized_step_runs_again"](monkeypatch)
    with FaultyWorld(platform, "async", "asgi", checkpointing="confirmed") as world:
        with pytest.raises(AssertionError):
            world.check(PROGRAM, runs=1)
        assert "s2" in {step for _, step in world.ledger.again}
