"""SIGKILL to the function's process at every boundary: nothing confirmed is lost or repeated."""

from __future__ import annotations

import pytest

from tests.crash.boundaries import kill_at_each
from tests.crash.pipeline import KINDS, MODES
from tests.crash.world import FunctionScenes, World

NAMES = {
    "call.received",
    "body.start",
    "body.end",
    "checkpoint.submit",
    "checkpoint.submitted",
    "checkpoint.sent",
    "checkpoint.confirmed",
    "checkpoint.taken",
    "response.before",
    "response.after",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_the_run_ends_and_each_confirmed_step_ran_once(world: World, mode: str, kind: str) -> None:
    with FunctionScenes(world) as scenes:
        kill_at_each(scenes, "function", NAMES, kind, mode)
