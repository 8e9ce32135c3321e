"""An interactive job: somebody looks at the progress bar while it runs.

    onward run examples/interactive/app.py:app import_contacts \
        --data @examples/interactive/contacts.json

imports a CSV text with the columns name and email into SQLite. It reports 10, 25, 50, 90 and 100 %,
and it ends early with all the problems if the text has any. Each step is confirmed before the next
one starts, so what the user has seen is never taken back.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onward

if TYPE_CHECKING:
    from collections.abc import Mapping

app = onward.App("interactive")


@dataclass(frozen=True)
class Contact:
    """A person to write to."""

    name: str
    email: str


@dataclass(frozen=True)
class Imported:
    """What became of the text. With `problems`, nothing was saved."""

    status: str
    progress: list[int]
    contacts: int = 0
    duplicates: int = 0
    problems: list[str] = field(default_factory=list)


@app.function(
    "import_contacts",
    trigger=onward.Event("contacts/import.requested"),
    checkpointing=onward.Checkpointing(max_runtime="5m", buffered_steps=1, max_interval="2s"),
)
async def import_contacts(ctx: onward.Context) -> Imported:
    """Import `csv`, the text of a CSV file, into the database under `out`."""
    text, out = _asked(ctx.event.data)
    shown: list[int] = []

    async def progress(percent: int, message: str) -> None:
        # A step: a later invocation does not move the bar back to where it has been.
        shown.append(
            await ctx.step.run(f"progress-{percent}", publish, out, ctx.run_id, percent, message)
        )

    await progress(10, "reading the file")
    problems = await ctx.step.run("validate", validate, text)
    if problems:
        return Imported("rejected", shown, problems=problems)
    await progress(25, "the file is valid")
    contacts = await ctx.step.run("normalise", normalise, text)
    await progress(50, f"{len(contacts)} contacts read")
    unique = await ctx.step.run("merge", merge, contacts)
    saved = await ctx.step.run("save", save, out, unique)
    await progress(90, f"{saved} contacts saved")
    await progress(100, "done")
    return Imported("imported", shown, contacts=saved, duplicates=len(contacts) - len(unique))


def publish(out: str, run_id: str, percent: int, message: str) -> int:
    """Write the progress where a page can poll it; put your web socket or database here."""
    path = Path(out, f"{run_id}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps({"percent": percent, "message": message}), encoding="utf-8")
    unfinished.replace(path)
    return percent


def validate(text: str) -> list[str]:
    """All that is wrong with the text, a sentence each, so that one correction is enough."""
    rows = csv.DictReader(io.StringIO(text))
    missing = {"name", "email"} - set(rows.fieldnames or ())
    if missing:
        return [f"line 1: the column {column} is missing" for column in sorted(missing)]
    problems = []
    for row in rows:
        if not (row["name"] or "").strip():
            problems.append(f"line {rows.line_num}: the name is empty")
        if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", (row["email"] or "").strip()):
            problems.append(f"line {rows.line_num}: {row['email']!r} is no e-mail address")
    return problems if rows.line_num > 1 else ["the file has no contacts"]


def normalise(text: str) -> list[Contact]:
    """Read the contacts: single spaces in names, addresses in lower case."""
    return [
        Contact(" ".join(row["name"].split()), row["email"].strip().lower())
        for row in csv.DictReader(io.StringIO(text))
    ]


def merge(contacts: list[Contact]) -> list[Contact]:
    """One contact an address, the last one that the file gives."""
    return list({contact.email: contact for contact in contacts}.values())


def save(out: str, contacts: list[Contact]) -> int:
    """Insert or update by address, all or none. Returns how many."""
    with contextlib.closing(sqlite3.connect(Path(out, "contacts.sqlite"))) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS contact (email TEXT PRIMARY KEY, name TEXT NOT NULL)"
        )
        database.executemany(
            "INSERT OR REPLACE INTO contact VALUES (?, ?)",
            [(contact.email, contact.name) for contact in contacts],
        )
    return len(contacts)


def _asked(data: Mapping[str, Any]) -> tuple[str, str]:
    text, out = data.get("csv"), data.get("out", "build/interactive")
    if not isinstance(text, str):
        raise onward.NonRetriableError(f"the event's data needs csv, a text, not {text!r}")
    return text, str(out)
