"""A function that takes no context: its run fails and says why; the entry does not."""

from __future__ import annotations

from typing import Any, cast

from tests.support.harness import World


async def forgets_async() -> int:
    raise AssertionError


def forgets_blocking() -> int:
    raise AssertionError


def test_a_function_without_room_for_its_context(world: World) -> None:
    world.define(cast("Any", forgets_async), cast("Any", forgets_blocking), retries=0)
    run = world.run()
    assert run.error["name"] == "TypeError"
    assert "takes 0 positional arguments but 1 was given" in run.error["message"]
