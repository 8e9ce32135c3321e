"""Two invocations of one run at once: the older one is fenced off, and leaves all to the newer."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from tests.failures.faults import GONE, NAMES, linear
from tests.support.checkpoint_api import CheckpointApi, Reply, Seen
from tests.support.entries import Answer, HttpEntry, request_after, shape_of
from tests.support.linear import Ledger

MODES: dict[str, dict[str, object]] = {
    "confirmed": {},
    "buffered": {"buffered_steps": 3},
    "pipelined": {"mode": "pipelined"},
}


class Fence:
    """Makes an API take the checkpoints of the newest invocation alone; others get `refusal`."""

    def __init__(self, api: CheckpointApi, refusal: Reply) -> None:
        self._api, self._refusal, self._reply = api, refusal, api._reply_to
        self.owner = ""
        vars(api)["_reply_to"] = self._reply_to

    def _reply_to(self, seen: Seen) -> Reply:
        own = seen.json()["request_id"] == self.owner
        return self._reply(seen) if own else self._refusal

    def next(self) -> dict[str, object]:
        """The request of an invocation that owns the run from now on."""
        request = request_after(self._api)
        self.owner = request["ctx"]["request_id"]
        return request


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("mode", MODES)
def test_the_older_invocation_starts_nothing_more(
    *,
    http: HttpEntry,
    driver: str,
    mode: str,
    gone: str,
    api: CheckpointApi,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The newer one runs from beginning to end while a body of the older one does."""
    fence, ledger = Fence(api, GONE[gone]), Ledger()
    newer: list[Answer] = []
    known: list[str] = []

    def taken_over() -> None:
        if ledger.began.count("s3") == 1:
            if mode == "pipelined":
                api.wait_for(2)  # or the older one hears of it now, and this body is stopped
            request = fence.next()
            known.extend(api.stored())
            newer.append(http.call(app, request))

    plan = ledger.bodies(*NAMES)
    plan[2] = ("s3", ledger.body("s3", taken_over))
    app = linear(driver, ledger, plan, **MODES[mode])
    with caplog.at_level(logging.WARNING, "onward"):
        older = http.call(app, fence.next())
    assert [shape_of(older), shape_of(newer[0])] == ["over", "complete"]
    assert older.ops[0]["id"]
    began = Counter(ledger.began)
    # Pipelined, the next body may have begun before the answer was there; none begins after it.
    assert began["s4"] + began["s5"] <= (4 if mode == "pipelined" else 2)
    assert all(began[step] == 1 for step in known)
    assert ledger.unwound == 2
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(said) == 1, said
    assert "this run is over" in said[0]
