"""Tests in AWS's Lambda runtime emulator. On Linux they always run: it comes from PyPI."""

from __future__ import annotations

import sys

import pytest

from tools.rie import emulator


@pytest.fixture(autouse=True, scope="session")
def _emulator_is_here() -> None:
    if sys.platform != "linux":
        pytest.skip("needs Linux; to get it: run the tests in a Linux container or machine")
    emulator()
