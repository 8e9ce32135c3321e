"""Middleware: the base class, and what Onward ships.

Each of the shipped ones is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onward.core.ops import ErrorInfo
    from onward.middleware.base import (
        Answer,
        Call,
        Input,
        Middleware,
        Outcome,
        Sent,
        SentCheckpoint,
        Step,
    )

_HOMES = {
    "Answer": "base",
    "Call": "base",
    "ErrorInfo": "base",
    "Input": "base",
    "Middleware": "base",
    "Outcome": "base",
    "Sent": "base",
    "SentCheckpoint": "base",
    "Step": "base",
}

__all__ = [
    "Answer",
    "Call",
    "ErrorInfo",
    "Input",
    "Middleware",
    "Outcome",
    "Sent",
    "SentCheckpoint",
    "Step",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'onward.middleware' has no attribute {name!r}")
    value = getattr(import_module(f"onward.middleware.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
