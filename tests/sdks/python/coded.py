"""A middleware that changes what travels: every step's result is stored reversed, as text."""

from __future__ import annotations

import json
from typing import Any

import inngest


def _encode(value: Any) -> dict[str, str]:
    return {"coded": json.dumps(value, ensure_ascii=False)[::-1]}


def _decode(value: Any) -> Any:
    if isinstance(value, dict) and "coded" in value:
        return json.loads(value["coded"][::-1])
    return value


def _encode_output(result: inngest.TransformOutputResult) -> None:
    if result.step is not None and result.error is None:
        result.output = _encode(result.output)


def _decode_steps(steps: inngest.StepMemos) -> None:
    for memo in steps.values():
        memo.data = _decode(memo.data)


class Coded(inngest.Middleware):
    """For async functions."""

    async def transform_input(self, ctx: Any, function: Any, steps: inngest.StepMemos) -> None:
        """Results from the journal, as the function knows them."""
        _decode_steps(steps)

    async def transform_output(self, result: inngest.TransformOutputResult) -> None:
        """Results as they are stored."""
        _encode_output(result)


class CodedBlocking(inngest.MiddlewareSync):
    """For blocking functions."""

    def transform_input(self, ctx: Any, function: Any, steps: inngest.StepMemos) -> None:
        """Results from the journal, as the function knows them."""
        _decode_steps(steps)

    def transform_output(self, result: inngest.TransformOutputResult) -> None:
        """Results as they are stored."""
        _encode_output(result)


def coded(*, blocking: bool) -> Any:
    """The middleware for functions of this kind."""
    return CodedBlocking if blocking else Coded
