"""`onward dev`, `onward send` and `onward runs`, together and for real."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.command import APPS, PIPELINE, alive, descendants, onward, started, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.command import Running


@contextlib.contextmanager
def dev(*arguments: str) -> Iterator[tuple[Running, str]]:
    """`onward dev --json` on a free port; its URL."""
    with started("dev", PIPELINE, "--port", "0", "--json", *arguments) as running:
        yield running, running.wait_for_json(kind="ready")["url"]


def ask(*arguments: str, url: str) -> Any:
    """The JSON of a command that has to succeed."""
    done = onward(*arguments, "--url", url, "--json")
    assert done.status == 0, done
    return done.json


def test_an_event_starts_a_run_that_can_be_listed_and_shown() -> None:
    with dev() as (running, url):
        sent = ask("send", "pipeline/two-branches", "--data", '{"a": 1}', url=url)
        (event_id,) = sent["ids"]
        ended = running.wait_for_json(kind="run.ended")
        assert ended["status"] == "Completed"
        (listed,) = ask("runs", "list", url=url)["runs"]
        assert listed["run_id"] == ended["run_id"]
        assert listed["event_id"] == event_id
        shown = ask("runs", "show", ended["run_id"], url=url)
        assert shown["status"] == "Completed"
        words = onward("runs", "show", ended["run_id"], "--url", url)
        assert "completed" in words.out
        assert "1" in words.out
        assert ask("runs", "show", ended["run_id"][-8:].lower(), url=url) == shown
        wrong = onward("runs", "show", "ZZZZZZZZ", "--url", url)
        assert wrong.status == 1
        assert "ends in 'ZZZZZZZZ'" in wrong.err
        table = onward("runs", "list", "--url", url)
        assert ended["run_id"] in table.out
        assert "ago" in table.out


def test_the_address_comes_from_the_environment_too() -> None:
    with dev() as (running, url):
        done = onward("send", "pipeline/two-branches", INNGEST_DEV=url)
        assert done.status == 0, done
        assert done.out.startswith("sent pipeline/two-branches as ")
        running.wait_for_json(kind="run.ended", status="Completed")


def test_an_event_id_starts_its_runs_once() -> None:
    with dev() as (running, url):
        for _ in range(2):
            ask("send", "pipeline/two-branches", "--id", "the-same", url=url)
        running.wait_for_json(kind="run.ended")
        assert len(ask("runs", "list", url=url)["runs"]) == 1


def test_a_cancelled_run_starts_no_further_body(tmp_path: Path) -> None:
    with dev() as (running, url):
        ask("send", "pipeline/gated", "--data", f'{{"folder": "{tmp_path}"}}', url=url)
        run_id = running.wait_for_json(kind="run.started")["run_id"]
        wait_until((tmp_path / "first").exists, "the first body started")
        assert ask("runs", "cancel", run_id, url=url)["status"] == "cancelled"
        assert running.wait_for_json(kind="run.ended")["status"] == "Cancelled"
        (tmp_path / "go").touch()
        running.wait_for_json(kind="call.ended")
        assert ask("runs", "show", run_id, url=url)["status"] == "Cancelled"
        assert not (tmp_path / "second").exists()


def test_the_log_tells_what_happens_as_it_happens() -> None:
    with started("dev", PIPELINE, "--port", "0") as running:
        url = running.wait_for("orchestrator").split()[1]
        running.wait_for("pipeline-parts")
        running.wait_for("Ctrl-C stops.")
        onward("send", "pipeline/noisy", "--url", url)
        running.wait_for("started")
        running.wait_for("│ from the step")
        running.wait_for("completed")
        assert running.end() == 0


def test_an_app_that_names_another_orchestrator_uses_this_one() -> None:
    with started("dev", str(APPS / "elsewhere.py"), "--port", "0") as running:
        url = running.wait_for("  orchestrator  ").split()[1]
        triggers = running.wait_for("elsewhere-note")
        assert triggers.endswith("elsewhere/note, cron TZ=Europe/Berlin 0 3 1 1 *")
        running.wait_for("Ctrl-C stops.")
        onward("send", "elsewhere/note", "--url", url)
        running.wait_for("│ INFO taking note")
        running.wait_for("checkpoint")
        running.wait_for("completed")
        assert running.end() == 0
        said = "\n".join(running.seen)
    assert said.count("has no effect on the embedded orchestrator") == 1


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing_even_in_the_middle_of_a_body(
    tmp_path: Path, signal_: signal.Signals
) -> None:
    marker = tmp_path / "pid"
    with dev() as (running, url):
        ask("send", "pipeline/children", "--data", f'{{"marker": "{marker}"}}', url=url)
        wait_until(lambda: marker.exists() and marker.read_text(), "the body started")
        left = descendants(running.process.pid)
        assert int(marker.read_text()) in left
        assert running.end(signal_) == 0
        assert [pid for pid in left if alive(pid)] == []


def test_a_crash_of_the_app_does_not_take_the_orchestrator_along(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with dev() as (running, url):
        ask("send", "pipeline/crash-once", "--data", f'{{"marker": "{marker}"}}', url=url)
        assert "exited with status 3" in running.wait_for_json(kind="app")["message"]
        ended = running.wait_for_json(kind="run.ended")
        assert ended["status"] == "Completed"
        assert ask("runs", "show", ended["run_id"], url=url)["status"] == "Completed"


def test_runs_in_a_file_go_on_after_a_restart(tmp_path: Path) -> None:
    db = str(tmp_path / "runs.db")
    (tmp_path / "go").touch()
    with dev("--db", db) as (running, url):
        data = f'{{"folder": "{tmp_path}", "nap": "2s"}}'
        ask("send", "pipeline/gated", "--data", data, url=url)
        running.wait_for_json(kind="checkpoint")
        assert running.end() == 0
    with dev("--db", db) as (running, _):
        ended = running.wait_for_json(kind="run.ended")
        assert ended["status"] == "Completed"
    assert (tmp_path / "first").read_text() == "1"


def test_a_port_in_use_is_named_with_how_to_choose_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = onward("dev", PIPELINE, "--port", str(port))
    assert done.status == 2, done
    assert f"Port {port} on 127.0.0.1 is in use" in done.err
    assert f"--port {port + 1}" in done.err


def test_an_app_that_cannot_be_loaded_ends_the_command() -> None:
    done = onward("dev", str(APPS / "broken.py"), "--port", "0")
    assert done.status == 2, done
    assert "RuntimeError: the settings are missing" in done.err
    gone = onward("dev", str(APPS / "vanishing.py"), "--port", "0")
    assert gone.status == 1, gone
    assert "exited with status 7" in gone.err


def test_a_database_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    newer = tmp_path / "newer.db"
    with contextlib.closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 9999")
        connection.execute("CREATE TABLE anything (it)")
        connection.commit()
    text = tmp_path / "text.db"
    text.write_text("this is no database, and long enough to be seen as none " * 10)
    for path in (newer, text, tmp_path / "no" / "such" / "folder.db"):
        done = onward("dev", PIPELINE, "--port", "0", "--db", str(path))
        assert done.status != 0, done
        assert "Traceback" not in done.err
        assert str(path) in done.err.replace("\n", "")
    assert text.read_text().startswith("this is no database")


def test_nothing_there_says_what_to_start() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for command in (("send", "x"), ("runs", "list"), ("runs", "show", "R")):
            done = onward(*command, "--url", url)
            assert done.status == 1, done
            assert f"Nothing answers at {url}" in done.err
            assert "onward dev" in done.err


def test_what_the_orchestrator_refuses_is_said_in_its_words() -> None:
    with dev() as (_, url):
        for run in ("show", "cancel"):
            unknown = onward("runs", run, "01M835KW7QN227YFS04ACG1WRZ", "--url", url)
            assert unknown.status == 1, unknown
            assert "01M835KW7QN227YFS04ACG1WRZ" in unknown.err
        reserved = onward("send", "inngest/reserved", "--url", url)
        assert reserved.status == 1, reserved
        assert "reserved" in reserved.err
    nameless = onward("send", " ")
    assert nameless.status == 2
    assert onward("send", "x", "--url", "localhost:8288").status == 2


def test_the_apps_process_ends_with_a_parent_that_was_killed() -> None:
    with dev() as (running, _):
        left = descendants(running.process.pid)
        assert left
        os.kill(running.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, left)), "the app ended with its parent")
