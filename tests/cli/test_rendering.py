"""How runs are counted and drawn."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from onward.app import BodyEvent
from onward.core.ops import Opcode
from onward_deploy.errors import UsageError
from onward_deploy.loading import Target, parse_target
from onward_deploy.output import error_lines
from onward_deploy.run import timeline
from onward_deploy.run.ledger import Ledger, LedgerWriter
from onward_deploy.run.report import Ending, Invocation, Report, classify
from tests.cli.command import PATIENCE_S, PIPELINE, ROOT, environment

if TYPE_CHECKING:
    from pathlib import Path


def wrote(path: Path, *events: tuple[int, str, int, str]) -> Ledger:
    """A ledger of `(invocation, step, index, phase)`."""
    writer = LedgerWriter(str(path))
    for invocation, step, index, phase in events:
        writer.invocation = invocation
        writer(BodyEvent("R", step, index, 0, phase))
    ledger = Ledger(path)
    ledger.refresh()
    return ledger


def test_the_ledger_counts_what_started_and_what_returned(tmp_path: Path) -> None:
    ledger = wrote(
        tmp_path / "ledger",
        (1, "a", 0, "start"),
        (1, "a", 0, "end"),
        (1, "a", 1, "start"),
        (2, "a", 1, "start"),
        (2, "a", 1, "end"),
    )
    assert ledger.steps == 2
    assert ledger.repeated == ["a:1"]
    assert ledger.of(1).in_flight == ["a:1"]
    assert ledger.of(2).ended == ["a:1"]
    assert ledger.of(3).started == []


def test_a_line_that_is_not_whole_yet_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = wrote(path, (1, "a", 0, "start"))
    entry = {"run": "R", "step": "a", "index": 0, "phase": "end", "invocation": 1}
    text = json.dumps(entry)
    with path.open("a") as file:
        file.write(text[:20])
        file.flush()
        ledger.refresh()
        assert ledger.steps == 0
        file.write(text[20:] + "\n")
    ledger.refresh()
    ledger.refresh()
    assert ledger.steps == 1
    assert ledger.of(1).in_flight == []


def test_a_ledger_that_nobody_wrote_is_empty(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "none")
    ledger.refresh()
    assert (ledger.steps, ledger.repeated) == (0, [])


def op(code: Opcode, **fields: Any) -> dict[str, Any]:
    """An op as it is on the wire."""
    return {"id": "x", "op": code.value, **fields}


ERROR = {"name": "ValueError", "message": "no"}


@pytest.mark.parametrize(
    ("status", "body", "ending", "words"),
    [
        (206, [op(Opcode.STEP_RUN), op(Opcode.RUN_COMPLETE)], Ending.COMPLETE, ""),
        (206, [op(Opcode.DISCOVERY_REQUEST)], Ending.CONTINUE, ""),
        (206, [op(Opcode.STEP_RUN)], Ending.STEP, ""),
        (206, [op(Opcode.SLEEP), op(Opcode.STEP_PLANNED)], Ending.WAITING, ""),
        (206, [op(Opcode.STEP_RUN), op(Opcode.STEP_PLANNED)], Ending.PLANNED, ""),
        (206, [op(Opcode.NONE)], Ending.OVER, ""),
        (
            206,
            [op(Opcode.STEP_ERROR, displayName="s", error=ERROR)],
            Ending.STEP_ERROR,
            "s: ValueError: no",
        ),
        (206, [op(Opcode.STEP_FAILED, error=ERROR)], Ending.STEP_FAILED, "ValueError: no"),
        (200, {"any": "result"}, Ending.COMPLETE, ""),
        (400, ERROR, Ending.FAILED, "ValueError: no"),
        (500, ERROR, Ending.ERROR, "ValueError: no"),
    ],
)
def test_an_answer_says_how_the_invocation_ended(
    status: int, body: Any, ending: Ending, words: str
) -> None:
    assert classify({"status": status, "headers": {}, "body": body}) == (ending, words)


def drawn(report: Report, width: int) -> list[str]:
    """The lines of the table of `report`."""
    out = Console(file=io.StringIO(), width=width, color_system=None)
    out.print(timeline.timeline(report, report.invocations, width=width))
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_a_long_step_id_never_squeezes_the_numbers(tmp_path: Path, width: int) -> None:
    ledger = wrote(tmp_path / "ledger", (1, "a-step-with-a-long-id-" * 9, 0, "start"))
    killed = Invocation(1, "q", 0, "step", 0, 12.5, 2.0, Ending.KILLED, "", 2.0, 17, -9)
    going = Invocation(2, "r", 0, "step", 0, 14.5, 2.0, Ending.CONTINUE, "", 1.5, 3)
    report = Report("app", "app-f", ledger, 2.0, invocations=[killed, going])
    header, first, second = drawn(report, width)
    for title in ("start", "took", "steps", "checkpoints", "margin", "ended by"):
        assert title in header
    assert all(len(line) <= width for line in (header, first, second))
    assert first.split()[:5] == ["1", "12.50", "s", "2.00", "s"]
    assert "killed  in a-step-with-a" in first
    assert first.endswith("…")
    assert "500 ms" in second
    assert second.endswith("continue")


def test_without_a_limit_there_is_no_margin(tmp_path: Path) -> None:
    one = Invocation(1, "q", 0, "step", 0, 0.0, 900.0, Ending.COMPLETE, "", 1.5, 3)
    report = Report("app", "app-f", wrote(tmp_path / "l"), 900.0, limited=False, invocations=[one])
    assert "margin" not in drawn(report, 80)[0]


def test_the_summary_counts_and_names_the_report(tmp_path: Path) -> None:
    ledger = wrote(tmp_path / "ledger", (1, "a", 0, "start"), (1, "a", 0, "end"))
    report = Report("app", "app-f", ledger, 2.0)
    assert timeline.summary(report) == "1 step, 0 repeated, 0 invocations, 0 killed"
    report.result = {"report": "/elsewhere/report.md"}
    assert timeline.summary(report).endswith("; report in /elsewhere/report.md")


def test_a_traceback_does_not_say_the_error_twice() -> None:
    stack = "Traceback (most recent call last):\n  File x\nValueError: two\nlines\n"
    lines = error_lines({"name": "ValueError", "message": "two\nlines", "stack": stack})
    assert [line.plain for line in lines] == [
        "Traceback (most recent call last):\n  File x",
        "ValueError: two\nlines",
    ]


@pytest.mark.parametrize(
    ("text", "module", "attribute"),
    [
        ("orders", "orders", "app"),
        ("orders.main:api", "orders.main", "api"),
        ("a b/main.py", "a b/main.py", "app"),
        ("./a-b/main.py:api", "./a-b/main.py", "api"),
        (r"C:\apps\main.py", r"C:\apps\main.py", "app"),
        (r"C:\apps\main.py:api", r"C:\apps\main.py", "api"),
    ],
)
def test_a_target_is_a_module_or_a_file_and_an_app(text: str, module: str, attribute: str) -> None:
    assert parse_target(text) == Target(module, attribute)


@pytest.mark.parametrize("text", ["", ":app", "orders:", "a b", "orders.main:2", "a..b:app"])
def test_anything_else_is_no_target(text: str) -> None:
    with pytest.raises(UsageError, match="does not name an app"):
        parse_target(text)


def test_a_terminal_gets_a_live_table_that_makes_way_for_the_report() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "onward_deploy", "run", PIPELINE, "noisy"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(TERM="xterm-256color", COLUMNS="80", LINES="40"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        text = b""
        # Linux ends a terminal that nobody holds open with an error instead of an end of file.
        while piece := _read(ours):
            text += piece
        assert process.wait(PATIENCE_S) == 0
    os.close(ours)
    shown = text.decode()
    assert "\x1b[2K" in shown, "the live table is erased"
    assert "from the step" in shown
    after = shown.rpartition("\x1b[2K")[2]
    assert after.count("pipeline-noisy") == 1
    assert "1 step, 0 repeated, 1 invocation, 0 killed" in after


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
