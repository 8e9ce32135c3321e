"""Checkpointing on and off: the same program, the same result, the same confirmed side effects.

Whatever goes wrong on the way: crashes, checkpoints that get lost, things that happen late.
"""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from onward.core.buffer import FlushPolicy
from onward.core.ops import Opcode
from tests.core.fates import RandomFate, Setting
from tests.core.programs import All, Node, Seq, Sleep, Step, Try, Wait, named
from tests.core.simulation import World
from tests.core.strategies import POLICIES

_SECONDS = st.sampled_from([0.05, 0.1, 0.3, 1.0])
_STEPS = st.builds(Step, _SECONDS, barrier=st.booleans())
_FAIL = st.one_of(
    st.builds(Step, _SECONDS, fails=st.just(999), final=st.just(True)),
    st.builds(Wait, st.just(1.0), st.just(value=False), st.just(Opcode.INVOKE_FUNCTION)),
)
_CAUGHT = st.builds(Try, _FAIL, _STEPS)
_WAITS = st.one_of(
    st.builds(Sleep, st.sampled_from([0.2, 3.0])),
    st.builds(Wait, st.just(1.0), st.booleans(), st.just(Opcode.WAIT_FOR_EVENT)),
    st.builds(Wait, st.just(1.0), st.booleans(), st.just(Opcode.WAIT_FOR_SIGNAL)),
    st.builds(Wait, st.just(1.0), st.just(value=True), st.just(Opcode.INVOKE_FUNCTION)),
)


def _larger(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=2, max_size=4).map(tuple)
    return st.one_of(st.builds(Seq, several, st.booleans()), st.builds(All, several))


#: Programs whose meaning does not depend on what comes first: no races, no failures in a gather.
PROGRAMS: st.SearchStrategy[Node] = st.recursive(
    st.one_of(_STEPS, _STEPS, _CAUGHT, _WAITS), _larger, max_leaves=9
).map(lambda node: named(Seq((node,))))


def came_to(world: World) -> tuple[Any, set[tuple[str, bool]]]:
    """The result without the number of the try that gave it, and which steps have which outcome."""
    result = json.loads(re.sub(r" of try \d+", "", json.dumps(world.orchestrator.result)))
    outcomes = {(id_, each.error is None) for id_, each in world.ledger.results.items()}
    assert world.orchestrator.error is None
    return result, outcomes


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(PROGRAMS, POLICIES, st.booleans(), st.integers(0, 10_000))
def test_checkpointing_changes_nothing_but_how_it_gets_there(
    program: Node, policy: FlushPolicy, planned: bool, seed: int
) -> None:
    worlds = []
    for number, each in enumerate((policy, None)):
        setting = Setting(each, plan_parallel=planned, max_attempts=99)
        fate = RandomFate(Random(seed + number), trouble=0.2, kills=3, disorder=0.1)
        worlds.append(World(program, setting, fate).run())
    on, off = map(came_to, worlds)
    assert on == off
    event(f"{len(on[1])} outcomes")
