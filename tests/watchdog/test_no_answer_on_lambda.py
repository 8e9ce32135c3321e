"""On Lambda, a body that cannot be stopped is not answered for: the platform's kill ends it.

An abandoned thread would thaw inside the next invocation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import call_request, request_after
from tests.support.project import ROOT

#: The function's timeout, in seconds.
LIMIT_S = 1.0


class Killed(Exception):  # noqa: N818 - what became of it
    """The process had not answered at the limit."""


def _invoke(
    driver: str, hard: str, request: object, ledger: Path, limit: float = LIMIT_S
) -> dict[str, Any]:
    """The answer of a new process, or Killed: as Lambda does, by SIGKILL at the limit."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "runtime"), str(ROOT / "deploy")])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.watchdog.lambda_process", driver, str(ledger)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        event = {"onward": "call", "function_id": "lab-linear", "request": request}
        asked = json.dumps({"event": event, "remaining": limit, "hard": hard})
        try:
            out, err = process.communicate(f"{asked}\n", timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            assert out == "", "it answered after all"
            raise Killed(err) from None
    assert out, err
    answer: dict[str, Any] = json.loads(out)["answer"]
    return answer


@pytest.mark.parametrize(
    ("driver", "hard"),
    [("async", "stuck in C"), ("blocking", "stuck in C"), ("blocking", "swallows")],
)
def test_it_is_flushed_and_killed_and_costs_that_step_only(
    driver: str, hard: str, api: CheckpointApi, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    with pytest.raises(Killed, match="does not answer, so that the platform ends the process"):
        _invoke(driver, hard, call_request(), ledger)
    assert api.stored() == ["s1", "s2"]
    answer = _invoke(driver, "quick", request_after(api), ledger, 30.0)
    assert answer["body"][-1]["data"] == "done"
    assert ledger.read_text().split() == ["s1", "s2"]


@pytest.mark.parametrize("driver", ["async"])
def test_code_that_keeps_the_gil_until_the_kill_costs_no_more_than_the_buffer(
    driver: str, api: CheckpointApi, tmp_path: Path
) -> None:
    """Nothing else of the process runs then, the watchdog neither: this is the stated window."""
    ledger = tmp_path / "ledger"
    with pytest.raises(Killed):
        _invoke(driver, "gil held", call_request(), ledger)
    assert api.stored() in ([], ["s1", "s2"])
    answer = _invoke(driver, "quick", request_after(api), ledger, 30.0)
    api.keep(answer["body"][:-1])
    assert api.stored() == ["s1", "s2", "hard"]
    names = ledger.read_text().split()
    assert all(names.count(name) <= 2 for name in ("s1", "s2"))
