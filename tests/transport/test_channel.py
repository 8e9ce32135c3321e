"""The checkpoint channel on its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from queue import Queue

import pytest

from onward.core.retry import BACKOFF_CEILING, Verdict, backoff
from onward.protocol.signature import bearer_token
from onward.transport import channel as module
from onward.transport.channel import Channel, Keys
from tests.support.checkpoint_api import (
    CLOSE,
    GARBAGE,
    HANG,
    HANGS_AFTER_S,
    NOT_FOUND,
    OK,
    RESET,
    TRUNCATE,
    UNAVAILABLE,
    CheckpointApi,
    Reply,
)
from tests.support.loops import eventually

PATH = "/v1/checkpoint/01M/async"
KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
OTHER = "signkey-prod-00000000000000000000000000000000000000000000000000000000000000ff"


def body(name: str) -> bytes:
    """A checkpoint of one step."""
    op = {"id": name, "op": "StepRun", "userland": {"id": name}}
    return json.dumps({"steps": [op]}, ensure_ascii=False).encode()


class Outcome:
    """What became of one job."""

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self.detail = ""
        self._came = threading.Event()

    def __call__(self, verdict: Verdict, detail: str) -> None:
        self.verdict, self.detail = verdict, detail
        self._came.set()

    def wait(self) -> Verdict | None:
        assert self._came.wait(HANGS_AFTER_S)
        return self.verdict


Post = Callable[..., Outcome]


@pytest.fixture
def channel(api: CheckpointApi) -> Channel:
    return Channel(api.url, headers={"x-inngest-sdk": "onward:v0", "user-agent": "onward:v0"})


def post(channel: Channel, name: str = "a", give_up_in: float | None = None) -> Outcome:
    outcome = Outcome()
    until = None if give_up_in is None else time.monotonic() + give_up_in
    channel.submit(PATH, body(name), outcome, give_up_at=until)
    return outcome


VERDICTS = {
    "200": (OK, Verdict.CONFIRMED),
    "201": (Reply(201), Verdict.CONFIRMED),
    "204": (Reply(204, ""), Verdict.CONFIRMED),
    "302": (Reply(302), Verdict.REFUSED),
    "400": (Reply(400, '{"error": "cannot checkpoint async steps"}'), Verdict.REFUSED),
    "400 run not found": (NOT_FOUND, Verdict.GONE),
    "401": (Reply(401), Verdict.REFUSED),
    "404": (Reply(404), Verdict.REFUSED),
    "409": (Reply(409), Verdict.GONE),
    "410": (Reply(410), Verdict.GONE),
    "413": (Reply(413, '{"error": "too large"}'), Verdict.TOO_LARGE),
}


@pytest.mark.parametrize("answer", VERDICTS)
def test_what_an_answer_means(answer: str, channel: Channel, api: CheckpointApi) -> None:
    reply, verdict = VERDICTS[answer]
    api.default = reply
    outcome = post(channel)
    assert outcome.wait() is verdict
    assert len(api.checkpoints) == 1
    told = reply.body if verdict is Verdict.CONFIRMED else f"status {reply.status}: {reply.body}"
    assert outcome.detail == told


PASSING = {
    "500": Reply(500),
    "502": Reply(502),
    "503": UNAVAILABLE,
    "504": Reply(504),
    "429": Reply(429),
    "reset": Reply(fault=RESET),
    "hung up": Reply(fault=CLOSE),
    "truncated": Reply(fault=TRUNCATE),
    "garbage": Reply(fault=GARBAGE),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again(fault: str, channel: Channel, api: CheckpointApi) -> None:
    api.script(PASSING[fault], PASSING[fault])
    assert post(channel).wait() is Verdict.CONFIRMED
    assert len(api.checkpoints) == 3
    assert {seen.body for seen in api.checkpoints} == {body("a")}


def test_an_answer_that_does_not_come_is_given_up(
    channel: Channel, api: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRY_TIMEOUT", 0.1)
    api.script(Reply(fault=HANG))
    assert post(channel).wait() is Verdict.CONFIRMED
    assert [seen.connection for seen in api.checkpoints] == [1, 2]


def test_a_refused_connection_is_tried_again(channel: Channel, api: CheckpointApi) -> None:
    api.down()
    outcome = post(channel)
    api.up()
    assert outcome.wait() is Verdict.CONFIRMED


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_it_gives_up_in_time(fault: str, channel: Channel, api: CheckpointApi) -> None:
    api.default = PASSING[fault]
    outcome = post(channel, give_up_in=0.2)
    assert outcome.wait() is Verdict.UNCONFIRMED
    assert len(api.checkpoints) > 1
    assert "status 503" in outcome.detail or "Connection" in outcome.detail


def test_one_try_is_made_even_too_late(channel: Channel, api: CheckpointApi) -> None:
    api.default = UNAVAILABLE
    assert post(channel, give_up_in=-5.0).wait() is Verdict.UNCONFIRMED
    assert len(api.checkpoints) == 1


def test_without_a_deadline_the_budget_bounds_it(
    channel: Channel, api: CheckpointApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_BUDGET", 0.1)
    api.default = UNAVAILABLE
    assert post(channel).wait() is Verdict.UNCONFIRMED
    assert post(channel, give_up_in=3600.0).wait() is Verdict.UNCONFIRMED


def test_a_refused_connection_says_so(channel: Channel, api: CheckpointApi) -> None:
    api.down()
    outcome = post(channel, give_up_in=0.05)
    assert outcome.wait() is Verdict.UNCONFIRMED
    assert outcome.detail.startswith("ConnectionRefusedError: ")


def test_backoff_doubles_up_to_a_ceiling_and_is_jittered() -> None:
    longest = [backoff(attempt, 1.0) for attempt in range(20)]
    assert longest[:4] == [0.05, 0.1, 0.2, 0.4]
    assert max(longest) == BACKOFF_CEILING == longest[-1]
    assert [backoff(attempt, 0.0) for attempt in range(20)] == [each / 2 for each in longest]


# ---------------------------------------------------------------------- order and connections


def test_one_run_is_posted_in_order_on_one_connection(channel: Channel, api: CheckpointApi) -> None:
    names = [f"s{n}" for n in range(50)]
    last = Outcome()

    def after(n: int) -> Callable[[Verdict, str], None]:
        def done(verdict: Verdict, detail: str) -> None:
            if n + 1 == len(names):
                last(verdict, detail)
            else:
                channel.submit(PATH, body(names[n + 1]), after(n + 1))

        return done

    channel.submit(PATH, body(names[0]), after(0))
    assert last.wait() is Verdict.CONFIRMED
    assert [seen.steps for seen in api.checkpoints] == [[name] for name in names]
    assert api.connections == 1


def test_a_slow_checkpoint_holds_up_no_other(channel: Channel, api: CheckpointApi) -> None:
    api.script(Reply(fault=HANG))
    slow = post(channel, "slow")
    api.wait_for(1)
    assert post(channel, "quick").wait() is Verdict.CONFIRMED
    assert slow.verdict is None
    api.release()
    assert slow.wait() is Verdict.CONFIRMED


def test_what_waits_for_a_retry_holds_up_no_other(channel: Channel, api: CheckpointApi) -> None:
    api.script(*[UNAVAILABLE] * 3)
    retried = post(channel, "retried")
    api.wait_for(1)
    assert post(channel, "other").wait() is Verdict.CONFIRMED
    assert retried.wait() is Verdict.CONFIRMED


def test_a_callback_that_fails_ends_nothing(
    channel: Channel, api: CheckpointApi, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(verdict: Verdict, detail: str) -> None:
        raise RuntimeError("a defect")

    for _ in range(3):
        channel.submit(PATH, body("a"), broken)
    assert post(channel, "b").wait() is Verdict.CONFIRMED
    eventually(lambda: caplog.text.count("RuntimeError: a defect") == 3, "they are not logged")


def test_closing_ends_threads_and_connections_after_what_is_queued(
    channel: Channel, api: CheckpointApi
) -> None:
    outcomes = [post(channel, f"s{n}") for n in range(5)]
    channel.close()
    assert [outcome.verdict for outcome in outcomes] == [Verdict.CONFIRMED] * 5
    assert not any(lane.is_alive() for lane in channel._lanes)
    eventually(lambda: not api._open, "connections are left open")


def test_nothing_is_opened_before_it_is_needed(channel: Channel, api: CheckpointApi) -> None:
    assert channel._lanes == []
    channel.close()
    assert api.connections == 0


def test_the_round_trip_is_smoothed(channel: Channel, api: CheckpointApi) -> None:
    assert channel.round_trip == 0.0
    post(channel).wait()
    first = channel.round_trip
    assert first > 0
    api.script(Reply(waits=lambda _: time.sleep(0.05)))
    post(channel).wait()
    assert first < channel.round_trip < 10


# ---------------------------------------------------------------------- what is sent


def test_the_request(api: CheckpointApi) -> None:
    channel = Channel(
        f"{api.url}/", Keys(KEY), headers={"x-inngest-sdk": "onward:v9", "user-agent": "onward:v9"}
    )
    post(channel, "żółw").wait()
    (seen,) = api.checkpoints
    assert (seen.method, seen.path) == ("POST", PATH)
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-inngest-sdk"] == seen.headers["user-agent"] == "onward:v9"
    assert seen.headers["authorization"] == f"Bearer {bearer_token(KEY)}"
    assert seen.steps == ["żółw"]


def test_a_base_url_may_have_a_path(api: CheckpointApi) -> None:
    channel = Channel(
        f"{api.url}/behind/", headers={"x-inngest-sdk": "onward:v9", "user-agent": "onward:v9"}
    )
    outcome = Outcome()
    channel.submit("/x", b"{}", outcome)
    assert outcome.wait() is Verdict.REFUSED
    assert [seen.path for seen in api.others] == ["/behind/x"]


def test_a_large_body(channel: Channel, api: CheckpointApi) -> None:
    assert post(channel, "x" * 3_000_000).wait() is Verdict.CONFIRMED


def test_without_keys_nothing_is_authorized(channel: Channel, api: CheckpointApi) -> None:
    post(channel).wait()
    assert "authorization" not in api.checkpoints[0].headers


# ---------------------------------------------------------------------- keys


def test_the_fallback_key_once_and_for_good(api: CheckpointApi) -> None:
    keys = Keys(OTHER, KEY)
    channel = Channel(api.url, keys)
    api.accepts = frozenset({bearer_token(KEY)})
    for _ in range(3):
        assert post(channel).wait() is Verdict.CONFIRMED
    sent = [seen.headers["authorization"].removeprefix("Bearer ") for seen in api.checkpoints]
    assert sent == [bearer_token(OTHER), *[bearer_token(KEY)] * 3]
    api.accepts = frozenset()
    assert post(channel).wait() is Verdict.REFUSED
    assert len(api.checkpoints) == 5


def test_one_refused_key_is_tried_once(api: CheckpointApi) -> None:
    channel = Channel(api.url, Keys(OTHER))
    api.accepts = frozenset({bearer_token(KEY)})
    assert post(channel).wait() is Verdict.REFUSED
    assert len(api.checkpoints) == 1


def test_a_key_that_another_lane_replaced_is_not_dropped_again() -> None:
    keys = Keys(OTHER, KEY)
    refused = keys.authorization()
    assert keys.fall_back(refused)
    assert keys.fall_back(refused)
    assert keys.authorization() == f"Bearer {bearer_token(KEY)}"
    assert not keys.fall_back(keys.authorization())


@pytest.fixture(autouse=True)
def _ends(api: CheckpointApi) -> Iterator[None]:
    yield
    api.release()


def test_where_no_thread_is_to_be_had(api: CheckpointApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lane it is said at once; one that is there does everything; later others come."""
    start = threading.Thread.start
    refused: list[str] = []

    def no_lane(thread: threading.Thread) -> None:
        if thread.name == "onward-checkpoints":
            refused.append(thread.name)
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    channel, told = Channel(api.url), Queue[Verdict]()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_lane)
            with pytest.raises(RuntimeError, match="new thread"):
                channel.submit(PATH, body("a"), lambda verdict, _: told.put(verdict))
        channel.submit(PATH, body("b"), lambda verdict, _: told.put(verdict))
        assert told.get(timeout=HANGS_AFTER_S) is Verdict.CONFIRMED
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_lane)
            for name in ("c", "d", "e"):
                channel.submit(PATH, body(name), lambda verdict, _: told.put(verdict))
            for _ in range(3):
                assert told.get(timeout=HANGS_AFTER_S) is Verdict.CONFIRMED
        # Two that are slow, side by side, need a second lane.
        both = threading.Barrier(2)
        api.script(*[Reply(waits=lambda _: both.wait(HANGS_AFTER_S))] * 2)
        for name in ("f", "g"):
            channel.submit(PATH, body(name), lambda verdict, _: told.put(verdict))
        for _ in range(2):
            assert told.get(timeout=HANGS_AFTER_S) is Verdict.CONFIRMED
    finally:
        channel.close()
    assert refused
    assert sorted(api.stored()) == ["b", "c", "d", "e", "f", "g"]
