"""What follows from an answer, decided without a network; and threads that make requests."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from onward.errors import OnwardError, OrchestratorUnavailableError
from onward.protocol.signature import bearer_token
from onward.transport import http, lanes
from onward.transport.channel import Keys
from onward.transport.http import Ask, Pause, Reply, answered, asking
from tests.support.checkpoint_api import CheckpointApi
from tests.transport.test_http import KEY, OTHER

ASK = Ask("http://127.0.0.1:1", "GET", "/page")


def steps(plan: Generator[Any, Any, Any], *replies: Reply) -> tuple[list[Any], Any]:
    """What `plan` does when it gets `replies`, and what comes of it."""
    done, answers = [], iter(replies)
    action = next(plan)
    while True:
        done.append(action)
        try:
            action = plan.send(next(answers) if isinstance(action, Ask) else None)
        except StopIteration as end:
            return done, end.value


def test_a_success_is_asked_for_once() -> None:
    done, reply = steps(asking(ASK, tries=5), Reply(200, "1"))
    assert done == [ASK]
    assert reply.json() == 1


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_what_may_pass_is_tried_again_after_a_growing_pause(status: int) -> None:
    done, reply = steps(asking(ASK, tries=4), *[Reply(status)] * 3, Reply(200))
    assert reply.good
    pauses = [each.seconds for each in done if isinstance(each, Pause)]
    assert [type(each) for each in done] == [Ask, Pause, Ask, Pause, Ask, Pause, Ask]
    for number, seconds in enumerate(pauses):
        assert 0.05 * 2**number <= seconds <= 0.15 * 2**number


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413])
def test_a_refusal_is_not(status: int) -> None:
    done, reply = steps(asking(ASK, tries=4), Reply(status))
    assert done == [ASK]
    assert reply.status == status


def test_the_last_reply_counts() -> None:
    done, reply = steps(asking(ASK, tries=2), Reply(503), Reply(429, "later"))
    assert len(done) == 3
    assert (reply.status, reply.text) == (429, "later")


def test_after_a_minute_it_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BUDGET", -1.0)
    done, reply = steps(asking(ASK, tries=5), Reply(503))
    assert done == [ASK]
    assert reply.status == 503


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_is_kept(status: int) -> None:
    done, _ = steps(asking(ASK, tries=2), Reply(status, headers={"retry-after": "7"}), Reply(200))
    assert done[1] == Pause(7.0)


def test_one_that_is_too_long_is_not_waited_for() -> None:
    done, reply = steps(asking(ASK, tries=5), Reply(429, headers={"retry-after": "3600"}))
    assert done == [ASK]
    assert reply.status == 429


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("", 0, 0), ("2", 2, 2), ("soon", 0, 0), (2, 7_000, 7_200), (-2, 0, 0)],
)
def test_a_retry_after_as_seconds_or_as_a_date(
    header: str | int, least: float, most: float
) -> None:
    """A number stands for the date that is so many hours from now."""
    if isinstance(header, int):
        header = format_datetime(datetime.now(UTC) + timedelta(hours=header))
    assert least <= Reply(429, headers={"retry-after": header}).retry_after() <= most


def test_a_refused_key_is_replaced_once() -> None:
    ask = Ask("http://127.0.0.1:1", "GET", "/page", keys=Keys(OTHER, KEY))
    refused = f"Bearer {bearer_token(OTHER)}"
    done, reply = steps(asking(ask, tries=3), Reply(401, key=refused), Reply(401))
    assert done == [ask, ask]
    assert reply.status == 401


def test_messages_hide_the_event_key() -> None:
    ask = Ask("https://inn.gs", "POST", "/e/secret", b"[]")
    for reply in (Reply(0, "refused"), Reply(500), Reply(404)):
        message = http.refused(ask, reply).message
        assert "secret" not in message
        assert "POST https://inn.gs/e/…" in message


def test_what_is_raised() -> None:
    with pytest.raises(OrchestratorUnavailableError, match=r"got no answer \(down\)"):
        steps(answered(ASK), Reply(0, "down"))
    with pytest.raises(OnwardError, match="answered 200 without JSON: <html>"):
        steps(answered(ASK), Reply(200, "<html>"))
    assert steps(answered(ASK), Reply(204))[1] is None


def test_a_journal_is_asked_for_again(api: CheckpointApi) -> None:
    """The first answers are 503, then the journal is there."""
    pages = {"/v0/runs/01M/actions": b"{}", "/v0/runs/01M/batch": b"[]"}
    for path in pages:
        api.pages[path] = (503, b"busy")
    plan = answered(Ask(api.url, "GET", "/v0/runs/01M/actions"), tries=http.JOURNAL_TRIES)
    first = next(plan)
    assert isinstance(first, Ask)
    assert isinstance(plan.send(http.exchange(first)), Pause)
    for path, page in pages.items():
        api.pages[path] = (200, page)
    second = plan.send(None)
    assert isinstance(second, Ask)
    with pytest.raises(StopIteration) as end:
        plan.send(http.exchange(second))
    assert end.value.value == {}


# ---------------------------------------------------------------------- connections


def test_connections_are_kept_for_the_latest_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_MOST_CLIENTS", 2)
    http.clients.close()
    with CheckpointApi() as one, CheckpointApi() as two, CheckpointApi() as three:
        for api in (one, two, three):
            api.pages["/page"] = (200, b"1")
        for api in (one, two, one, two, three, three, one):
            assert http.request(api.url, "GET", "/page") == 1
        assert [api.connections for api in (one, two, three)] == [2, 1, 1]
        http.clients.close()


def test_a_connection_that_the_server_closed_is_replaced(api: CheckpointApi) -> None:
    api.pages["/page"] = (200, b"1")
    assert http.request(api.url, "GET", "/page") == 1
    api.down()
    api.up()
    assert http.request(api.url, "GET", "/page") == 1
    assert api.connections == 2
    http.clients.close()


def test_requests_go_through_the_proxy_of_the_environment(
    api: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy is asked for the whole address, of a host that only it could know."""
    monkeypatch.setenv("http_proxy", api.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    api.pages["http://orchestrator.invalid/page"] = (200, b"1")
    assert http.request("http://orchestrator.invalid", "GET", "/page") == 1
    http.clients.close()


def test_an_authority_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SSL_CERT_FILE` names what a company's orchestrator is signed by."""
    certificate, key = _self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "1")
            self.end_headers()
            self.wfile.write(b"1")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"https://127.0.0.1:{server.server_port}"
    try:
        for trusted in (False, True):
            http.clients.close()
            http._trusted.cache_clear()
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
                assert http.request(url, "GET", "/page") == 1
            else:
                with pytest.raises(OrchestratorUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                    http.request(url, "GET", "/page")
    finally:
        http.clients.close()
        http._trusted.cache_clear()
        server.shutdown()
        server.server_close()
        thread.join()


def _self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orchestrator")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


# ---------------------------------------------------------------------- lanes


def test_lanes_are_shared_and_few() -> None:
    own = lanes.Lanes()
    running = threading.Semaphore(0)
    go_on = threading.Event()

    def work() -> str:
        running.release()
        go_on.wait(30)
        return threading.current_thread().name

    async def many() -> list[str]:
        calls = [asyncio.ensure_future(own.call(work)) for _ in range(3 * lanes.MOST)]
        await asyncio.sleep(0)
        for _ in range(lanes.MOST):
            await asyncio.to_thread(running.acquire)
        assert not running.acquire(blocking=False)
        go_on.set()
        return await asyncio.gather(*calls)

    assert asyncio.run(many()) == ["onward-requests"] * 3 * lanes.MOST


def test_lanes_end_when_nobody_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "IDLE_S", 0.01)
    own = lanes.Lanes()
    threads = []

    async def twice() -> None:
        for _ in range(2):
            threads.append(await own.call(threading.current_thread))
            await asyncio.to_thread(threads[-1].join, 30)
            assert not threads[-1].is_alive()

    asyncio.run(twice())
    assert threads[0] is not threads[1]


def test_a_lane_raises_where_it_is_awaited() -> None:
    def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(lanes.Lanes().call(work))


def test_work_that_is_cancelled_before_it_begins_is_not_done() -> None:
    own, done, gate = lanes.Lanes(), [], threading.Event()

    async def cancelled() -> None:
        busy = [asyncio.ensure_future(own.call(lambda: gate.wait(30))) for _ in range(lanes.MOST)]
        await asyncio.sleep(0)
        late = asyncio.ensure_future(own.call(lambda: done.append(1)))
        await asyncio.sleep(0)
        late.cancel()
        gate.set()
        await asyncio.gather(*busy)
        with pytest.raises(asyncio.CancelledError):
            await late
        await own.call(lambda: None)

    asyncio.run(cancelled())
    assert done == []


def test_a_loop_that_is_gone_is_not_told() -> None:
    own, gate, ended = lanes.Lanes(), threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(30)
        ended.set()

    async def leave() -> None:
        asyncio.ensure_future(own.call(work)).cancel()
        task = asyncio.ensure_future(own.call(work))
        await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(leave())
    gate.set()
    assert ended.wait(30)
    assert asyncio.run(own.call(lambda: "still works")) == "still works"
