"""`Retry-After`: a checkpoint is not sent again before, and is given up if that is too late."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from onward.core.retry import Verdict
from onward.transport.channel import Channel, retry_after
from tests.support.checkpoint_api import CheckpointApi, Reply
from tests.transport.test_channel import PATH, Outcome, post


def busy(wait: str, status: int = 429) -> Reply:
    return Reply(status, '{"error": "too many requests"}', headers={"retry-after": wait})


@pytest.mark.parametrize("status", [429, 503])
def test_it_is_waited_for(status: int, api: CheckpointApi) -> None:
    came: list[float] = []
    api.script(
        Reply(status, headers={"retry-after": "1"}, waits=lambda _: came.append(time.monotonic())),
        Reply(waits=lambda _: came.append(time.monotonic())),
    )
    channel = Channel(api.url)
    assert post(channel).wait() is Verdict.CONFIRMED
    assert came[1] - came[0] >= 1.0
    channel.close()


def test_one_that_ends_after_the_deadline_is_not_waited_for(api: CheckpointApi) -> None:
    api.script(busy("3600"))
    channel = Channel(api.url)
    outcome = post(channel, give_up_in=20.0)
    assert outcome.wait() is Verdict.UNCONFIRMED
    assert "status 429" in outcome.detail
    assert len(api.checkpoints) == 1
    channel.close()


@pytest.mark.parametrize("wait", ["soon", "-5", "", "1.5", "٣"])
def test_what_is_none_is_not_kept(wait: str, api: CheckpointApi) -> None:
    assert retry_after(wait) == 0.0
    api.script(busy(wait.encode("ascii", "ignore").decode()))
    channel = Channel(api.url)
    assert post(channel).wait() is Verdict.CONFIRMED
    assert len(api.checkpoints) == 2
    channel.close()


def test_a_date_is_an_instant() -> None:
    later = datetime.now(UTC) + timedelta(seconds=60)
    assert 55 < retry_after(format_datetime(later, usegmt=True)) <= 60
    assert retry_after(format_datetime(later - timedelta(hours=1), usegmt=True)) == 0.0
    assert retry_after(None) == 0.0


def test_a_reading_gets_the_answer_itself(api: CheckpointApi) -> None:
    path = "/v0/runs/01M/actions"
    api.pages[path] = (200, b'{"id": {"data": 1}}')
    channel = Channel(api.url)
    outcome = Outcome()
    channel.read(path, outcome)
    assert outcome.wait() is Verdict.CONFIRMED
    assert outcome.detail == '{"id": {"data": 1}}'
    (seen,) = api.others
    assert (seen.method, seen.body) == ("GET", b"")
    assert post(channel).wait() is Verdict.CONFIRMED
    assert api.checkpoints[0].path == PATH
    assert api.connections == 1
    channel.close()


def test_a_journal_that_is_not_there_says_nothing_about_checkpoints(api: CheckpointApi) -> None:
    channel = Channel(api.url)
    outcome = Outcome()
    channel.read("/v1/elsewhere", outcome)
    assert outcome.wait() is Verdict.REFUSED
    assert not channel.too_old
    channel.close()
