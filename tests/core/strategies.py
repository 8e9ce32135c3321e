"""Hypothesis strategies of programs and settings."""

from __future__ import annotations

from hypothesis import strategies as st

from onward.core.buffer import FlushPolicy
from onward.core.ops import Opcode
from tests.core.fates import Setting
from tests.core.programs import All, Node, Race, Seq, Sleep, Step, Try, Wait, named

_SECONDS = st.sampled_from([0.1, 0.05, 0.3, 1.0])

STEPS = st.one_of(
    st.builds(Step, _SECONDS, barrier=st.booleans()),
    st.builds(
        Step,
        _SECONDS,
        fails=st.sampled_from([0, 0, 0, 0, 1, 2, 9]),
        final=st.booleans(),
        timeout=st.sampled_from([None, None, 0.2]),
        in_place=st.sampled_from([0, 1, 2]),
    ),
)
#: What only an orchestrator can resolve, and what then comes, or does not.
KINDS = st.sampled_from(
    [Opcode.WAIT_FOR_EVENT, Opcode.WAIT_FOR_SIGNAL, Opcode.INVOKE_FUNCTION],
)
WAITS = st.one_of(
    st.builds(Sleep, st.sampled_from([0.2, 3.0])),
    st.builds(Wait, st.just(1.0), st.booleans(), KINDS),
)


def _several(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[tuple[Node, ...]]:
    return st.lists(nodes, min_size=2, max_size=4).map(tuple)


def _larger(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = _several(nodes)
    return st.one_of(
        st.builds(Seq, several, st.booleans()),
        st.builds(All, several, st.booleans()),
        st.builds(Race, several),
        st.builds(Try, nodes, nodes),
    )


_NODES: st.SearchStrategy[Node] = st.recursive(
    st.one_of(STEPS, STEPS, WAITS), _larger, max_leaves=9
)


@st.composite
def _programs(draw: st.DrawFn) -> Node:
    return named(Seq(draw(_several(_NODES))))


#: Programs with every step named.
PROGRAMS = _programs()

POLICIES = st.builds(
    FlushPolicy,
    st.sampled_from([1, 1, 2, 3, 10]),
    st.sampled_from([0.0, 0.15]),
    st.booleans(),
)

SETTINGS = st.builds(
    Setting,
    st.one_of(POLICIES, POLICIES, POLICIES, st.none()),
    plan_parallel=st.sampled_from([False, False, True]),
    max_attempts=st.sampled_from([4, 2, 1]),
    window=st.sampled_from([None, 2.0, 1.2]),
    round_trip=st.sampled_from([0.01, 0.1]),
)
