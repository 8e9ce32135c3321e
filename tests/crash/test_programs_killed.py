"""Random programs in a process that is killed: checkpointing changes neither result nor outcomes.

The same in the core alone, with many more programs: tests/core/test_on_and_off.py.
"""

from __future__ import annotations

import signal
from random import Random
from typing import Any

import pytest

from tests.crash.pipeline import KINDS
from tests.crash.world import FunctionScenes, Played, World
from tests.support.matrix import CHECKPOINTING
from tests.support.programs import Node, bodies, meaning, random_program
from tests.support.tools import all_required

#: How many programs, and how many kills of each in each mode.
PROGRAMS, KILLS = (8, 2) if all_required() else (1, 1)

#: Places that every run of a program passes, whatever the order of its branches.
CERTAIN = {"body.start", "body.end"}


def outcomes(played: Played, program: Node) -> tuple[Any, set[str]]:
    """The result, and which steps with a body have an outcome in the journal."""
    assert played.runs == 1
    assert played.run["status"] == "Completed", played.run
    return played.run["output"], set(played.journal) & bodies(program)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_on_and_off_come_to_the_same(world: World, kind: str) -> None:
    for number in range(PROGRAMS):
        random = Random(f"{kind} {number}")
        program = random_program(random)
        expected = (meaning(program), bodies(program))
        with FunctionScenes(world) as scenes:
            for mode in CHECKPOINTING:
                play(scenes, f"program/{kind}-{mode}", program, expected, random)


def play(
    scenes: FunctionScenes,
    event: str,
    program: Node,
    expected: tuple[Any, set[str]],
    random: Random,
) -> None:
    """A run without a kill, and runs with one each at some place that it passed."""
    data = {"program": program}
    calm = scenes.play(event, data=data)
    assert outcomes(calm, program) == expected
    places = [reached.place for reached in calm.trace if reached.name in CERTAIN]
    for place in random.sample(places, min(KILLS, len(places))):
        played = scenes.play(event, place, data)
        assert played.killed == -signal.SIGKILL, place
        assert outcomes(played, program) == expected, place
        known = played.confirmed & bodies(program)
        starts = {step: played.ledger.starts[step] for step in known}
        assert starts == {step: calm.ledger.starts[step] for step in known}, (event, place)
