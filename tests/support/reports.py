"""What tests have to say at the end of the report, whichever process they ran in."""

from __future__ import annotations

from typing import Any

import pytest


def told_by_tests(reporter: pytest.TerminalReporter, name: str) -> list[Any]:
    """The values of the property `name` that tests have set, each once, in the tests' order."""
    told: list[Any] = []
    for reports in reporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == name and value not in told:
                    told.append(value)
    return told
