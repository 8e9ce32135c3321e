"""Which scenarios there are, and for which SDKs and configurations each one is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.sdks.suite import App

Body = Callable[[App], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Scenario:
    """What happens and what must come of it, on an app of any SDK that has the feature."""

    name: str
    body: Body
    sdks: frozenset[str]


SCENARIOS: dict[str, Scenario] = {}


def scenario(*sdks: str) -> Callable[[Body], Body]:
    """Add a scenario, for both SDKs unless they are named."""

    def add(body: Body) -> Body:
        name = body.__name__.replace("_", "-")
        assert name not in SCENARIOS, name
        SCENARIOS[name] = Scenario(name, body, frozenset(sdks or ("typescript", "python")))
        return body

    return add


def scenarios_of(sdk: str) -> list[Scenario]:
    """The scenarios for an SDK."""
    return [scenario for scenario in SCENARIOS.values() if sdk in scenario.sdks]
