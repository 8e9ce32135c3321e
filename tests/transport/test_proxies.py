"""Proxies: the environment's for other hosts, none for this machine."""

from __future__ import annotations

import base64
from http.client import HTTPConnection, HTTPSConnection

import pytest

from onward.core.retry import Verdict
from onward.transport import http
from onward.transport.channel import Channel, Keys, Post, is_loopback
from onward.transport.proxies import proxy_for
from tests.support.checkpoint_api import CheckpointApi
from tests.transport.test_channel import post

DEAD = "http://127.0.0.1:1"


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, DEAD)
        monkeypatch.setenv(name.lower(), DEAD)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.usefixtures("dead_proxy")
def test_this_machine_is_reached_directly(host: str, api: CheckpointApi) -> None:
    channel = Channel(api.url.replace("127.0.0.1", host))
    assert post(channel).wait() is Verdict.CONFIRMED
    channel.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.usefixtures("dead_proxy")
def test_so_are_other_requests(host: str, api: CheckpointApi) -> None:
    api.pages["/page"] = (200, b"[1]")
    assert http.request(api.url.replace("127.0.0.1", host), "GET", "/page") == [1]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("app.localhost", True),
        ("::1", True),
        ("api.inngest.com", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("::11", False),
        ("", False),
    ],
)
def test_what_this_machine_is(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("upper", [True, False])
def test_the_proxy_of_a_scheme(upper: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("http_proxy", "http://plain:1"), ("https_proxy", "http://secure:2")):
        monkeypatch.setenv(name.upper() if upper else name, value)
    assert proxy_for("http", "orchestrator.test") == "http://plain:1"
    assert proxy_for("https", "orchestrator.test") == "http://secure:2"


def test_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_for("https", "orchestrator.test") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:2")
    monkeypatch.setenv("NO_PROXY", "orchestrator.test,.inside.test")
    assert proxy_for("https", "orchestrator.test") is None
    assert proxy_for("https", "a.inside.test") is None
    assert proxy_for("https", "outside.test") == "http://secure:2"
    assert proxy_for("http", "outside.test") is None


def test_a_proxy_for_all_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://every:3")
    assert proxy_for("https", "outside.test") == "http://every:3"
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:2")
    assert proxy_for("https", "outside.test") == "http://secure:2"


@pytest.mark.parametrize("proxy", ["http://proxy.test:3128", "proxy.test:3128"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_connection_goes_through_it(
    scheme: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy)
    made = Post(f"{scheme}://orchestrator.test", Keys(), {"x-inngest-sdk": "onward:v0"})._connect()
    assert isinstance(made, HTTPSConnection if scheme == "https" else HTTPConnection)
    assert (made.host, made.port) == ("proxy.test", 3128)
    tunnel = vars(made)
    assert tunnel["_tunnel_host"] == "orchestrator.test"
    assert tunnel["_tunnel_port"] == (443 if scheme == "https" else 80)


def test_a_proxy_may_want_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:p%40ss@proxy.test:3128")
    made = Post("https://orchestrator.test", Keys(), {"x-inngest-sdk": "onward:v0"})._connect()
    assert (made.host, made.port) == ("proxy.test", 3128)
    wanted = base64.b64encode(b"me:p@ss").decode()
    assert vars(made)["_tunnel_headers"]["Proxy-Authorization"] == f"Basic {wanted}"
