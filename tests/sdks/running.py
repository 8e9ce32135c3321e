"""All scenarios of a test file at once; each is awaited by the test that bears its name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.sdks.catalogue import SCENARIOS, scenarios_of
from tests.sdks.suite import PATIENCE_S, Sdk, running
from tests.support.loops import LoopThread

Case = tuple[str, str]


def cases_of(sdk: Sdk, kind: str, only: Mapping[str, frozenset[str]]) -> list[Any]:
    """Every app of `sdk` with every scenario for SDKs of this kind.

    `only` names the scenarios of an app that does not have all of them.
    """
    return [
        pytest.param((app["id"], scenario.name), id=f"{app['id']}-{scenario.name}")
        for app in sdk.apps
        for scenario in scenarios_of(kind)
        if scenario.name in only.get(app["id"], SCENARIOS)
    ]


def chosen_cases(request: pytest.FixtureRequest) -> list[Case]:
    """The cases of this file that will be run."""
    chosen: list[Any] = [
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.path == request.path
        and hasattr(item, "callspec")
        and "case" in item.callspec.params
    ]
    return chosen


class Results:
    """What became of the scenarios that were started."""

    def __init__(self, futures: Mapping[Case, Future[None]]) -> None:
        self._futures = futures

    def check(self, case: Case) -> None:
        """Wait for a scenario; raises what it raised."""
        self._futures[case].result(2 * PATIENCE_S)


@contextmanager
def started(sdk: Sdk, folder: Path, cases: Iterable[Case], **options: Any) -> Iterator[Results]:
    """Serve the SDK's apps and start all `cases`."""
    with LoopThread(sdk.name) as loops:
        suite = loops.enter(running(sdk, folder, **options))
        futures = {
            (app, name): asyncio.run_coroutine_threadsafe(
                SCENARIOS[name].body(suite.apps[app]), loops.loop
            )
            for app, name in cases
        }
        yield Results(futures)
        for future in futures.values():
            future.cancel()
