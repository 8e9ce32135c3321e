"""The run log of `onward dev`: what happens to runs, a line each, as it happens."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from onward.core.ops import Opcode
from onward_deploy.output import console, counted

if TYPE_CHECKING:
    from onward_server import TraceEvent

_NAMES_SHOWN = 4
_WORD_WIDTH = 13
#: What a line shows of a run's id: its end, which is random.
ID_SHOWN = 8

_ENDINGS = {
    Opcode.DISCOVERY_REQUEST.value: ("continue", "blue"),
    Opcode.STEP_ERROR.value: ("step error", "yellow"),
    Opcode.STEP_FAILED.value: ("step failed", "red"),
    Opcode.STEP_PLANNED.value: ("planned", ""),
    Opcode.SLEEP.value: ("sleeping", ""),
    Opcode.WAIT_FOR_EVENT.value: ("waiting", ""),
    Opcode.WAIT_FOR_SIGNAL.value: ("waiting", ""),
    Opcode.INVOKE_FUNCTION.value: ("invoking", ""),
}
#: What is no step of the user's, and goes by its opcode.
_STEPLESS = {Opcode.RUN_COMPLETE.value: "the response"}
_STATUS_STYLES = {"Completed": "green", "Failed": "red", "Cancelled": "yellow"}


@dataclass
class _Seen:
    """What was counted of one run since this process runs."""

    function: str
    began: float
    error: Any = None
    steps: int = 0
    calls: int = 0


class RunLog:
    """Prints trace events as lines for people."""

    def __init__(self) -> None:
        self._out = console()
        self._runs: dict[str, _Seen] = {}

    def ready(self, url: str, registration: dict[str, Any], *, db: str | None) -> None:
        """Say what is served where, and how to start something."""
        out, functions = self._out, registration["functions"]
        out.print()
        for label, value in (
            ("orchestrator", url),
            ("app", f"{registration['appName']} at {registration['url']}"),
            ("runs kept in", db or "memory, until this ends"),
        ):
            out.print(Text.assemble((f"  {label:<14}", "dim"), value), soft_wrap=True)
        width = max((len(function["id"]) for function in functions), default=0)
        for number, function in enumerate(functions):
            label = "" if number else "functions"
            triggers = ", ".join(map(_trigger, function["triggers"]))
            line = Text.assemble((f"  {label:<14}", "dim"), f"{function['id']:<{width}}")
            out.print(line.append(f"  {triggers}", style="dim"), soft_wrap=True)
        if not functions:
            out.print(Text("  functions     none: @app.function registers one", style="yellow"))
        events = [t["event"] for f in functions for t in f["triggers"] if t.get("event")]
        hint = f"onward send {events[0]}  starts a run; " if events else ""
        out.print(Text(f"\n  {hint}Ctrl-C stops.\n", style="dim"), soft_wrap=True)

    def output(self, line: str) -> None:
        """The app printed `line`. May be called from any thread."""
        self._out.print(Text.assemble(("          │ ", "dim"), line), soft_wrap=True)

    def notice(self, text: str) -> None:
        """Something about the app's process itself."""
        self._line(time.time(), "", "app", "red", text)

    def __call__(self, event: TraceEvent) -> None:
        """Print one trace event."""
        if not event.run_id:
            self._beside_runs(event)
            return
        seen = self._runs.setdefault(event.run_id, _Seen("", event.at))
        act = {
            "run.started": self._started,
            "call.started": self._called,
            "call.ended": self._answered,
            "checkpoint": self._checkpointed,
            "run.ended": self._ended,
        }.get(event.kind)
        if act is not None:
            act(event, seen)

    def _beside_runs(self, event: TraceEvent) -> None:
        if event.kind == "notice":
            self._line(event.at, "", "notice", "yellow", event.data["text"])
        elif event.kind == "run.skipped":
            data = event.data
            what = f"{data['function_id']}  by {data['event']}: {data['reason']}"
            self._line(event.at, "", "not started", "yellow", what)

    def _line(self, at: float, run_id: str, word: str, style: str, rest: str) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(at))
        run = f"{run_id[-ID_SHOWN:]:<{ID_SHOWN}}"
        head = Text.assemble((f"{clock}  {run}  ", "dim"), (f"{word:<{_WORD_WIDTH}}", style))
        if not self._out.is_terminal:
            self._out.print(head.append(rest), soft_wrap=True)
            return
        # Lines that do not fit go on below their own text.
        grid = Table.grid()
        grid.add_column(no_wrap=True)
        grid.add_column()
        grid.add_row(head, Text(rest))
        self._out.print(grid)

    def _started(self, event: TraceEvent, seen: _Seen) -> None:
        data = event.data
        seen.function = data["function_id"]
        word = "resumed" if data.get("resumed") else "started"
        by = f"  by {', '.join(data['events'])}" if data.get("events") else ""
        self._line(event.at, event.run_id, word, "cyan", f"{seen.function}{by}")

    def _called(self, event: TraceEvent, seen: _Seen) -> None:
        seen.calls += 1
        if event.data["attempt"]:
            attempt = f"attempt {event.data['attempt'] + 1}"
            self._line(event.at, event.run_id, "again", "", attempt)

    def _checkpointed(self, event: TraceEvent, seen: _Seen) -> None:
        seen.steps += event.data["new"]
        names = [_STEPLESS.get(name, name) for name in event.data["steps"]]
        self._line(event.at, event.run_id, "checkpoint", "dim", _names(names))

    def _answered(self, event: TraceEvent, seen: _Seen) -> None:
        data = event.data
        ops = data.get("ops") or ()
        seen.steps += sum(op["op"] == Opcode.STEP_RUN for op in ops)
        took = f"after {data['wall_ms'] / 1000:.2f} s"
        if data.get("stale"):
            self._line(event.at, event.run_id, "ignored", "dim", "an answer that came too late")
            return
        for op in ops:
            if op["op"] in _ENDINGS:
                word, style = _ENDINGS[op["op"]]
                what = f"{op['name']} " if op["op"] != Opcode.DISCOVERY_REQUEST else ""
                error = f": {_words(data['error'])}" if data.get("error") else ""
                self._line(event.at, event.run_id, word, style, f"{what}{took}{error}")
                return
        if data.get("error"):
            seen.error = data["error"]
            rest = f"{took}: {_words(data['error'])}"
            self._line(event.at, event.run_id, "error", "yellow", rest)

    def _ended(self, event: TraceEvent, seen: _Seen) -> None:
        status = event.data["status"]
        counts = f"{counted(seen.steps, 'step')}, {counted(seen.calls, 'invocation')}"
        # What the line above said already is not said again.
        new = event.data.get("error") if event.data.get("error") != seen.error else None
        error = f": {_words(new)}" if new else ""
        rest = f"{seen.function}  {event.at - seen.began:.2f} s, {counts}{error}"
        style = _STATUS_STYLES.get(status, "")
        self._line(event.at, event.run_id, status.lower(), style, rest)
        self._runs.pop(event.run_id, None)


