"""One measurement of AWS's durable SDK: microseconds a step, over its own in-memory service."""

from __future__ import annotations

import json
import time
from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

STEPS = 200
took: list[float] = []


@durable_execution
def handler(_event: Any, context: DurableContext) -> int:
    """As many steps as Onward's function has, each with a small dict."""
    begun = time.perf_counter()
    for number in range(STEPS):
        context.step(lambda _ctx, n=number: {"number": n, "ok": True}, name=f"step-{number}")
    took.append(time.perf_counter() - begun)
    return STEPS


if __name__ == "__main__":
    with DurableFunctionTestRunner(handler=handler) as runner:
        result = runner.run(input="{}")
    print(json.dumps(took[-1] / STEPS * 1e6))
