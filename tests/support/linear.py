"""Functions that run a list of steps, one after the other: the same for both drivers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onward

#: A step's id and its body; or the duration of a sleep instead.
Step = tuple[str, Callable[[], Any] | str]

#: What a function calls, one after the other.
Plan = Sequence[Step]


@dataclass
class Ledger:
    """What bodies and functions did, seen from outside of Onward."""

    began: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    unwound: int = 0

    def body(self, name: str, then: Callable[[], Any] | None = None) -> Callable[[], Any]:
        """A blocking body that notes when it begins and ends, and does `then` in between."""

        def body() -> Any:
            self.began.append(name)
            value = then() if then is not None else f"result of {name}"
            self.ended.append(name)
            return value

        return body

    def bodies(self, *names: str) -> list[Step]:
        """Steps of these names."""
        return [(name, self.body(name)) for name in names]


def linear_app(
    driver: str,
    ledger: Ledger,
    plan: Plan,
    *,
    checkpointing: bool | onward.Checkpointing = True,
    **options: Any,
) -> onward.App:
    """An app with one function, `async` or `blocking`, that runs `plan` and returns the results."""
    app = onward.App("lab", checkpointing=checkpointing, **options)
    register = app.function("linear", trigger=onward.Event("test/asked"))

    async def linear(ctx: onward.Context) -> list[Any]:
        results: list[Any] = []
        try:
            for name, body in plan:
                if isinstance(body, str):
                    await ctx.step.sleep(name, body)
                else:
                    results.append(await ctx.step.run(name, body))
        finally:
            ledger.unwound += 1
        return results

    def linear_blocking(ctx: onward.BlockingContext) -> list[Any]:
        results: list[Any] = []
        try:
            for name, body in plan:
                if isinstance(body, str):
                    ctx.step.sleep(name, body)
                else:
                    results.append(ctx.step.run(name, body))
        finally:
            ledger.unwound += 1
        return results

    register(linear if driver == "async" else linear_blocking)
    return app