class JsonLog:
    """Prints trace events as JSON, one object a line; what the app prints goes to stderr."""

    def ready(self, url: str, registration: dict[str, Any], *, db: str | None) -> None:
        """The first line: what is served where."""
        ids = [function["id"] for function in registration["functions"]]
        app = {"id": registration["appName"], "url": registration["url"], "functions": ids}
        self._print({"kind": "ready", "url": url, "app": app, "db": db})

    def output(self, line: str) -> None:
        """The app printed `line`."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def notice(self, text: str) -> None:
        """Something about the app's process itself."""
        self._print({"kind": "app", "at": time.time(), "message": text})

    def __call__(self, event: TraceEvent) -> None:
        """Print one trace event."""
        self._print({"kind": event.kind, "run_id": event.run_id, "at": event.at, **event.data})

    def _print(self, value: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
        sys.stdout.flush()


def _trigger(trigger: dict[str, Any]) -> str:
    if trigger.get("cron"):
        return f"cron {trigger['cron']}"
    condition = f" if {trigger['expression']}" if trigger.get("expression") else ""
    return f"{trigger['event']}{condition}"


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    left = len(names) - _NAMES_SHOWN
    return f"{shown} and {left} more" if left > 0 else shown


def _words(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error).splitlines()[0] if error else ""
    message = str(error.get("message") or "").splitlines()
    return f"{error.get('name') or 'Error'}: {message[0] if message else ''}"
