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


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Figures of a test for the end of the report."""
    name, told = request.node.name, request.node.user_properties
    return lambda figures: told.append(("emulator", f"{name}: {figures}"))
