"""The emulator does what these tests rely on: it counts down, kills for real, starts anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.rie import Rie

HANDLER = """
import os, pathlib, signal, sys, time

def handler(event, context):
    if event.get("raise"):
        raise ValueError("asked to")
    answer = {"pid": os.getpid(), "left_ms": context.get_remaining_time_in_millis(),
              "name": context.function_name, "colour": os.environ.get("COLOUR")}
    if "sleep" in event:
        signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(event["trace"]).write_text("term"))
        try:
            time.sleep(event["sleep"])
        finally:
            pathlib.Path(event["trace"]).write_text("finally")
    return answer
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "a bundle"
    folder.mkdir()
    (folder / "app.py").write_text(HANDLER)
    return folder


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_warm_process_answers_again_and_learns_its_remaining_time(bundle: Path) -> None:
    with Rie("app.handler", bundle, timeout_s=5, env={"COLOUR": "blue"}, name="demo") as rie:
        first, second = rie.invoke({}).json(), rie.invoke({}).json()
        assert first["pid"] == second["pid"]
        assert rie.pids() == [first["pid"]]
        assert 0 < first["left_ms"] <= 5000
        assert (first["name"], first["colour"]) == ("demo", "blue")
    assert not _alive(first["pid"])


def test_at_the_timeout_the_process_is_killed_and_nothing_of_it_runs(
    bundle: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    with Rie("app.handler", bundle, timeout_s=1) as rie:
        before = rie.invoke({}).json()["pid"]
        answer = rie.invoke({"sleep": 30, "trace": str(trace)})
        assert answer.status == 200
        assert answer.timed_out
        assert not trace.exists()
        assert not _alive(before)
        assert rie.invoke({}).json()["pid"] != before


def test_a_raised_error_answers_200_with_its_name(bundle: Path) -> None:
    with Rie("app.handler", bundle) as rie:
        answer = rie.invoke({"raise": True})
    assert answer.status == 200
    assert answer.json()["errorType"] == "ValueError"
    assert answer.json()["errorMessage"] == "asked to"


def test_leaving_ends_every_process_even_in_mid_call(bundle: Path, tmp_path: Path) -> None:
    with Rie("app.handler", bundle, timeout_s=30) as rie:
        pid = rie.invoke({}).json()["pid"]
        with pytest.raises(TimeoutError):
            rie.invoke({"sleep": 25, "trace": str(tmp_path / "trace")}, wait_s=0.2)
        emulator_pid = next(p for p in rie._marked() if p != pid)
        assert _alive(pid)
    assert not _alive(pid)
    assert not _alive(emulator_pid)
