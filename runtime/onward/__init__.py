"""Onward lets one Python function outlive its invocation.

Steps run eagerly in the process that was invoked; their results are checkpointed to an
orchestrator; just before the platform would end the invocation, Onward answers *checkpoint and
continue*, and the orchestrator calls again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onward import asgi as asgi
    from onward import aws_lambda as aws_lambda
    from onward import middleware as middleware
    from onward import testing as testing
    from onward.app import App, Function
    from onward.config import (
        BALANCED,
        BLENDED,
        HIGH_FREQUENCY,
        HIGH_THROUGHPUT,
        PERFORMANT,
        SAFE,
        Checkpointing,
    )
    from onward.context import BlockingContext, Context, InboundEvent, InboundSignal
    from onward.endpoint_page import endpoint_output
    from onward.endpoints import endpoint
    from onward.errors import (
        BlockingCallError,
        ConfigurationError,
        CronError,
        DurationError,
        EventError,
        EventRejectedError,
        EventSchemaError,
        EventsNotSentError,
        ExpressionError,
        MiddlewareError,
        NonRetriableError,
        OnwardError,
        OrchestratorUnavailableError,
        ResultError,
        RetryAfterError,
        RunCancelledError,
        RunError,
        RunFailedError,
        RunNotFinishedError,
        StepError,
        StepUsageError,
        UnknownRunError,
    )
    from onward.failure import Failure
    from onward.flow import (
        BatchEvents,
        Concurrency,
        Debounce,
        Priority,
        RateLimit,
        Singleton,
        Throttle,
        Timeouts,
    )
    from onward.middleware.base import Middleware
    from onward.outbound import NewEvent
    from onward.runs import Run
    from onward.triggers import CancelOn, Cron, Event

__version__ = "0.1.0"

_HOMES = {
    "App": "app",
    "Function": "app",
    "BALANCED": "config",
    "BLENDED": "config",
    "HIGH_FREQUENCY": "config",
    "HIGH_THROUGHPUT": "config",
    "PERFORMANT": "config",
    "SAFE": "config",
    "CancelOn": "triggers",
    "Checkpointing": "config",
    "Cron": "triggers",
    "CronError": "errors",
    "Event": "triggers",
    "ExpressionError": "errors",
    "Failure": "failure",
    "BatchEvents": "flow",
    "Concurrency": "flow",
    "Debounce": "flow",
    "Priority": "flow",
    "RateLimit": "flow",
    "Singleton": "flow",
    "Throttle": "flow",
    "Timeouts": "flow",
    "BlockingContext": "context",
    "Context": "context",
    "endpoint": "endpoints",
    "endpoint_output": "endpoint_page",
    "InboundEvent": "context",
    "InboundSignal": "context",
    "ConfigurationError": "errors",
    "DurationError": "errors",
    "NonRetriableError": "errors",
    "OnwardError": "errors",
    "OrchestratorUnavailableError": "errors",
    "ResultError": "errors",
    "RetryAfterError": "errors",
    "StepError": "errors",
    "Run": "runs",
    "Middleware": "middleware.base",
    "MiddlewareError": "errors",
    "NewEvent": "outbound",
    "BlockingCallError": "errors",
    "EventError": "errors",
    "EventRejectedError": "errors",
    "EventSchemaError": "errors",
    "EventsNotSentError": "errors",
    "RunError": "errors",
    "RunCancelledError": "errors",
    "RunFailedError": "errors",
    "RunNotFinishedError": "errors",
    "UnknownRunError": "errors",
    "StepUsageError": "errors",
}
_MODULES = ("asgi", "aws_lambda", "middleware", "testing")

__all__ = [
    "BALANCED",
    "BLENDED",
    "HIGH_FREQUENCY",
    "HIGH_THROUGHPUT",
    "PERFORMANT",
    "SAFE",
    "App",
    "BatchEvents",
    "BlockingCallError",
    "BlockingContext",
    "CancelOn",
    "Checkpointing",
    "Concurrency",
    "ConfigurationError",
    "Context",
    "Cron",
    "CronError",
    "Debounce",
    "DurationError",
    "Event",
    "EventError",
    "EventRejectedError",
    "EventSchemaError",
    "EventsNotSentError",
    "ExpressionError",
    "Failure",
    "Function",
    "InboundEvent",
    "InboundSignal",
    "Middleware",
    "MiddlewareError",
    "NewEvent",
    "NonRetriableError",
    "OnwardError",
    "OrchestratorUnavailableError",
    "Priority",
    "RateLimit",
    "ResultError",
    "RetryAfterError",
    "Run",
    "RunCancelledError",
    "RunError",
    "RunFailedError",
    "RunNotFinishedError",
    "Singleton",
    "StepError",
    "StepUsageError",
    "Throttle",
    "Timeouts",
    "UnknownRunError",
    "asgi",
    "aws_lambda",
    "endpoint",
    "endpoint_output",
    "middleware",
    "testing",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: what a function does not use costs nothing."""
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"onward.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'onward' has no attribute {name!r}")
    value = getattr(import_module(f"onward.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
