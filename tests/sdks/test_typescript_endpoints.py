"""Durable endpoints of the published TypeScript SDK on the embedded orchestrator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdks import scenarios  # noqa: F401 - fills the catalogue
from tests.sdks.node import FOLDER, node_with_sdk
from tests.sdks.running import Results, cases_of, chosen_cases, started
from tests.sdks.suite import Sdk

APPS = (
    {"id": "ts-redirects"},
    {"id": "ts-tokens", "asyncResponse": "token"},
    {"id": "ts-proxied", "proxied": True},
)
SDK = Sdk("endpoints", ("node", str(FOLDER / "serve_endpoints.mjs")), APPS)


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    sdk = Sdk(SDK.name, (node_with_sdk(), *SDK.command[1:]), APPS)
    with started(sdk, tmp_path_factory.mktemp("endpoints"), chosen_cases(request)) as results:
        yield results


@pytest.mark.parametrize("case", cases_of(SDK, "endpoints", {}))
def test_scenario(results: Results, case: tuple[str, str]) -> None:
    results.check(case)
