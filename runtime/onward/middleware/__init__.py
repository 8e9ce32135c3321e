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
    from onward.middleware.encryption import EncryptionMiddleware
    from onward.middleware.logs import LoggingMiddleware, RunFilter
    from onward.middleware.offload import OffloadMiddleware
    from onward.middleware.otel import OpenTelemetryMiddleware
    from onward.middleware.stores import DirectoryStore, S3Store, Store

_HOMES = {
    "Answer": "base",
    "Call": "base",
    "DirectoryStore": "stores",
    "EncryptionMiddleware": "encryption",
    "ErrorInfo": "base",
    "Input": "base",
    "LoggingMiddleware": "logs",
    "Middleware": "base",
    "OffloadMiddleware": "offload",
    "OpenTelemetryMiddleware": "otel",
    "Outcome": "base",
    "RunFilter": "logs",
    "S3Store": "stores",
    "Sent": "base",
    "SentCheckpoint": "base",
    "Step": "base",
    "Store": "stores",
}

__all__ = [
    "Answer",
    "Call",
    "DirectoryStore",
    "EncryptionMiddleware",
    "ErrorInfo",
    "Input",
    "LoggingMiddleware",
    "Middleware",
    "OffloadMiddleware",
    "OpenTelemetryMiddleware",
    "Outcome",
    "RunFilter",
    "S3Store",
    "Sent",
    "SentCheckpoint",
    "Step",
    "Store",
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
