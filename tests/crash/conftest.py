"""What the crash tests share: one world a module, and numbers for the end of the report."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.boundaries import counted
from tests.crash.world import World, world_in


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("crash")) as world:
        yield world


@pytest.fixture(autouse=True)
def _tell_the_numbers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hand what a test has counted to the end of the report."""
    before = len(counted)
    yield
    for case in counted[before:]:
        told = [str(case), case.boundaries, case.kills]
        request.node.user_properties.append(("boundaries", told))
