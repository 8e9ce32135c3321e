"""Programs as JSON, so that an event can carry one, and a function of either kind that runs it.

A node is `["step", id, fails, final]`, `["sleep", id]`, `["event", id, comes]`, `["signal", id]`,
`["invoke", id, fails]`, `["seq", [node, …]]`, `["all", [node, …]]` or `["try", node, node]`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

import onward

Node = list[Any]

#: What a body does: it is called with the run's id, the step's, and how often it has to fail.
Body = Callable[[str, str, int, bool], str]

CHILD = "child"


class FailedError(Exception):
    """A step of a program fails for good; its text is the step's id."""


def random_program(random: Random, depth: int = 2) -> Node:
    """A program whose meaning does not depend on what comes first."""
    numbers = count(1)

    def leaf() -> Node:
        id_, kind = f"s{next(numbers)}", random.randrange(10)
        if kind < 6:
            return ["step", id_, random.choice((0, 0, 0, 1)), False]
        return random.choice((["sleep", id_], ["event", id_, kind > 7], ["signal", id_]))

    def failing() -> Node:
        id_ = f"s{next(numbers)}"
        return random.choice((["step", id_, 99, True], ["invoke", id_, True]))

    def grow(depth: int) -> Node:
        kind = random.randrange(10) if depth else 0
        if kind < 3:
            return leaf()
        if kind == 3:
            return ["try", failing(), leaf()]
        if kind == 4:
            return ["invoke", f"s{next(numbers)}", False]
        nodes = [grow(depth - 1) for _ in range(random.randint(2, 3))]
        return ["seq" if kind < 7 else "all", nodes]

    return ["seq", [leaf(), grow(depth), grow(depth), leaf()]]


def meaning(node: Node) -> Any:
    """What a program comes to. Raises FailedError."""
    kind, first, *rest = node
    if kind in {"seq", "all"}:
        return [meaning(child) for child in first]
    if kind == "try":
        try:
            return {"ok": meaning(first)}
        except FailedError as error:
            return {"caught": str(error), "then": meaning(rest[0])}
    if (kind == "step" and rest[1]) or (kind == "invoke" and rest[0]):
        raise FailedError(first)
    values = {"step": first, "invoke": f"child of {first}", "event": bool(rest and rest[0])}
    return values.get(kind)


def bodies(node: Node) -> set[str]:
    """The ids of the steps whose bodies have to run."""
    kind, first, *rest = node
    if kind in {"seq", "all"}:
        return set().union(*map(bodies, first))
    if kind == "try":
        return bodies(first) | bodies(rest[0])
    return {first} if kind == "step" else set()


class Tries:
    """Bodies that fail as often as they have to, and a ledger of how often each began."""

    def __init__(self, begins: Callable[[str, str], None] = lambda _run, _step: None) -> None:
        self.began: Counter[tuple[str, str]] = Counter()
        self._begins = begins

    def body(self, run_id: str, step: str, fails: int, final: bool) -> str:
        """A body."""
        self._begins(run_id, step)
        self.began[run_id, step] += 1
        if final:
            raise onward.NonRetriableError(step)
        if self.began[run_id, step] <= fails:
            raise ValueError(step)
        return step


def define(app: onward.App, id_: str, driver: str, body: Body, **options: Any) -> None:
    """The function that runs the program in its event, and the child that it invokes."""
    register = app.function(id_, **options)
    child = app.function(f"{id_}-{CHILD}", trigger=onward.Event("program/never"), retries=20)
    name = f"{app.id}-{id_}-{CHILD}"

    async def in_async(ctx: onward.Context) -> Any:
        return await _run_async(ctx, ctx.event.data["program"], body, name)

    def in_blocking(ctx: onward.BlockingContext) -> Any:
        return _run(ctx, ctx.event.data["program"], body, name)

    async def child_async(ctx: onward.Context) -> str:
        return _child(ctx.event.data)

    def child_blocking(ctx: onward.BlockingContext) -> str:
        return _child(ctx.event.data)

    register(in_async if driver == "async" else in_blocking)
    child(child_async if driver == "async" else child_blocking)


def _child(data: dict[str, Any]) -> str:
    if data["fails"]:
        raise onward.NonRetriableError(data["of"])
    return f"child of {data['of']}"


async def _run_async(  # noqa: PLR0911 - one for each kind
    ctx: onward.Context, node: Node, body: Body, child: str
) -> Any:
    kind, first, *rest = node
    if kind == "seq":
        return [await _run_async(ctx, each, body, child) for each in first]
    if kind == "all":
        return list(await asyncio.gather(*(_run_async(ctx, n, body, child) for n in first)))
    if kind == "try":
        try:
            return {"ok": await _run_async(ctx, first, body, child)}
        except onward.StepError as error:
            then = await _run_async(ctx, rest[0], body, child)
            return {"caught": error.step_id, "then": then}
    if kind == "step":
        return await ctx.step.run(first, body, ctx.run_id, first, *rest)
    if kind == "sleep":
        return await ctx.step.sleep(first, "10ms")
    if kind == "invoke":
        return await ctx.step.invoke(first, child, data={"of": first, "fails": rest[0]}, type=str)
    if kind == "signal":
        return await ctx.step.wait_for_signal(first, signal=f"{ctx.run_id}/{first}", timeout="20ms")
    event, data = f"program/{first}", {"run": ctx.run_id}
    matches = f"async.data.run == '{ctx.run_id}'"
    if not rest[0]:
        return bool(await ctx.step.wait_for_event(first, event=event, timeout="20ms", if_=matches))
    came, _ = await asyncio.gather(
        ctx.step.wait_for_event(first, event=event, timeout="60s", if_=matches),
        ctx.step.send_event(f"{first}-send", {"name": event, "data": data}),
    )
    return came is not None


def _run(  # noqa: PLR0911 - one for each kind
    ctx: onward.BlockingContext, node: Node, body: Body, child: str
) -> Any:
    kind, first, *rest = node
    if kind == "seq":
        return [_run(ctx, each, body, child) for each in first]
    if kind == "all":
        return ctx.step.gather(*(lambda each=each: _run(ctx, each, body, child) for each in first))
    if kind == "try":
        try:
            return {"ok": _run(ctx, first, body, child)}
        except onward.StepError as error:
            return {"caught": error.step_id, "then": _run(ctx, rest[0], body, child)}
    if kind == "step":
        return ctx.step.run(first, body, ctx.run_id, first, *rest)
    if kind == "sleep":
        return ctx.step.sleep(first, "10ms")
    if kind == "invoke":
        return ctx.step.invoke(first, child, data={"of": first, "fails": rest[0]}, type=str)
    if kind == "signal":
        return ctx.step.wait_for_signal(first, signal=f"{ctx.run_id}/{first}", timeout="20ms")
    event, data = f"program/{first}", {"run": ctx.run_id}
    matches = f"async.data.run == '{ctx.run_id}'"
    if not rest[0]:
        return bool(ctx.step.wait_for_event(first, event=event, timeout="20ms", if_=matches))
    came, _ = ctx.step.gather(
        lambda: ctx.step.wait_for_event(first, event=event, timeout="60s", if_=matches),
        lambda: ctx.step.send_event(f"{first}-send", {"name": event, "data": data}),
    )
    return came is not None
