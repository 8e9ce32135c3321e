"""`onward send` and `onward runs`: what they ask an orchestrator, and how its answers look."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from onward_deploy.client import Client, resolve_address
from onward_deploy.errors import ServerError, UsageError
from onward_deploy.output import console, counted, error_lines, print_json, say

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {"completed": "green", "running": "cyan", "failed": "red", "cancelled": "yellow"}
#: A ULID's; anything shorter is the end of one.
RUN_ID_LENGTH = 26
MOST = 100
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def send(
    name: str,
    data: dict[str, Any],
    *,
    id_: str | None,
    url: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Send one event. Raises UsageError for an empty name, ServerError."""
    if not name.strip():
        raise UsageError("The event's name is empty. Give one such as order/paid.")
    event: dict[str, Any] = {"name": name, "data": data}
    if id_ is not None:
        event["id"] = id_
    with Client(resolve_address(os.environ, url=url, key=key)) as client:
        ids = client.send(event)
    if as_json:
        print_json({"status": "sent", "ids": ids, "name": name})
        return
    console().print(f"sent {name} as [bold]{', '.join(ids)}[/bold]", soft_wrap=True)


def list_runs(limit: int, *, url: str | None, as_json: bool) -> None:
    """Print the newest runs. Raises ServerError."""
    from rich.table import Table

    with Client(resolve_address(os.environ, url=url)) as client:
        found = client.runs(limit)
    if as_json:
        print_json({"runs": found})
        return
    out = console()
    if not found:
        out.print("No runs yet. `onward send NAME` starts the functions that NAME triggers.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    # Nothing may cut an id: it is there to be copied.
    table.add_column("run", no_wrap=True, min_width=26)
    table.add_column("status", no_wrap=True)
    table.add_column("function", overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column("started", no_wrap=True, justify="right")
    table.add_column("took", no_wrap=True, justify="right")
    now = datetime.now(UTC)
    for run in found:
        table.add_row(
            str(run.get("run_id")), _status(run), _function(run), _ago(run, now), _took(run, now)
        )
    out.print(table)


def show_run(run_id: str, *, url: str | None, as_json: bool) -> None:
    """Print one run. Raises ServerError."""
    from rich.text import Text

    with Client(resolve_address(os.environ, url=url)) as client:
        run = client.run(_whole(run_id, client))
    if as_json:
        print_json(run)
        return
    out, now = console(), datetime.now(UTC)
    out.print(Text.assemble((str(run["run_id"]), "bold"), "  ", _status(run)))
    rows = [
        ("function", _function(run)),
        ("event", str(run.get("event_id") or "")),
        ("started", f"{run.get('run_started_at') or ''}"),
        ("took", _took(run, now)),
    ]
    for label, value in rows:
        if value:
            out.print(Text.assemble((f"  {label:<9}", "dim"), value), soft_wrap=True)
    output = _parsed(run.get("output"))
    if output in (None, ""):
        return
    out.print()
    if isinstance(output, dict) and _status(run).plain in {"failed", "cancelled"}:
        for line in error_lines(output):
            say(out, line)
    else:
        out.print(Text(json.dumps(output, indent=2, ensure_ascii=False)), soft_wrap=True)


def cancel_run(run_id: str, *, url: str | None, as_json: bool) -> None:
    """Cancel a run. Raises ServerError."""
    with Client(resolve_address(os.environ, url=url)) as client:
        run_id = _whole(run_id, client)
        client.cancel(run_id)
        status = _ended(client, run_id) or "cancelled"
    if as_json:
        print_json({"status": status, "run_id": run_id})
        return
    if status == "cancelled":
        console().print(f"cancelled [bold]{run_id}[/bold]", soft_wrap=True)
        return
    console().print(f"[bold]{run_id}[/bold] had {status} already", soft_wrap=True)


def _ended(client: Client, run_id: str) -> str | None:
    """How a run had ended, to which a cancellation thus did nothing."""
    with contextlib.suppress(ServerError):  # a server's cache may not know a new run
        status = _status(client.run(run_id)).plain
        return status if status in {"completed", "failed"} else None
    return None


def _whole(run_id: str, client: Client) -> str:
    """The whole of a run id of which only the end was given, as logs show it.

    Raises ServerError unless exactly one of the newest runs ends so.
    """
    if len(run_id) >= RUN_ID_LENGTH:
        return run_id
    ending = run_id.upper()
    found = [id_ for run in client.runs(MOST) if (id_ := str(run["run_id"])).endswith(ending)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ServerError(
            f"None of the {MOST} newest runs at {client.address.api_url} has an id that ends in"
            f" {run_id!r}. `onward runs list` shows them; older runs need their whole id."
        )
    raise ServerError(f"{run_id!r} is the end of several run ids: {', '.join(found)}. Give more.")


def _parsed(output: Any) -> Any:
    """An output: the reference server gives it as JSON text inside a string."""
    if isinstance(output, str):
        with contextlib.suppress(ValueError):
            return json.loads(output)
    return output


def _status(run: dict[str, Any]) -> Text:
    from rich.text import Text

    status = str(run.get("status") or "unknown").lower()
    return Text(status, style=STYLES.get(status, ""))


def _function(run: dict[str, Any]) -> str:
    """Its id as the app has it; the reference server gives its own id only."""
    return str(run.get("function") or run.get("function_id") or "")


def _instant(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _ago(run: dict[str, Any], now: datetime) -> str:
    started = _instant(run.get("run_started_at"))
    return f"{_span((now - started).total_seconds())} ago" if started else ""


def _took(run: dict[str, Any], now: datetime) -> str:
    started, ended = _instant(run.get("run_started_at")), _instant(run.get("ended_at"))
    if started is None:
        return ""
    running = str(run.get("status")).lower() == "running"
    if ended is None and not running:
        return ""
    took = ((ended or now) - started).total_seconds()
    return f"{took:.2f} s" if took < _MINUTE else _span(took)


def _span(seconds: float) -> str:
    seconds = max(seconds, 0.0)
    for length, noun in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if seconds >= length:
            return counted(int(seconds // length), noun)
    return f"{int(seconds)} s"
