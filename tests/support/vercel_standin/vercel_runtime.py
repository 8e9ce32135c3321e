"""Stands in for the module that Vercel's builder puts beside a function.

There, the deadline of the current request comes from its `x-vercel-internal-deadline` header.
"""

from __future__ import annotations

from datetime import datetime

deadline: datetime | None = None


def get_deadline() -> datetime | None:
    """The deadline of the current request, as an aware datetime, or None."""
    return deadline
