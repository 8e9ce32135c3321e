"""A Lambda function in a process of its own, which whoever started it kills at the limit.

It reads one line of JSON, `{"event": …, "remaining": seconds, "hard": kind}`, and writes
`{"answer": …}` if it ever answers. Bodies are noted in the file that it is given.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onward
from onward.aws_lambda import handler
from tests.support.entries import LambdaContext
from tests.watchdog.bodies import LONG_S, ignore_interrupts, sleep_holding_the_gil, stuck_in_c

HARD: dict[str, Callable[[], Any]] = {
    "swallows": partial(ignore_interrupts, lambda: False),
    "stuck in C": partial(stuck_in_c, LONG_S),
    "gil held": partial(sleep_holding_the_gil, LONG_S),
    "quick": lambda: None,
}


def build(driver: str, ledger: Path, hard: str) -> onward.App:
    """The app: two steps, and one that is hard to stop."""
    app = onward.App(
        "lab",
        checkpointing=onward.Checkpointing(buffered_steps=100),
        deadline_margin="0.5s",
    )
    register = app.function("linear", trigger=onward.Event("test/asked"))

    def note(name: str) -> str:
        with ledger.open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        return name

    async def linear(ctx: onward.Context) -> str:
        await ctx.step.run("s1", note, "s1")
        await ctx.step.run("s2", note, "s2")
        await ctx.step.run("hard", HARD[hard])
        return "done"

    def linear_blocking(ctx: onward.BlockingContext) -> str:
        ctx.step.run("s1", note, "s1")
        ctx.step.run("s2", note, "s2")
        ctx.step.run("hard", HARD[hard])
        return "done"

    register(linear if driver == "async" else linear_blocking)
    return app


def main() -> None:
    """Answer one invocation."""
    driver, ledger = sys.argv[1:]
    print("ready", flush=True)  # noqa: T201 - what whoever started it waits for
    asked = json.loads(sys.stdin.readline())
    handle = handler(build(driver, Path(ledger), asked["hard"]))
    answer = handle(asked["event"], LambdaContext(asked["remaining"]))
    print(json.dumps({"answer": answer}), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
