"""Worlds: every scenario runs over each driver, each entry and each mode of checkpointing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.harness import Platform, World, clean_environment
from tests.support.loops import LoopThread
from tests.support.matrix import spread
from tests.support.wsgi_server import WsgiThread


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each scenario over the matrix."""
    spread(metafunc)


@pytest.fixture(scope="package")
def platform() -> Iterator[Platform]:
    with LoopThread("orchestrator") as loops, LoopThread("app") as app_loops, WsgiThread() as wsgi:
        yield Platform(loops, app_loops, wsgi)


def _world(platform: Platform, driver: str, entry: str, mode: str | None) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        world = World(platform, driver, entry, mode=mode)
        yield world
        world.close()


@pytest.fixture
def entry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def checkpointing(request: pytest.FixtureRequest) -> str | None:
    """The mode, by its name; None where the scenario chooses its own options."""
    return getattr(request, "param", None)


@pytest.fixture
def world(
    platform: Platform, driver: str, entry: str, checkpointing: str | None
) -> Iterator[World]:
    """A world for functions of both kinds."""
    yield from _world(platform, driver, entry, checkpointing)


@pytest.fixture
def async_world(platform: Platform, entry: str, checkpointing: str | None) -> Iterator[World]:
    """A world for what only async functions have."""
    yield from _world(platform, "async", entry, checkpointing)


@pytest.fixture
def blocking_world(platform: Platform, entry: str, checkpointing: str | None) -> Iterator[World]:
    """A world for what only blocking functions have."""
    yield from _world(platform, "blocking", entry, checkpointing)
