"""Random programs under random faults in both directions at once: all the same for one seed."""

from __future__ import annotations

from random import Random

import pytest

from tests.faults.faulty import FaultyWorld, at_random
from tests.faults.proxy import FAULTS, REPEATED
from tests.support.harness import Platform
from tests.support.programs import random_program
from tests.support.tools import all_required

#: Seeds of a test run; the first few where not everything is required.
SEEDS = range(300 if all_required() else 16)
MODES = ("confirmed", "classic", "buffered", "pipelined")

#: Without those that give the other side a request again, each confirmed step has run once.
ONCE = tuple(fault for fault in FAULTS if fault not in REPEATED)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_ends_once_with_its_result(platform: Platform, seed: int) -> None:
    random = Random(seed)
    program = random_program(random)
    faults = FAULTS if seed % 4 == 3 else ONCE
    with FaultyWorld(
        platform,
        random.choice(("async", "blocking")),
        random.choice(("asgi", "wsgi")),
        checkpointing=MODES[seed % len(MODES)],
        calls=at_random(f"calls {seed}", 0.25, faults),
        checkpoints=at_random(f"checkpoints {seed}", 0.25, faults),
    ) as world:
        world.check(program)
