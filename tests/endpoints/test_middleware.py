"""Middleware around endpoints: their steps pass it, and their callers see no difference."""

from __future__ import annotations

import httpx

from onward.middleware import EncryptionMiddleware
from tests.endpoints import shop
from tests.endpoints.conftest import Shop
from tests.middleware.recorder import Recorder

ME = {"authorization": "me"}


def test_steps_are_encrypted_and_callers_are_answered(the_shop: Shop, driver: str) -> None:
    the_shop.app.middleware = [EncryptionMiddleware("a key")]
    direct = the_shop.ask("GET", f"/{driver}/go")
    assert (direct.status_code, direct.json()) == (200, {"value": 2})
    later = the_shop.ask("GET", f"/{driver}/go?how=mixed")
    assert [earlier.status_code for earlier in later.history] == [302]
    assert (later.status_code, later.json()) == (200, {"value": 2})
    with httpx.Client(trust_env=False, base_url=the_shop.api_url) as client:
        for run_id in the_shop.run_ids():
            steps = client.get(f"/v0/runs/{run_id}/actions").json()
            recorded = [step["data"] for step in steps.values() if step and "data" in step]
            assert recorded
            assert all(data["__ENCRYPTED__"] for data in recorded)


def test_hooks_are_called_once_an_invocation(the_shop: Shop, driver: str) -> None:
    log: list[str] = []
    the_shop.app.middleware = [Recorder("a", log)]
    assert the_shop.ask("GET", f"/{driver}/go").json() == {"value": 2}
    once = ["transform_input", "after_memoization", "before_execution", "after_execution"]
    assert [log.count(f"a.{hook}") for hook in once] == [1, 1, 1, 1]
    assert log.count("a.before_response result") == 1
    assert shop.done["first"] == 1
