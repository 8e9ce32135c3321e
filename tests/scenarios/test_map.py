"""`map`: one step an item, so many at a time."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from onward import BlockingContext, Checkpointing, Context, StepError
from tests.support.harness import World


@dataclass
class Square:
    of: int
    value: int


def square(n: int) -> Square:
    return Square(n, n * n)


async def square_async(n: int) -> Square:
    await asyncio.sleep(0)
    return Square(n, n * n)


def same(value: Any) -> Any:
    return value


@pytest.mark.parametrize("body", [square, square_async])
def test_results_come_in_the_order_of_the_items(world: World, body: Any) -> None:
    async def in_async(ctx: Context) -> Any:
        squares = await ctx.step.map("square", iter(range(7)), body, concurrency=3)
        assert all(type(each) is Square for each in squares)
        return [each.value for each in squares]

    def in_blocking(ctx: BlockingContext) -> Any:
        squares = ctx.step.map("square", iter(range(7)), body, concurrency=3)
        assert all(type(each) is Square for each in squares)
        return [each.value for each in squares]

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == [n * n for n in range(7)]
    assert run.starts == {f"square[{n}]": 1 for n in range(7)}


@pytest.mark.checkpointing(reason="what runs at once within an invocation")
@pytest.mark.parametrize("most", [1, 3])
def test_no_more_at_a_time_than_it_says(world: World, most: int) -> None:
    """All lanes are full at once, and there is never one more."""
    lock, full = threading.Lock(), threading.Barrier(most)
    running: list[int] = []
    peaks: list[int] = []

    def body(n: int) -> int:
        with lock:
            running.append(n)
            peaks.append(len(running))
        full.wait(30)
        with lock:
            running.remove(n)
        return n

    async def in_async(ctx: Context) -> Any:
        return await ctx.step.map("each", range(2 * most), body, concurrency=most)

    def in_blocking(ctx: BlockingContext) -> Any:
        return ctx.step.map("each", range(2 * most), body, concurrency=most)

    world.define(in_async, in_blocking, checkpointing=Checkpointing(buffered_steps=100))
    assert world.run().result == list(range(2 * most))
    assert max(peaks) == most


def test_all_end_before_the_first_error_in_the_order_of_the_items_is_raised(world: World) -> None:
    def body(n: int) -> int:
        if n in (1, 3):
            raise ValueError(f"no {n}")
        return n

    async def in_async(ctx: Context) -> Any:
        try:
            await ctx.step.map("each", range(5), body, concurrency=2)
        except StepError as error:
            return [error.step_id, error.message, await ctx.step.run("after", same, 1)]

    def in_blocking(ctx: BlockingContext) -> Any:
        try:
            ctx.step.map("each", range(5), body, concurrency=2)
        except StepError as error:
            return [error.step_id, error.message, ctx.step.run("after", same, 1)]

    world.define(in_async, in_blocking, retries=1)
    run = world.run()
    assert run.result == ["each[1]", "no 1", 1]
    once = {name for name, count in run.starts.items() if count == 1}
    assert once == {"each[0]", "each[2]", "each[4]", "after"}
    assert run.starts["each[1]"] == 2


def test_beside_a_sleep_and_a_wait_the_steps_are_planned(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        results, _, event = await asyncio.gather(
            ctx.step.map("each", range(4), same, concurrency=2),
            ctx.step.sleep("nap", "20ms"),
            ctx.step.wait_for_event("wait", event="scenario/never", timeout="40ms"),
        )
        return [results, event, await ctx.step.run("after", same, 1)]

    def in_blocking(ctx: BlockingContext) -> Any:
        results, _, event = ctx.step.gather(
            lambda: ctx.step.map("each", range(4), same, concurrency=2),
            lambda: ctx.step.sleep("nap", "20ms"),
            lambda: ctx.step.wait_for_event("wait", event="scenario/never", timeout="40ms"),
        )
        return [results, event, ctx.step.run("after", same, 1)]

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == [[0, 1, 2, 3], None, 1]
    assert run.once


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="several steps in one invocation"
)
def test_one_id_in_a_loop_is_certain_and_in_two_branches_is_not(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def in_async(ctx: Context) -> Any:
        loop = [await ctx.step.map("page", [n, n], same) for n in range(2)]
        with caplog.at_level(logging.WARNING, "onward"):
            before = len(caplog.records)
            await asyncio.gather(ctx.step.map("both", [1], same), ctx.step.map("both", [2], same))
        return [loop, before]

    def in_blocking(ctx: BlockingContext) -> Any:
        loop = [ctx.step.map("page", [n, n], same) for n in range(2)]
        with caplog.at_level(logging.WARNING, "onward"):
            before = len(caplog.records)
            ctx.step.gather(
                lambda: ctx.step.map("both", [1], same), lambda: ctx.step.map("both", [2], same)
            )
        return [loop, before]

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == [[[0, 0], [1, 1]], 0]
    assert set(run.starts) == {
        *("page[0]", "page[1]", "page[0]:1", "page[1]:1"),
        *("both[0]", "both[0]:1"),
    }
    assert any("'both[0]'" in record.getMessage() for record in caplog.records)


@pytest.mark.checkpointing(
    "confirmed", "buffered", "pipelined", reason="several steps in one invocation"
)
def test_no_items_are_no_steps(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        return await ctx.step.map("each", [], same)

    def in_blocking(ctx: BlockingContext) -> Any:
        return ctx.step.map("each", [], same)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == []
    assert run.kinds == "a"


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "concurrency": ({"concurrency": 0}, "StepUsageError", "from 1"),
    "items": ({"items": 5}, "StepUsageError", "instead of items"),
    "body": ({"body": 5}, "StepUsageError", "cannot be called"),
    "timeout": ({"timeout": "soon"}, "DurationError", "'each'"),
    "option": ({"timout": "1s"}, "StepUsageError", "'timout', which is no step's option"),
    "id": ({"id": 5}, "StepUsageError", "not a step id"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_map(world: World, bad: str) -> None:
    changed, name, said = BAD[bad]
    given: dict[str, Any] = {"id": "each", "items": [1, 2], "body": same, **changed}

    async def in_async(ctx: Context) -> None:
        await ctx.step.map(**given)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.map(**given)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == name
    assert said in run.error["message"]
    assert not run.starts
