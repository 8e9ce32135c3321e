"""A function that turns out to take no context: its run fails and says why; the entry does not."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from tests.support.harness import World


async def forgets_async() -> int:
    raise AssertionError


def forgets_blocking() -> int:
    raise AssertionError


def test_a_function_without_room_for_its_context(world: World) -> None:
    hidden = partial(forgets_async), partial(forgets_blocking)  # else registering says it
    world.define(*cast("Any", hidden), retries=0)
    run = world.run()
    assert run.error["name"] == "TypeError"
    assert "takes 0 positional arguments but 1 was given" in run.error["message"]
