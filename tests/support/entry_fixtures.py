"""Fixtures around the entries, for the folders' conftest modules to import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onward import aws_lambda
from onward.execution import engine
from onward.transport.channel import Channel
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import AsgiEntry, AsgiServer, Entry, HttpEntry, LambdaEntry, WsgiEntry
from tests.support.loops import LoopThread
from tests.support.wsgi_server import WsgiThread

#: What the runtime reads, and a developer's shell may have set.
VARIABLES = (
    "INNGEST_DEV",
    "INNGEST_BASE_URL",
    "INNGEST_API_BASE_URL",
    "INNGEST_EVENT_API_BASE_URL",
    "INNGEST_SIGNING_KEY",
    "INNGEST_SIGNING_KEY_FALLBACK",
    "INNGEST_EVENT_KEY",
    "INNGEST_ENV",
    "INNGEST_SERVE_ORIGIN",
    "INNGEST_SERVE_HOST",
    "INNGEST_SERVE_PATH",
    "INNGEST_ALLOW_IN_BAND_SYNC",
    "INNGEST_STREAMING",
    "INNGEST_LOG_LEVEL",
    "ONWARD_DEADLINE_MARGIN",
    "ONWARD_FRONT_DOOR_LIMIT",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "VERCEL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the runtime reads is set, and it has seen no body yet."""
    monkeypatch.setattr(engine, "_durations", {})
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def closed_channels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process has one app and so one channel; here each test has, and ends its thread."""
    made: list[Channel] = []
    begin = Channel.__init__

    def noted(self: Channel, *args: Any, **options: Any) -> None:
        made.append(self)
        begin(self, *args, **options)

    monkeypatch.setattr(Channel, "__init__", noted)
    yield
    for channel in made:
        channel.close()


@pytest.fixture(autouse=True)
def no_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no platform here to kill this process: waiting for it is an error."""

    def wait() -> None:
        pytest.fail("the invocation waits for its kill")

    monkeypatch.setattr(aws_lambda, "_wait_for_the_kill", wait)


@pytest.fixture
def api(
    clean_environment: None, closed_channels: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CheckpointApi]:
    """The orchestrator's API, and the environment that points there."""
    with CheckpointApi() as server:
        monkeypatch.setenv("INNGEST_DEV", server.url)
        yield server
    assert server.conflicts == []


@pytest.fixture
def vercel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process looks like Vercel's: the module that tells the deadline is there."""
    monkeypatch.setenv("VERCEL", "1")
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "vercel_standin"))
    importlib.import_module("vercel_runtime")
    yield
    del sys.modules["vercel_runtime"]


@pytest.fixture(scope="package")
def asgi_server() -> Iterator[AsgiServer]:
    """A server on a thread of its own."""
    with LoopThread("asgi-server") as loops:
        yield AsgiServer(loops)


@pytest.fixture
def asgi(asgi_server: AsgiServer, vercel: None) -> AsgiEntry:
    """The ASGI entry, on a platform that can tell a deadline."""
    return AsgiEntry(asgi_server)


@pytest.fixture(scope="package")
def wsgi_server() -> Iterator[WsgiThread]:
    """A server that gives each request a thread."""
    with WsgiThread() as server:
        yield server


@pytest.fixture
def wsgi(wsgi_server: WsgiThread, vercel: None) -> WsgiEntry:
    """The WSGI entry, on a platform that can tell a deadline."""
    return WsgiEntry(wsgi_server)


@pytest.fixture(params=["asgi", "wsgi", "lambda"])
def entry(request: pytest.FixtureRequest) -> Entry:
    """Every entry, one after the other."""
    if request.param == "lambda":
        return LambdaEntry()
    found: HttpEntry = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["asgi", "wsgi"])
def http(request: pytest.FixtureRequest) -> HttpEntry:
    """Both entries that speak HTTP, one after the other."""
    found: HttpEntry = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["async", "blocking"])
def driver(request: pytest.FixtureRequest) -> str:
    """Both drivers, one after the other."""
    return str(request.param)
