"""Expressions as tests of events, for the orchestrator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onward.core.expressions import evaluable_expression

Expression = Callable[[Mapping[str, Any]], bool]


def parse_expression(text: str) -> Expression:
    """`text` as a test of `{"event": …, "async": …}`. Raises ExpressionError."""
    return evaluable_expression(text).test
