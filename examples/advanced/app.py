"""Advanced checkpointing: exactly after the steps 3 and 6.

    onward run examples/advanced/app.py:app close_month --data @examples/advanced/march.json

closes the books of a month: seven short steps with `buffered_steps=3`. The buffer is full after the
third and after the sixth step; the result of the seventh goes along with the final answer, which
costs no request of its own. `max_interval` would confirm a result that has waited for ten seconds
in a buffer that does not fill.

Amounts are whole cents, debits positive and credits negative, as the bookings have them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onward

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = ("asset", "liability", "equity", "income", "expense")

app = onward.App(
    "advanced",
    checkpointing=onward.Checkpointing(max_runtime="300s", buffered_steps=3, max_interval="10s"),
)


@dataclass(frozen=True)
class Entry:
    """A line of a booking."""

    booking: int
    account: str
    cents: int


@dataclass(frozen=True)
class Closing:
    """The month in three figures, and the file with all of them."""

    turnover_cents: int
    profit_cents: int
    bookings: int
    statement: str


@app.function("close_month", trigger=onward.Event("books/month.ended"))
def close_month(ctx: onward.BlockingContext) -> Closing:
    """Close `month` from its `bookings`, each a list of `[account, amount]`.

    An account is named `kind:name`, such as `asset:cash`; the kinds are `KINDS`.
    """
    month, bookings, out = _asked(ctx.event.data)
    entries = ctx.step.run("read", read, bookings)
    checked = ctx.step.run("check", check, entries)
    balances = ctx.step.run("balances", balances_of, entries)
    # Three results are in the buffer: the first checkpoint.
    turnover = ctx.step.run("trial balance", trial_balance, balances)
    profit = ctx.step.run("profit", profit_of, balances)
    closing = ctx.step.run("closing entries", closing_entries, balances, profit)
    # Three more: the second one.
    statement = ctx.step.run("statement", write_statement, out, month, balances, closing)
    return Closing(turnover, profit, checked, statement)


def read(bookings: list[list[list[str]]]) -> list[Entry]:
    """Turn amounts such as "12.50" into cents. Raises `NonRetriableError` for what is none."""
    return [
        Entry(number, account, _cents(number, account, amount))
        for number, booking in enumerate(bookings, 1)
        for account, amount in booking
    ]


def check(entries: list[Entry]) -> int:
    """Every booking must balance. Returns how many there are."""
    sums: dict[int, int] = {}
    for entry in entries:
        sums[entry.booking] = sums.get(entry.booking, 0) + entry.cents
    wrong = {number: cents for number, cents in sums.items() if cents}
    if wrong:
        raise onward.NonRetriableError(f"bookings that do not balance, by cents: {wrong}")
    return len(sums)


def balances_of(entries: list[Entry]) -> dict[str, int]:
    """The balance of each account in cents."""
    balances: dict[str, int] = {}
    for entry in entries:
        balances[entry.account] = balances.get(entry.account, 0) + entry.cents
    return dict(sorted(balances.items()))


def trial_balance(balances: dict[str, int]) -> int:
    """The sum of the debit balances, which the credit balances must equal."""
    debits = sum(cents for cents in balances.values() if cents > 0)
    credits_ = -sum(cents for cents in balances.values() if cents < 0)
    if debits != credits_:
        raise onward.NonRetriableError(f"debits of {debits} cents, credits of {credits_}")
    return debits


def profit_of(balances: dict[str, int]) -> int:
    """Income less expenses in cents; negative for a loss."""
    return -sum(cents for account, cents in balances.items() if _is_result(account))


def closing_entries(balances: dict[str, int], profit: int) -> dict[str, int]:
    """The entries that empty the income and expense accounts into the retained earnings."""
    emptied = {account: -cents for account, cents in balances.items() if _is_result(account)}
    return {**emptied, "equity:retained earnings": -profit}


def write_statement(out: str, month: str, balances: dict[str, int], closing: dict[str, int]) -> str:
    """Write the balances before and after closing as a Markdown table; return its path."""
    lines = [f"# {month}", "", "| account | before | closing | after |", "|---|--:|--:|--:|"]
    for account in sorted({*balances, *closing}):
        before, change = balances.get(account, 0), closing.get(account, 0)
        cells = " | ".join(f"{cents / 100:,.2f}" for cents in (before, change, before + change))
        lines.append(f"| {account} | {cells} |")
    path = Path(out, f"{month}.md").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return str(path)


def _is_result(account: str) -> bool:
    return account.startswith(("income:", "expense:"))


def _cents(number: int, account: str, amount: str) -> int:
    if account.partition(":")[0] not in KINDS:
        raise onward.NonRetriableError(
            f"booking {number}: {account!r} is no account; name it kind:name with a kind of {KINDS}"
        )
    if not re.fullmatch(r"-?\d+(\.\d\d?)?", amount):
        raise onward.NonRetriableError(f"booking {number}: {amount!r} is no amount like 12.50")
    return int(Decimal(amount) * 100)


def _asked(data: Mapping[str, Any]) -> tuple[str, list[list[list[str]]], str]:
    month, bookings = data.get("month"), data.get("bookings")
    if not isinstance(month, str) or not re.fullmatch(r"\d{4}-\d\d", month):
        raise onward.NonRetriableError(f"month: give one like 2024-03, not {month!r}")
    if not isinstance(bookings, list) or not all(map(_is_booking, bookings)):
        raise onward.NonRetriableError('bookings: give lists of ["kind:name", "12.50"]')
    return month, bookings, str(data.get("out", "build/advanced"))


def _is_booking(booking: object) -> bool:
    return isinstance(booking, list) and all(
        isinstance(line, list) and [type(cell) for cell in line] == [str, str] for line in booking
    )
