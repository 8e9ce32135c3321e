"""From nothing to the first confirmed checkpoint: one call request, in this process."""

from __future__ import annotations

import os
import sys

import onward

app = onward.App("bench", orchestrator=os.environ["BENCH_URL"])


def body() -> int:
    """A small result."""
    return 1


@app.function("one", trigger=onward.Event("bench"))
def one(ctx: onward.BlockingContext) -> int:
    """One step, confirmed before the function goes on."""
    return ctx.step.run("step-0", body)


handler = onward.aws_lambda.handler(app)
EVENT = {"name": "bench", "data": {}}
REQUEST = {
    "ctx": {"run_id": "R", "request_id": "Q", "attempt": 0, "stack": {"stack": [], "current": 0}},
    "event": EVENT,
    "events": [EVENT],
    "steps": {},
}

if __name__ == "__main__":
    payload = {"onward": "call", "function_id": "bench-one", "step_id": "step", "request": REQUEST}
    ops = handler(payload, None)["body"]
    # The step is not among them: it was confirmed.
    sys.exit([op["op"] for op in ops] != ["RunComplete"])
