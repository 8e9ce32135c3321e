"""What `onward dev` tells beside runs."""

from __future__ import annotations

import pytest

from onward_deploy.dev.runlog import RunLog
from onward_server import TraceEvent


def test_what_has_no_effect_and_what_does_not_start_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = RunLog()
    log(TraceEvent("notice", "", 0.0, {"app": "shop", "text": "priority has no effect"}))
    skipped = {"function_id": "shop-mail", "event": "order/paid", "reason": "its rateLimit"}
    log(TraceEvent("run.skipped", "", 0.0, skipped))
    notice, start = capsys.readouterr().out.splitlines()
    assert "notice" in notice
    assert notice.endswith("priority has no effect")
    assert "not started" in start
    assert start.endswith("shop-mail  by order/paid: its rateLimit")


def test_an_endpoints_response_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"request_id": "r", "steps": ["charge", "RunComplete"], "new": 1}
    RunLog()(TraceEvent("checkpoint", "run", 0.0, data))
    assert capsys.readouterr().out.rstrip().endswith("checkpoint   charge, the response")
