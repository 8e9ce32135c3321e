"""Worlds for functions of both kinds, over an HTTP entry and over Lambda's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.harness import Platform, World, clean_environment
from tests.support.loops import LoopThread
from tests.support.wsgi_server import WsgiThread


@pytest.fixture(scope="package")
def platform() -> Iterator[Platform]:
    with LoopThread("orchestrator") as loops, LoopThread("app") as app_loops, WsgiThread() as wsgi:
        yield Platform(loops, app_loops, wsgi)


@pytest.fixture(params=["async-asgi", "blocking-asgi", "async-lambda", "blocking-lambda"])
def world(platform: Platform, request: pytest.FixtureRequest) -> Iterator[World]:
    driver, _, entry = str(request.param).partition("-")
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        world = World(platform, driver, entry)
        yield world
        world.close()
