"""`onward run`: real processes, real kills."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

from tests.cli.command import (
    APPS,
    PIPELINE,
    alive,
    descendants,
    onward,
    run_json,
    started,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

#: What scripts may rely on.
FIELDS = {
    "status",
    "run_id",
    "result",
    "error",
    "invocations",
    "steps",
    "steps_repeated",
    "repeated",
    "checkpoints",
    "continuations",
    "killed",
    "wall_ms",
}


def test_a_run_ends_with_its_result_and_one_line_that_sums_it_up() -> None:
    done = onward("run", PIPELINE, "parts", "--data", '{"steps": 4, "report": "out/report.md"}')
    assert done.status == 0, done
    assert '"total": 6' in done.out
    assert done.last_line == "4 steps, 0 repeated, 1 invocation, 0 killed; report in out/report.md"
    assert "complete" in done.out
    assert not done.err


def test_json_is_one_object_with_what_scripts_need() -> None:
    report = run_json(f"{PIPELINE}:app", "parts", "--data", '{"steps": 4}')
    assert report.keys() >= FIELDS
    assert report["status"] == "Completed"
    assert report["result"] == {"total": 6, "event": "pipeline/parts", "report": None}
    assert report["error"] is None
    counts = {key: report[key] for key in ("invocations", "steps", "steps_repeated", "killed")}
    assert counts == {"invocations": 1, "steps": 4, "steps_repeated": 0, "killed": 0}
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", report["run_id"])
    (row,) = report["timeline"]
    assert row["steps"] == ["part-0", "part-1", "part-2", "part-3"]
    assert row["ended_by"] == "complete"


def test_a_run_continues_over_invocations_without_a_kill_and_without_a_repeat() -> None:
    report = run_json(
        PIPELINE, "parts", "--data", '{"steps": 8, "seconds": 0.3}', "--limit", "1.5s"
    )
    assert (report["steps"], report["steps_repeated"], report["killed"]) == (8, 0, 0)
    assert report["invocations"] > 1
    assert report["continuations"] == report["invocations"] - 1
    assert report["result"]["total"] == 28
    endings = [row["ended_by"] for row in report["timeline"]]
    assert endings == ["continue"] * (len(endings) - 1) + ["complete"]
    assert all(row["margin_ms"] > 0 for row in report["timeline"])
    steps = [step for row in report["timeline"] for step in row["steps"]]
    assert steps == [f"part-{n}" for n in range(8)]
    assert all(row["exit_status"] is None for row in report["timeline"])


def test_a_worker_that_believes_in_more_time_is_killed_and_repeats_one_step_only() -> None:
    report = run_json(
        PIPELINE,
        *("parts", "--data", '{"steps": 6, "seconds": 0.4}', "--limit", "1s", "--late", "10s"),
    )
    killed = [row for row in report["timeline"] if row["ended_by"] == "killed"]
    assert report["killed"] == len(killed) >= 1
    assert all(row["exit_status"] == -signal.SIGKILL for row in killed)
    assert all(row["margin_ms"] is None for row in killed)
    assert all(row["duration_ms"] >= 1000 for row in killed)
    cut = [step for row in killed for step in row["cut"]]
    assert all(len(row["cut"]) <= 1 for row in killed)
    assert set(report["repeated"]) == set(cut)
    assert report["steps_repeated"] == len(set(cut))
    assert report["steps"] == 6
    assert report["result"]["total"] == 15


def test_a_step_that_fits_no_invocation_ends_the_run() -> None:
    done = onward("run", PIPELINE, "too-long", "--limit", "1s", "--json")
    assert done.status == 1, done
    report = done.json
    assert report["status"] == "Failed"
    assert "StepTimedOut" in report["error"]["name"]
    assert "endless" in report["error"]["message"]
    assert report["killed"] == 0
    assert report["steps"] == 0


def test_a_run_that_fails_shows_the_error_and_exits_with_1() -> None:
    done = onward("run", PIPELINE, "wrong")
    assert done.status == 1, done
    assert "ValueError: the card was refused" in done.out
    assert "pipeline.py" in done.out
    assert done.last_line == "0 steps, 0 repeated, 2 invocations, 0 killed"


def test_what_the_app_prints_is_shown_and_cannot_disturb_anything() -> None:
    done = onward("run", PIPELINE, "noisy")
    assert done.status == 0, done
    shown = [line.strip() for line in done.out.splitlines()]
    for line in ("from the step", '{"kind": "answer", "answer": 1}', "from a process"):
        assert f"| {line}" in shown
    assert "| from the function, without a newline" in shown
    machine = onward("run", PIPELINE, "noisy", "--json")
    assert machine.json["result"] == "quiet"
    assert "from the step" in machine.err


def test_a_crashed_worker_is_replaced_and_counts_as_crashed(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    report = run_json(PIPELINE, "crash-once", "--data", f'{{"marker": "{marker}"}}')
    assert report["result"] == "survived"
    assert (report["killed"], report["repeated"]) == (0, ["crash"])
    first = report["timeline"][0]
    assert (first["ended_by"], first["exit_status"], first["cut"]) == ("crashed", 3, ["crash"])


def test_the_kill_reaches_the_processes_that_a_body_started(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    done = onward(
        *("run", PIPELINE, "children", "--json", "--limit", "1s", "--late", "60s"),
        *("--data", f'{{"marker": "{marker}"}}'),
    )
    assert done.status == 1, done
    assert done.json["killed"] == 1
    assert not alive(int(marker.read_text()))


def test_only_the_function_that_was_named_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    report = run_json(PIPELINE, "parts", "--data", f'{{"marker": "{marker}"}}')
    assert report["status"] == "Completed"
    assert not marker.exists()


def test_a_function_starts_at_once_and_invokes_others() -> None:
    report = run_json(PIPELINE, "gathered")
    assert (report["status"], report["result"]) == ("Completed", [1, 6])


def test_a_function_without_an_event_can_be_run() -> None:
    assert run_json(PIPELINE, "pipeline-nightly")["result"] == "nightly"


def test_a_sleep_is_a_wait_between_invocations() -> None:
    report = run_json(PIPELINE, "two-branches")
    assert report["result"] == [1, 2]
    assert [row["ended_by"] for row in report["timeline"]] == ["waiting", "complete"]


def test_settings_for_another_orchestrator_and_dead_proxies_do_not_matter() -> None:
    dead = "http://127.0.0.1:9"
    report = run_json(
        *(PIPELINE, "parts"),
        HTTP_PROXY=dead,
        http_proxy=dead,
        ALL_PROXY=dead,
        INNGEST_BASE_URL=dead,
        INNGEST_API_BASE_URL=dead,
        INNGEST_EVENT_API_BASE_URL=dead,
        INNGEST_SIGNING_KEY="signkey-prod-00",
        INNGEST_DEV="0",
    )
    assert report["checkpoints"] + report["steps"] >= 3
    assert report["status"] == "Completed"


def test_an_app_that_names_another_orchestrator_uses_the_one_of_the_run() -> None:
    report = run_json(str(APPS / "elsewhere.py"), "note")
    assert (report["status"], report["result"]) == ("Completed", 4)
    assert report["checkpoints"] == 1


def test_paths_with_spaces_and_dotted_names(tmp_path: Path) -> None:
    folder = tmp_path / "my apps" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "steps.py").write_text("def double(x: int) -> int:\n    return 2 * x\n")
    (folder / "main.py").write_text(
        "import onward\n"
        "from .steps import double\n"
        'app = onward.App("spaced")\n'
        '@app.function("f", trigger=onward.Event("e"))\n'
        "def f(ctx: onward.BlockingContext) -> int:\n"
        '    return ctx.step.run("double", double, 21)\n'
    )
    assert run_json(str(folder / "main.py"), "f")["result"] == 42
    assert run_json("package.main:app", "f", cwd=folder.parent)["result"] == 42
    assert run_json("package/main.py", "f", cwd=folder.parent)["result"] == 42


def test_ctrl_c_ends_everything_with_130(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    arguments = ("run", PIPELINE, "children", "--data", f'{{"marker": "{marker}"}}')
    with started(*arguments) as running:
        wait_until(lambda: marker.exists() and marker.read_text(), "the body started")
        left = [running.process.pid, *descendants(running.process.pid)]
        assert len(left) >= 3
        assert running.end(signal.SIGINT) == 130
        assert [pid for pid in left if alive(pid)] == []


def test_ctrl_c_ends_an_import_that_hangs() -> None:
    with started("run", str(APPS / "hanging.py"), "f") as running:
        running.wait_for("importing for ever")
        left = descendants(running.process.pid)
        assert running.end(signal.SIGINT) == 130
        assert [pid for pid in left if alive(pid)] == []


def test_planned_steps_run_at_once_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    report = run_json(PIPELINE, "meeting", "--data", f'{{"folder": "{tmp_path}"}}')
    assert report["result"] is True
    assert report["steps_repeated"] == 0


def test_sigterm_ends_everything_too(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    arguments = ("run", PIPELINE, "children", "--data", f'{{"marker": "{marker}"}}', "--json")
    with started(*arguments) as running:
        wait_until(lambda: marker.exists() and marker.read_text(), "the body started")
        left = descendants(running.process.pid)
        assert running.end(signal.SIGTERM) == 143
        assert [pid for pid in left if alive(pid)] == []


def test_the_worker_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    with started("run", PIPELINE, "parts", "--data", '{"seconds": 600}') as running:
        running.wait_for("pipeline-parts: run")
        workers = descendants(running.process.pid)
        assert workers
        os.kill(running.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, workers)), "the worker ended with its parent")


def refused(*arguments: str, status: int = 2) -> str:
    """The error of a command line that must not work, the same in words and as JSON."""
    done = onward(*arguments)
    assert done.status == status, done
    assert not done.out
    machine = onward(*arguments, "--json")
    assert machine.status == status, machine
    assert machine.json["error"]["message"] in done.err.replace("\n", " ")
    return done.err


def test_an_unknown_function_is_refused_with_those_that_there_are() -> None:
    words = refused("run", PIPELINE, "prats")
    assert "no function 'prats'" in words
    assert "parts, other, nightly" in words
    assert "Did you mean 'parts'?" in words


def test_an_app_that_is_not_there_is_refused_with_those_that_there_are() -> None:
    assert "the apps 'app', 'empty'" in refused("run", f"{PIPELINE}:nothing", "parts")
    assert "is a dict and not an onward.App" in refused("run", f"{PIPELINE}:not_an_app", "parts")
    assert "has no functions" in refused("run", f"{PIPELINE}:empty", "parts")


def test_a_module_that_cannot_be_imported_is_refused() -> None:
    assert "There is no module 'nowhere'" in refused("run", "nowhere.main:app", "f")
    assert "There is no file 'nowhere.py'" in refused("run", "nowhere.py:app", "f")
    assert "does not name an app" in refused("run", "a b:app", "f")
    assert "'onward_needs_this'" in refused("run", str(APPS / "needy.py"), "f")


def test_an_import_that_raises_shows_the_apps_own_traceback() -> None:
    words = refused("run", str(APPS / "broken.py"), "f")
    assert "RuntimeError: the settings are missing" in words
    assert "in configure" in words
    assert "loading.py" not in words
    assert "importlib" not in words


def test_an_import_that_ends_the_process_is_said_so() -> None:
    done = onward("run", str(APPS / "vanishing.py"), "f")
    assert done.status == 1, done
    assert "exited with status 7 while it imported" in done.err
    assert "going, going" in done.out


def test_bad_data_is_refused(tmp_path: Path) -> None:
    assert "--data is not valid JSON" in refused("run", PIPELINE, "parts", "--data", "{steps: 4}")
    assert "it is an array" in refused("run", PIPELINE, "parts", "--data", "[1]")
    missing = str(tmp_path / "missing.json")
    words = refused("run", PIPELINE, "parts", "--data", f"@{missing}")
    assert f"{missing!r} cannot be read: No such file" in words


def test_data_comes_from_files_and_standard_input_too(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text('{"steps": 2}')
    assert run_json(PIPELINE, "parts", "--data", f"@{file}")["steps"] == 2
    assert run_json(PIPELINE, "parts", "--data", "@-", stdin='{"steps": 5}')["steps"] == 5


def test_bad_durations_are_refused() -> None:
    assert "--limit is '5 parsecs'" in refused("run", PIPELINE, "parts", "--limit", "5 parsecs")
    assert "--limit is '-1s'" in refused("run", PIPELINE, "parts", "--limit=-1s")
    assert "--limit is 0" in refused("run", PIPELINE, "parts", "--limit", "0")
    assert "maximum" in refused("run", PIPELINE, "parts", "--limit", "1h")
    assert "--limit 2s" in refused("run", PIPELINE, "parts", "--late", "1s")


def test_a_missing_argument_is_a_usage_error() -> None:
    done = onward("run", PIPELINE)
    assert done.status == 2
    assert "FUNCTION" in done.err


def test_the_version_is_printed() -> None:
    done = onward("--version")
    assert done.status == 0
    assert re.fullmatch(r"onward \d+\.\d+\.\d+\S*\n", done.out)
