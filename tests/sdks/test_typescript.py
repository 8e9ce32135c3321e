"""The published TypeScript SDK on the embedded orchestrator, under each kind of checkpointing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdks import scenarios  # noqa: F401 - fills the catalogue
from tests.sdks.node import FOLDER, node_with_sdk
from tests.sdks.running import Results, cases_of, chosen_cases, started
from tests.sdks.suite import Sdk
from tests.support.tools import all_required

APPS = (
    {"id": "ts-on", "checkpointing": True},
    {"id": "ts-off", "checkpointing": False},
    {"id": "ts-buffered", "checkpointing": {"bufferedSteps": 5}},
    {"id": "ts-interval", "checkpointing": {"bufferedSteps": 100, "maxInterval": "50ms"}},
    {"id": "ts-runtime", "checkpointing": {"maxRuntime": "150ms"}, "entered": 2},
    {"id": "ts-coded", "checkpointing": True, "coded": True},
)
#: What depends on how results are checkpointed, and some of everything else.
SOME = frozenset(
    {
        "sequential",
        "many-steps",
        "slow-steps",
        "values",
        "large-journal",
        "sleeps-and-steps",
        "parallel",
        "parallel-20",
        "parallel-chains",
        "parallel-mixture",
        "race",
        "step-retried",
        "step-caught",
        "function-retried",
        "wait",
        "invoke-own",
        "on-failure",
    }
)
SDK = Sdk("typescript", ("node", str(FOLDER / "serve.mjs")), APPS)
ONLY = {} if all_required() else dict.fromkeys(("ts-interval", "ts-runtime", "ts-coded"), SOME)


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    sdk = Sdk(SDK.name, (node_with_sdk(), *SDK.command[1:]), APPS)
    with started(sdk, tmp_path_factory.mktemp("typescript"), chosen_cases(request)) as results:
        yield results


@pytest.mark.parametrize("case", cases_of(SDK, "typescript", ONLY))
def test_scenario(results: Results, case: tuple[str, str]) -> None:
    results.check(case)
