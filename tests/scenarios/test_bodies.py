"""Every kind of body in every kind of function, and what bodies see."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from onward import BlockingContext, Context
from tests.support.harness import World

request_id: ContextVar[str] = ContextVar("request_id", default="unset")


def blocking(a: int, b: int = 0) -> int:
    return a + b


async def coroutine(a: int, b: int = 0) -> int:
    await asyncio.sleep(0)
    return a + b


class Service:
    def blocking(self, a: int) -> int:
        return a

    async def coroutine(self, a: int) -> int:
        return a

    def __call__(self, a: int) -> int:
        return a


class AsyncCall:
    async def __call__(self, a: int) -> int:
        return a


BODIES: dict[str, Any] = {
    "blocking": blocking,
    "coroutine": coroutine,
    "partial": partial(blocking, b=0),
    "partial of a coroutine": partial(coroutine, b=0),
    "method": Service().blocking,
    "method that is a coroutine": Service().coroutine,
    "callable": Service(),
    "callable that is a coroutine": AsyncCall(),
    "lambda": lambda a: a,
    "lambda that gives a coroutine": lambda a: coroutine(a, 0),
    "builtin": int,
}


def test_every_kind_of_body(world: World) -> None:
    async def in_async(ctx: Context) -> dict[str, int]:
        return {name: await ctx.step.run(name, body, 5) for name, body in BODIES.items()}

    def in_blocking(ctx: BlockingContext) -> dict[str, int]:
        return {name: ctx.step.run(name, body, 5) for name, body in BODIES.items()}

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == dict.fromkeys(BODIES, 5)
    assert run.once


def test_arguments_reach_bodies(world: World) -> None:
    async def in_async(ctx: Context) -> list[int]:
        return [
            await ctx.step.run("blocking", blocking, 1, b=2),
            await ctx.step.run("coroutine", coroutine, a=3, b=4),
        ]

    def in_blocking(ctx: BlockingContext) -> list[int]:
        return [
            ctx.step.run("blocking", blocking, 1, b=2),
            ctx.step.run("coroutine", coroutine, a=3, b=4),
        ]

    world.define(in_async, in_blocking)
    assert world.run().result == [3, 7]


def test_context_variables_reach_bodies_and_stay_there(world: World) -> None:
    def reads() -> str:
        return request_id.get()

    async def reads_async() -> str:
        return request_id.get()

    def sets() -> None:
        request_id.set("by the body")

    async def in_async(ctx: Context) -> list[str]:
        request_id.set("function")
        await ctx.step.run("sets", sets)

        async def branch(name: str) -> list[str]:
            request_id.set(name)
            return list(
                await asyncio.gather(
                    ctx.step.run(f"{name}1", reads), ctx.step.run(f"{name}2", reads_async)
                )
            )

        branches = await asyncio.gather(branch("a"), branch("b"))
        return [request_id.get(), *branches[0], *branches[1]]

    def in_blocking(ctx: BlockingContext) -> list[str]:
        request_id.set("function")
        ctx.step.run("sets", sets)

        def branch(name: str) -> list[str]:
            request_id.set(name)
            return [ctx.step.run(f"{name}1", reads), ctx.step.run(f"{name}2", reads_async)]

        branches = ctx.step.gather(lambda: branch("a"), lambda: branch("b"))
        return [request_id.get(), *branches[0], *branches[1]]

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == ["function", "a", "a", "b", "b"]
    assert request_id.get() == "unset"


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="bodies run beside one another"
)
def test_a_blocking_body_does_not_hold_up_an_async_function(async_world: World) -> None:
    """It runs on a worker: another body, on the loop, lets it go on."""
    let_go = threading.Event()

    def blocks() -> str:
        assert let_go.wait(30)
        return threading.current_thread().name

    async def lets_go() -> None:
        let_go.set()

    async def in_async(ctx: Context) -> Any:
        name, _ = await asyncio.gather(
            ctx.step.run("blocks", blocks), ctx.step.run("lets go", lets_go)
        )
        return name

    async_world.define(in_async, None)
    assert async_world.run().result == "onward-worker"


@pytest.mark.parametrize("flaky", [0, 2])
def test_an_idempotency_key_is_stable_over_attempts(world: World, flaky: int) -> None:
    keys: dict[str, list[str]] = {"a": [], "b": []}

    async def in_async(ctx: Context) -> None:
        def charge(name: str) -> None:
            keys[name].append(ctx.step.idempotency_key)
            if len(keys[name]) <= flaky:
                raise ValueError(name)

        await ctx.step.run("a", charge, "a")
        await ctx.step.run("b", charge, "b")

    def in_blocking(ctx: BlockingContext) -> None:
        def charge(name: str) -> None:
            keys[name].append(ctx.step.idempotency_key)
            if len(keys[name]) <= flaky:
                raise ValueError(name)

        ctx.step.run("a", charge, "a")
        ctx.step.run("b", charge, "b")

    world.define(in_async, in_blocking)
    assert world.run().result is None
    assert {len(seen) for seen in keys.values()} == {flaky + 1}
    (a,), (b,) = set(keys["a"]), set(keys["b"])
    assert a != b
    other = world.run()
    assert other.result is None
    assert len({a, b, keys["a"][-1], keys["b"][-1]}) == 4


def test_an_idempotency_key_outside_of_a_step(world: World) -> None:
    async def in_async(ctx: Context) -> str:
        return ctx.step.idempotency_key

    def in_blocking(ctx: BlockingContext) -> str:
        return ctx.step.idempotency_key

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == "StepUsageError"
    assert "idempotency_key" in run.error["message"]
