"""A journal too large for the call request is fetched."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from onward import BlockingContext, Context
from onward.transport.http import JOURNAL_TRIES
from tests.support.harness import World


def blob(n: int) -> str:
    return f"{n}" * 1000


def order_of(names: list[str]) -> list[str]:
    return names


def test_results_come_from_the_api_in_their_order(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        seen: list[str] = []

        async def branch(n: int) -> None:
            seen.append((await ctx.step.run(f"p{n}", blob, n))[0])

        await asyncio.gather(*map(branch, range(4)))
        recorded = await ctx.step.run("order", order_of, seen)
        await ctx.step.sleep("nap", "5ms")
        return [ctx.event.data, recorded == seen]

    def in_blocking(ctx: BlockingContext) -> Any:
        seen: list[str] = []

        def branch(n: int) -> None:
            seen.append(ctx.step.run(f"p{n}", blob, n)[0])

        ctx.step.gather(*(lambda n=n: branch(n) for n in range(4)))
        recorded = ctx.step.run("order", order_of, seen)
        ctx.step.sleep("nap", "5ms")
        return [ctx.event.data, recorded == seen]

    world.settings = {"trim_bytes": 1000}
    world.define(in_async, in_blocking)
    run = world.run({"n": 1})
    assert run.result == [{"n": 1}, True]
    assert run.once
    assert any(i.request["use_api"] for i in run.invocations)


@pytest.mark.checkpointing("confirmed", "buffered", "pipelined", reason="its calls are counted")
@pytest.mark.parametrize("within", [True, False], ids=["the call", "a later call"])
def test_a_journal_that_cannot_be_fetched_is_fetched_again(world: World, within: bool) -> None:
    """Nothing is run without it. The request is tried again, and then the call is."""
    failures = {"left": 1 if within else JOURNAL_TRIES}

    def lose(path: str) -> bool:
        if path.endswith("/actions") and failures["left"]:
            failures["left"] -= 1
            return True
        return False

    async def in_async(ctx: Context) -> int:
        result = await ctx.step.run("blob", blob, 1)
        await ctx.step.sleep("nap", "5ms")
        return len(result)

    def in_blocking(ctx: BlockingContext) -> int:
        result = ctx.step.run("blob", blob, 1)
        ctx.step.sleep("nap", "5ms")
        return len(result)

    world.settings = {"trim_bytes": 500}
    world.lose_answer = lose
    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == 1000
    assert run.once
    answers = [call.answer.status for call in run.invocations]
    assert answers == ([206, 206] if within else [206, 500, 206])
    assert within or run.invocations[1].body["name"] == "JournalFetchError"
