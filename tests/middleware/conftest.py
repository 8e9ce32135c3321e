"""Worlds for functions of both kinds, over an HTTP entry and over Lambda's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.harness import Platform, World, clean_environment
from tests.support.loops import LoopThread
from tests.support.wsgi_server import WsgiThread

WORLDS = ["async-asgi", "blocking-lambda", "async-lambda", "blocking-asgi"]

#: These have many cases: every entry and every driver, but not every pair, unless all is asked for.
IN_TWO_WORLDS = ("test_failing_hooks",)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the worlds of a test."""
    if "world" in metafunc.fixturenames and not _has_its_own_world(metafunc):
        module = metafunc.module.__name__.rpartition(".")[2]
        few = module in IN_TWO_WORLDS and not os.environ.get("ONWARD_REQUIRE_ALL")
        metafunc.parametrize("world", WORLDS[:2] if few else WORLDS, indirect=True)


def _has_its_own_world(metafunc: pytest.Metafunc) -> bool:
    return "world" in vars(metafunc.module)


@pytest.fixture(scope="package")
def platform() -> Iterator[Platform]:
    with LoopThread("orchestrator") as loops, LoopThread("app") as app_loops, WsgiThread() as wsgi:
        yield Platform(loops, app_loops, wsgi)


@pytest.fixture
def world(platform: Platform, request: pytest.FixtureRequest) -> Iterator[World]:
    driver, _, entry = str(request.param).partition("-")
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        world = World(platform, driver, entry)
        yield world
        world.close()
