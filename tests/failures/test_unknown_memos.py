"""Recorded results that nothing here can read: nothing is run, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from onward.core.ids import hash_id
from onward.middleware.base import Call, Middleware, Outcome
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import Entry, call_request, shape_of
from tests.support.linear import Ledger, linear_app


class Reading(Middleware):
    """It reads every recorded outcome."""

    def transform_recorded(self, call: Call, outcome: Outcome) -> Outcome:
        return outcome


@pytest.mark.parametrize("middleware", [(), (Reading(),)], ids=["without", "middleware"])
def test_an_entry_of_a_shape_that_is_not_known(
    entry: Entry, driver: str, middleware: Any, api: CheckpointApi
) -> None:
    """A newer server's, for instance: `input` is one that other SDKs know."""
    ledger = Ledger()
    app = linear_app(driver, ledger, ledger.bodies("s1", "s2"), middleware=middleware)
    answer = entry.call(app, call_request({hash_id("s1"): {"input": [1]}}))
    assert shape_of(answer) == "error"
    assert answer.status == 500
    assert answer.body["name"] == "MalformedCallRequestError"
    for part in ("'s1'", "'input'", "no result is lost"):
        assert part in answer.body["message"]
    assert (ledger.began, api.checkpoints) == ([], [])
    again = entry.call(app, call_request({hash_id("s1"): {"data": 1}}))
    assert again.ops[-1]["data"] == [1, "result of s2"]
