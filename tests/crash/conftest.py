"""The report ends with how many boundaries there are and at how many a process was killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.boundaries import Case, counted
from tests.crash.world import World, world_in


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("crash")) as world:
        yield world


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the numbers of boundaries."""
    if not counted:
        return
    terminalreporter.section("boundaries at which a process was killed")
    for case in counted:
        terminalreporter.line(str(case))
    total = Case("all together", sum(c.boundaries for c in counted), sum(c.kills for c in counted))
    terminalreporter.line(str(total))


def pytest_sessionstart() -> None:
    """Count anew: one process may run several sessions."""
    counted.clear()
