"""A function that should not use checkpointing.

    onward run examples/without_checkpointing/app.py:app remind \
        --data @examples/without_checkpointing/invoice.json

It reminds a customer of an invoice, waits for days, and sends a final notice if nothing was paid.
Two things speak against checkpoints here:

- It runs where it can be called but can call nobody, in a private subnet without a NAT gateway. A
  checkpoint is a request from the function to the orchestrator. Without checkpointing each result
  travels in the answer to a call, and the function never opens a connection of its own.
- There is nothing to gain. Checkpoints save the calls between steps that follow each other at
  once; here a wait of days is between them, and each step takes milliseconds.

The price is one call a step. A job with many short steps in a row is the opposite case: see
`examples/airports`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onward

if TYPE_CHECKING:
    from collections.abc import Mapping

app = onward.App("reminders")


@dataclass(frozen=True)
class Reminded:
    """The letters that were written, and how it ended."""

    letters: list[str]
    paid: bool


@app.function("remind", trigger=onward.Event("invoice/overdue"), checkpointing=False)
def remind(ctx: onward.BlockingContext) -> Reminded:
    """Remind of `invoice` by a letter to `email`; a final notice follows after `grace` ("3d").

    Letters go into the directory `out`, where `payments.json` lists the invoices that are paid.
    """
    invoice, email, out, grace = _asked(ctx.event.data)
    first = ctx.step.run("reminder", write_letter, out, invoice, email, "Reminder")
    ctx.step.sleep("grace", grace)
    paid = ctx.step.run("paid?", is_paid, out, invoice)
    if paid:
        return Reminded([first], paid=True)
    last = ctx.step.run("final notice", write_letter, out, invoice, email, "Final notice")
    return Reminded([first, last], paid=False)


def write_letter(out: str, invoice: str, email: str, subject: str) -> str:
    """Put a letter into the outbox; hand it to your mail server here.

    Its Message-ID and its file name come from what it says, so a repeated step writes no second.
    """
    name = f"{invoice}-{subject.lower().replace(' ', '-')}"
    letter = EmailMessage()
    letter["To"], letter["Subject"] = email, f"{subject}: invoice {invoice}"
    letter["Message-ID"] = f"<{name}@reminders.example.org>"
    letter.set_content(f"Invoice {invoice} is overdue. Please pay it within the next days.\n")
    path = Path(out, f"{name}.eml").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(letter.as_bytes())
    return str(path)


def is_paid(out: str, invoice: str) -> bool:
    """Whether `payments.json` lists the invoice; without the file, nothing is paid."""
    path = Path(out, "payments.json")
    return path.exists() and invoice in json.loads(path.read_text(encoding="utf-8"))


def _asked(data: Mapping[str, Any]) -> tuple[str, str, str, str]:
    for key in ("invoice", "email"):
        if not isinstance(data.get(key), str) or "/" in data[key]:
            raise onward.NonRetriableError(f"{key}: give a text, not {data.get(key)!r}")
    out, grace = data.get("out", "build/reminders"), data.get("grace", "3d")
    return data["invoice"], data["email"], str(out), str(grace)
