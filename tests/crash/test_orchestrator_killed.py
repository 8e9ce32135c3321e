"""SIGKILL to the orchestrator at every boundary: nothing confirmed is lost or repeated."""

from __future__ import annotations

import pytest

from tests.crash.boundaries import kill_at_each
from tests.crash.pipeline import KINDS, MODES
from tests.crash.world import OrchestratorScenes, World

NAMES = {
    "commit.before",
    "commit.after",
    "answer.before",
    "answer.after",
    "dispatch.before",
    "dispatch.sent",
    "process.before",
    "process.after",
    "ended",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_the_run_ends_and_each_confirmed_step_ran_once(world: World, mode: str, kind: str) -> None:
    with OrchestratorScenes(world) as scenes:
        kill_at_each(scenes, "orchestrator", NAMES, kind, mode)
