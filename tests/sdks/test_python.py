"""The published Python SDK on the embedded orchestrator: async and blocking, FastAPI and Flask."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.sdks import scenarios  # noqa: F401 - fills the catalogue
from tests.sdks.running import Results, cases_of, chosen_cases, started
from tests.sdks.suite import Sdk
from tests.support.tools import all_required

APPS = (
    {"id": "py-async", "blocking": False, "framework": "fastapi"},
    {"id": "py-blocking", "blocking": True, "framework": "flask"},
    {"id": "py-async-flask", "blocking": False, "framework": "flask"},
    {"id": "py-blocking-fastapi", "blocking": True, "framework": "fastapi"},
    {"id": "py-coded", "blocking": False, "framework": "fastapi", "coded": True},
)
#: Some of everything, for what differs in one respect only.
SOME = frozenset(
    {
        "sequential",
        "values",
        "large-journal",
        "sleeps-and-steps",
        "parallel",
        "parallel-wait-and-run",
        "step-retried",
        "step-caught",
        "function-retried",
        "on-failure",
        "wait",
        "send-event",
        "invoke-own",
    }
)
SDK = Sdk("python", (sys.executable, "-m", "tests.sdks.python.serve"), APPS)
LESS = ("py-async-flask", "py-blocking-fastapi", "py-coded")
ONLY = {} if all_required() else dict.fromkeys(LESS, SOME)


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    with started(SDK, tmp_path_factory.mktemp("python"), chosen_cases(request)) as results:
        yield results


@pytest.mark.parametrize("case", cases_of(SDK, "python", ONLY))
def test_scenario(results: Results, case: tuple[str, str]) -> None:
    results.check(case)
