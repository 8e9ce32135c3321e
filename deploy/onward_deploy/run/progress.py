"""What is shown while a run goes on: a live table, plain lines, or nothing but the app's output."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.text import Text

from onward_deploy.output import console, counted
from onward_deploy.run import timeline
from onward_deploy.run.report import Ending, Invocation

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.live import Live

    from onward_deploy.run.report import Report


class Progress:
    """Shows nothing; what the app prints goes to standard error. The base of the others."""

    def __init__(self) -> None:
        self.report: Report | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is left on the screen that the report will show again."""

    def starting(self, target: str) -> None:
        """The app is being imported."""

    def output(self, line: str) -> None:
        """The app printed `line`. May be called from any thread."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def begin(self, report: Report) -> None:
        """The run was started; `report` fills up from now on."""
        self.report = report
        self._began = time.monotonic()

    def changed(self, one: Invocation) -> None:
        """An invocation started or ended."""

    def tick(self) -> None:
        """Called several times a second."""

    @property
    def clock(self) -> float:
        """Seconds since the run was started."""
        return time.monotonic() - self._began


class PlainProgress(Progress):
    """A line for each invocation that ended."""

    def __init__(self) -> None:
        super().__init__()
        self._out = console()

    def output(self, line: str) -> None:
        """Between the lines about the run, marked as the app's."""
        self._out.print(Text(f"| {line}"), soft_wrap=True)

    def begin(self, report: Report) -> None:
        """Say what runs, and what kills it."""
        super().begin(report)
        killed = f"; each invocation is killed after {report.limit:g} s" if report.limited else ""
        self._out.print(Text(f"{report.function}: run {report.run_id}{killed}"), soft_wrap=True)

    def changed(self, one: Invocation) -> None:
        """Say how an invocation ended."""
        if self.report is None or one.ending is Ending.RUNNING:
            return
        self.report.ledger.refresh()
        steps = self.report.ledger.of(one.number)
        parts = [
            f"invocation {one.number}: {one.ending.value} after {one.seconds:.2f} s",
            counted(len(steps.ended), "step"),
            counted(one.checkpoints, "checkpoint"),
        ]
        if one.margin is not None and self.report.limited:
            parts.append(f"{timeline.seconds(max(one.margin, 0.0))} left")
        cut = steps.in_flight
        if cut and one.ending in {Ending.KILLED, Ending.CRASHED}:
            parts.append(f"in {', '.join(cut)}")
        if one.detail:
            parts.append(one.detail.splitlines()[0])
        self._out.print(Text(", ".join(parts)), soft_wrap=True)


class LiveProgress(Progress):
    """A table that grows in place, on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._out = console()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(console=self._out, auto_refresh=False, transient=True)
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the live table off the screen."""
        if self._live is not None:
            self._live.stop()

    def starting(self, target: str) -> None:
        """One quiet line until the app is imported."""
        if self._live is not None:
            self._live.update(Text(f"importing {target} …", style="dim"), refresh=True)

    def output(self, line: str) -> None:
        """Above the live table."""
        self._out.print(Text.assemble(("│ ", "dim"), line), soft_wrap=True)

    def tick(self) -> None:
        """Draw what is known now."""
        if self._live is None or self.report is None:
            return
        self.report.ledger.refresh()
        self._live.update(timeline.live(self.report, self.clock, self._out), refresh=True)


def progress_for(*, as_json: bool) -> Progress:
    """A live table on a terminal, plain lines elsewhere, and silence for `--json`."""
    if as_json:
        return Progress()
    return LiveProgress() if sys.stdout.isatty() else PlainProgress()
