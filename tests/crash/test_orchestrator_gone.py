"""The orchestrator killed in the middle of a run and away for seconds: the run waits and goes on.

The real commands, without a crash point anywhere: `python -m onward_server` and uvicorn.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.command import environment, wait_until
from tests.crash.boundaries import check
from tests.crash.pipeline import LEDGER, MODES, PAUSE, WAITS, Ledger, app
from tests.crash.world import Played, free_ports, memoized_in
from tests.support.project import ROOT
from tests.support.tools import all_required

#: How long it is away, in seconds.
AWAY_S = 10.0 if all_required() else 2.0


@contextlib.contextmanager
def running(*command: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m COMMAND` until the block ends, or until it is killed."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment(**environ),
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Client:
    """Asks what serves at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON value. Raises httpx.HTTPError where there is none."""
        with httpx.Client(trust_env=False, base_url=self._url) as client:
            answer = client.request(method, path, json=body)
            answer.raise_for_status()
            return answer.json()

    def until_it_answers(self, path: str) -> None:
        """Wait until something serves there."""

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return bool(self("GET", path))
            return False

        wait_until(answers, f"an answer from {self._url}")


@pytest.mark.slow  # it waits for as long as the orchestrator is away
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("blocking", "buffered-1"), ("async", "buffered-3"), ("blocking", "pipelined")],
)
def test_the_run_goes_on_when_the_orchestrator_is_back(
    kind: str, mode: str, tmp_path: Path
) -> None:
    port, own = free_ports(2)
    db, ledger = tmp_path / "runs.db", tmp_path / "ledger"
    orchestrator, function = Client(f"http://127.0.0.1:{port}"), Client(f"http://127.0.0.1:{own}")
    serve = ("onward_server", "--db", str(db), "--port", str(port), "--retry-base", "0.05")
    settings = {LEDGER: str(ledger), PAUSE: "0.05", "INNGEST_DEV": f"http://127.0.0.1:{port}"}
    played = Played()
    with running("uvicorn", "tests.crash.pipeline:served", "--port", str(own), **settings) as app_:
        with running(*serve) as killed:
            orchestrator.until_it_answers("/health")
            function.until_it_answers("/api/inngest")
            orchestrator("POST", "/fn/register", app.registration(f"{function._url}/api/inngest"))
            orchestrator("POST", "/e/key", {"name": f"{kind}/{mode}", "data": {}})
            (run,) = orchestrator("GET", "/v1/runs")["data"]
            run_id, late = run["run_id"], f"s{MODES[mode][1] - 1}"
            wait_until(lambda: late in Ledger.of(ledger, run_id).starts, f"the start of {late}")
            killed.kill()
            played.killed = killed.wait()
        played.confirmed = memoized_in(db, tmp_path / "copy")
        assert len(played.confirmed) >= 3
        assert played.killed == -signal.SIGKILL
        time.sleep(AWAY_S)
        with running(*serve):
            orchestrator.until_it_answers("/health")
            path = f"/v1/runs/{run_id}"
            wait_until(
                lambda: orchestrator("GET", path)["data"]["status"] != "Running", "the run's end"
            )
            assert app_.poll() is None
            os.kill(app_.pid, signal.SIGKILL)
            app_.wait()
            played.run = orchestrator("GET", path)["data"]
            steps = orchestrator("GET", f"{path}/steps")["data"]
            played.runs = len(orchestrator("GET", "/v1/runs")["data"])
    played.journal = [step["name"] for step in steps if step["name"] not in WAITS]
    played.ledger = Ledger.of(ledger, run_id)
    check(played, mode)
