"""The embedded orchestrator: it keeps runs, calls functions, and speaks Inngest's wire."""

from __future__ import annotations

from onward.errors import UnknownRunError
from onward_server.answers import Answer
from onward_server.events import BadEventError
from onward_server.invokers import HttpInvoker, InvokeError, Invoker, LambdaInvoker
from onward_server.orchestrator import (
    Orchestrator,
    OrchestratorStoppedError,
    RunView,
)
from onward_server.settings import Settings
from onward_server.store import StoreError, StoreFullError, StoreVersionError
from onward_server.sync import SyncError
from onward_server.trace import TraceEvent

__all__ = [
    "Answer",
    "BadEventError",
    "HttpInvoker",
    "InvokeError",
    "Invoker",
    "LambdaInvoker",
    "Orchestrator",
    "OrchestratorStoppedError",
    "RunView",
    "Settings",
    "StoreError",
    "StoreFullError",
    "StoreVersionError",
    "SyncError",
    "TraceEvent",
    "UnknownRunError",
]
