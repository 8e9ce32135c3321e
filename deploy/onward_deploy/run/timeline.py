"""How a run looks: the table of its invocations, its result, and the line that sums it up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from onward_deploy.output import counted, error_lines, say
from onward_deploy.run.report import Ending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from onward_deploy.run.ledger import InvocationSteps
    from onward_deploy.run.report import Invocation, Report

STYLES = {
    Ending.RUNNING: "cyan",
    Ending.CONTINUE: "blue",
    Ending.COMPLETE: "green",
    Ending.KILLED: "red",
    Ending.CRASHED: "red",
    Ending.STEP_ERROR: "yellow",
    Ending.ERROR: "yellow",
    Ending.STEP_FAILED: "red",
    Ending.FAILED: "red",
    Ending.STOPPED: "dim",
}

WIDE = 100
BAR_WIDTH = 24
#: A longer result is cut on a terminal: the summary should stay in sight.
MAX_RESULT_LINES = 40
MAX_REPEATED = 6
#: Milliseconds up to here, seconds above.
SHORT_S = 0.9995


def seconds(value: float) -> str:
    """`380 ms` or `1.62 s`."""
    return f"{value * 1000:.0f} ms" if value < SHORT_S else f"{value:.2f} s"


def timeline(
    report: Report, rows: Sequence[Invocation], *, width: int, now: float | None = None
) -> Table:
    """The table of `rows`, for `width` columns. `now` is the run's clock, for what still runs."""
    wide = width >= WIDE
    scale = report.limit if report.limited else max((one.seconds for one in rows), default=1.0)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("start", justify="right", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    if wide:
        table.add_column("", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("checkpoints", justify="right", no_wrap=True)
    if report.limited:
        table.add_column("margin", justify="right", no_wrap=True)
    # The last column takes what is left: a long step id must not squeeze the numbers.
    table.add_column("ended by", no_wrap=True, overflow="ellipsis", ratio=1)
    for one in rows:
        took = one.seconds
        if one.ending is Ending.RUNNING and now is not None:
            took = max(now - one.started, 0.0)
        steps = report.ledger.of(one.number)
        cells: list[RenderableType] = [str(one.number), f"{one.started:.2f} s", f"{took:.2f} s"]
        if wide:
            cells.append(_bar(one, took, scale))
        cells += [str(len(steps.ended)), str(one.checkpoints)]
        if report.limited:
            cells.append("-" if one.margin is None else seconds(max(one.margin, 0.0)))
        cells.append(_ending(one, steps))
        table.add_row(*cells)
    return table


def _bar(one: Invocation, took: float, scale: float) -> ProgressBar:
    style = STYLES.get(one.ending, "blue")
    return ProgressBar(
        total=max(scale, 1e-9),
        completed=min(took, scale),
        width=BAR_WIDTH,
        style="bright_black",
        complete_style=style,
        finished_style=style,
    )


def _ending(one: Invocation, steps: InvocationSteps) -> Text:
    text = Text(one.ending.value, style=STYLES.get(one.ending, ""))
    cut = steps.in_flight
    if cut and one.ending in {Ending.RUNNING, Ending.KILLED, Ending.CRASHED}:
        more = f" and {len(cut) - 1} more" if len(cut) > 1 else ""
        text.append(f"  in {cut[0]}{more}", style="dim")
    if one.detail:
        text.append(f"  {one.detail.splitlines()[0]}", style="dim")
    return text


def summary(report: Report) -> str:
    """`43 steps, 0 repeated, 6 invocations, 0 killed; report in …`."""
    text = ", ".join(
        (
            counted(report.ledger.steps, "step"),
            f"{len(report.ledger.repeated):,} repeated",
            counted(len(report.invocations), "invocation"),
            f"{report.killed:,} killed",
        )
    )
    result = report.result
    if isinstance(result, dict) and result.get("report"):
        text += f"; report in {_shortest(str(result['report']))}"
    return text


def _shortest(path: str) -> str:
    """`path` relative to the current directory where it lies below that."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def _repeated(report: Report) -> Text:
    labels = report.ledger.repeated
    more = len(labels) - MAX_REPEATED
    tail = f" and {more:,} more" if more > 0 else ""
    return Text(f"repeated: {', '.join(labels[:MAX_REPEATED])}{tail}", style="yellow")


def heading(report: Report, clock: float) -> Text:
    """`airports-nearest  completed in 9.84 s  01M8…`."""
    status = report.status.lower() or "running"
    colour = {"completed": "green", "running": "cyan"}.get(status, "red")
    after = "for" if status == "running" else "after" if not report.completed else "in"
    return Text.assemble(
        (report.function, "bold"),
        "  ",
        (status, colour),
        (f" {after} {seconds(clock)}", ""),
        (f"  {report.run_id}", "dim"),
    )


def print_report(out: Console, report: Report) -> None:
    """The whole of a run that ended."""
    out.print()
    out.print(heading(report, report.wall))
    out.print()
    out.print(Padding(timeline(report, report.invocations, width=out.width), (0, 0, 0, 2)))
    out.print()
    for part in outcome(report, terminal=out.is_terminal):
        say(out, part)
    if report.ledger.repeated:
        say(out, _repeated(report))
    say(out, Text(summary(report), style="bold"))


def outcome(report: Report, *, terminal: bool) -> list[RenderableType]:
    """The result, or the error with its traceback, and an empty line."""
    if report.error is not None:
        return [*error_lines(report.error), Text()]
    if not report.completed:
        return []
    lines = json.dumps(report.result, indent=2, ensure_ascii=False).splitlines()
    parts: list[RenderableType] = []
    shown = lines
    if terminal and len(lines) > MAX_RESULT_LINES:
        shown = lines[:MAX_RESULT_LINES]
    text = "\n".join(shown)
    parts.append(_json(text) if terminal else Text(text))
    if len(shown) < len(lines):
        left = counted(len(lines) - len(shown), "more line")
        parts.append(Text(f"… {left}; --json prints all of it", style="dim"))
    return [*parts, Text()]


def _json(text: str) -> Syntax:
    return Syntax(text, "json", theme="ansi_dark", background_color="default", word_wrap=True)


def live(report: Report, clock: float, console: Console) -> RenderableType:
    """What a terminal shows while the run goes on: its last invocations that fit the screen."""
    room = max(console.height - 8, 3)
    rows = report.invocations[-room:]
    table = timeline(report, rows, width=console.width, now=clock)
    left = len(report.invocations) - len(rows)
    parts: list[RenderableType] = [Text(), heading(report, clock), Text()]
    if left:
        parts.append(Text(f"  … {counted(left, 'earlier invocation')}", style="dim"))
    parts += [Padding(table, (0, 0, 0, 2)), Text(), Text(summary(report), style="dim")]
    return Group(*parts)
