"""Tests in AWS's Lambda runtime emulator. On Linux they always run: it comes from PyPI."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tools.rie import emulator


@pytest.fixture(autouse=True, scope="session")
def _emulator_is_here() -> None:
    if sys.platform != "linux":
        pytest.skip("needs Linux; to get it: run the tests in a Linux container or machine")
    emulator()


_figures: list[str] = []


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Figures of a test for the end of the report."""
    return lambda figures: _figures.append(f"{request.node.name}: {figures}")


def pytest_sessionstart() -> None:
    """Count anew: one process may run several sessions."""
    _figures.clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    if _figures:
        terminalreporter.section("in the Lambda runtime emulator")
        for figures in _figures:
            terminalreporter.line(figures)
