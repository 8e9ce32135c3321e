"""No silent skip: what was skipped, and how to get what was missing, ends the report.

With ONWARD_REQUIRE_ALL=1 a skipped test fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from tests.support.reports import told_by_tests
from tests.support.tools import REQUIRE_ALL, all_required


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome == "skipped" and all_required() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{_reason(report.longrepr)} (a skip fails under {REQUIRE_ALL}=1)"


def _reason(skipped: Any) -> str:
    text = skipped[2] if isinstance(skipped, tuple) else str(skipped)
    return str(text).removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one when everything is required."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped module into a failed one when everything is required."""
    report = yield
    _fail_if_skipped(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was counted, what was skipped, and how to get what was missing."""
    _tell_boundaries(terminalreporter)
    figures = told_by_tests(terminalreporter, "emulator")
    if figures:
        terminalreporter.section("in the Lambda runtime emulator")
        for line in figures:
            terminalreporter.line(line)
    _tell_skipped(terminalreporter)


def _tell_boundaries(terminalreporter: pytest.TerminalReporter) -> None:
    cases = told_by_tests(terminalreporter, "boundaries")
    if not cases:
        return
    terminalreporter.section("boundaries at which a process was killed")
    for line, _, _ in cases:
        terminalreporter.line(line)
    found, killed = sum(case[1] for case in cases), sum(case[2] for case in cases)
    terminalreporter.line(f"all together: {found} boundaries, {killed} kills")


def _tell_skipped(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(_reason(report.longrepr) for report in reports)
    if not reasons:
        return
    terminalreporter.section("not tested here")
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count} test{'s' * (count != 1)} skipped: {reason}")
    terminalreporter.line(f"{REQUIRE_ALL}=1 turns each of these into a failure.")
