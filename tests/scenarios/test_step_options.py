"""`barrier`, `timeout`, `expected`."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from onward import BlockingContext, Checkpointing, Context, StepError
from tests.support.harness import World

PATIENCE_S = 30.0


def same(value: str) -> str:
    return value


@pytest.mark.checkpointing(reason="what is in the buffer when the step begins")
@pytest.mark.parametrize("mode", ["confirmed", "pipelined"])
def test_a_barrier_waits_until_all_before_it_is_confirmed(world: World, mode: Any) -> None:
    confirmed: list[list[str]] = []

    def charge() -> list[str]:
        return [step for batch in confirmed for step in batch]

    async def in_async(ctx: Context) -> Any:
        for n in range(3):
            await ctx.step.run(f"s{n}", same, "x")
        charged = await ctx.step.run("charge", charge, barrier=True)
        await ctx.step.run("after", same, "x")
        return charged

    def in_blocking(ctx: BlockingContext) -> Any:
        for n in range(3):
            ctx.step.run(f"s{n}", same, "x")
        charged = ctx.step.run("charge", charge, barrier=True)
        ctx.step.run("after", same, "x")
        return charged

    world.on_checkpoint = lambda checkpoint: confirmed.append(checkpoint.steps)
    world.define(in_async, in_blocking, checkpointing=Checkpointing(buffered_steps=100, mode=mode))
    run = world.run()
    assert run.result == ["s0", "s1", "s2"]
    assert run.once


@pytest.mark.checkpointing(reason="what is in the buffer when the step begins")
def test_a_barrier_waits_for_its_siblings_in_the_buffer(world: World) -> None:
    """A branch that comes to a barrier while another one has an unconfirmed result."""

    async def in_async(ctx: Context) -> Any:
        async def pays() -> str:
            await ctx.step.run("cart", same, "cart")
            return await ctx.step.run("charge", same, "charged", barrier=True)

        return await asyncio.gather(ctx.step.run("log", same, "log"), pays())

    def in_blocking(ctx: BlockingContext) -> Any:
        def pays() -> str:
            ctx.step.run("cart", same, "cart")
            return ctx.step.run("charge", same, "charged", barrier=True)

        return ctx.step.gather(lambda: ctx.step.run("log", same, "log"), pays)

    world.define(in_async, in_blocking, checkpointing=Checkpointing(buffered_steps=100))
    run = world.run()
    assert run.result == ["log", "charged"]
    assert "cart" in run.batches[0]
    assert run.once


async def sleeps_async() -> None:
    await asyncio.sleep(PATIENCE_S)


def sleeps() -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        time.sleep(0.005)


@pytest.mark.parametrize("body", [sleeps_async, sleeps])
def test_a_step_over_its_timeout_is_stopped_and_fails(world: World, body: Any) -> None:
    async def in_async(ctx: Context) -> Any:
        try:
            await ctx.step.run("slow", body, timeout="30ms")
        except StepError as error:
            return error.name, error.message

    def in_blocking(ctx: BlockingContext) -> Any:
        try:
            ctx.step.run("slow", body, timeout="30ms")
        except StepError as error:
            return error.name, error.message

    world.define(in_async, in_blocking, retries=1)
    run = world.run()
    name, message = run.result
    assert name == "StepTimedOutError"
    assert "'slow'" in message
    assert "timeout" in message
    assert run.starts == {"slow": 2}
    assert run.ends == {}


def test_a_timeout_that_is_kept_changes_nothing(world: World) -> None:
    async def in_async(ctx: Context) -> str:
        return await ctx.step.run("quick", same, "ok", timeout="1m")

    def in_blocking(ctx: BlockingContext) -> str:
        return ctx.step.run("quick", same, "ok", timeout="1m")

    world.define(in_async, in_blocking)
    assert world.run().result == "ok"


def test_a_branch_over_its_timeout_leaves_the_others_alone(world: World) -> None:
    timed_out = threading.Event()

    def sibling() -> str:
        assert timed_out.wait(PATIENCE_S)
        return "sibling"

    async def slow() -> None:
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            timed_out.set()

    async def in_async(ctx: Context) -> Any:
        results = await asyncio.gather(
            ctx.step.run("slow", slow, timeout="30ms"),
            ctx.step.run("sibling", sibling),
            return_exceptions=True,
        )
        return [getattr(result, "name", result) for result in results]

    def in_blocking(ctx: BlockingContext) -> Any:
        def branch() -> str:
            try:
                ctx.step.run("slow", slow, timeout="30ms")
            except StepError as error:
                return error.name
            return "no error"

        return ctx.step.gather(branch, lambda: ctx.step.run("sibling", sibling))

    world.define(in_async, in_blocking, retries=0)
    run = world.run()
    assert run.result == ["StepTimedOutError", "sibling"]
    assert run.starts == {"slow": 1, "sibling": 1}


@pytest.mark.checkpointing(reason="what is in the buffer when the step begins")
def test_a_step_that_is_not_expected_to_fit_gets_an_invocation_of_its_own(world: World) -> None:
    async def in_async(ctx: Context) -> str:
        await ctx.step.run("quick", same, "quick")
        return await ctx.step.run("long", same, "long", expected="1h")

    def in_blocking(ctx: BlockingContext) -> str:
        ctx.step.run("quick", same, "quick")
        return ctx.step.run("long", same, "long", expected="1h")

    world.define(in_async, in_blocking, checkpointing=Checkpointing(max_runtime="10m"))
    run = world.run()
    assert run.result == "long"
    assert run.kinds == "c a"
    assert run.starts == {"quick": 1, "long": 1}


@pytest.mark.parametrize(
    "options",
    [{"timeout": "5 parsecs"}, {"expected": -1}, {"retry_in_place": -1}, {"retry_in_place": True}],
)
def test_bad_options(world: World, options: Any) -> None:
    async def in_async(ctx: Context) -> None:
        await ctx.step.run("bad", same, "x", **options)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("bad", same, "x", **options)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] in {"DurationError", "StepUsageError"}
    assert "'bad'" in run.error["message"]
    assert len(run.invocations) == 1
    assert run.starts == {}
