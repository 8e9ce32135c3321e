"""Waits for signals: sent over the REST API, timed out, or contended for."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from onward import BlockingContext, Context, Event, InboundSignal, StepError
from tests.support.harness import World


def sender(world: World) -> Any:
    """A body that sends a signal."""

    def send(name: str, data: Any) -> int:
        url = f"{world.platform.api_url}/v1/signals"
        return httpx.post(url, json={"signal": name, "data": data}, trust_env=False).status_code

    return send


@pytest.mark.parametrize("data", [{"ok": True}, None, [1, 2]], ids=["object", "null", "list"])
def test_a_signal_ends_the_wait_with_its_data(world: World, data: Any) -> None:
    send = sender(world)

    async def in_async(ctx: Context) -> Any:
        got, status = await asyncio.gather(
            ctx.step.wait_for_signal("wait", signal="go", timeout="30s"),
            ctx.step.run("send", send, "go", data),
        )
        assert isinstance(got, InboundSignal)
        return [got.signal, got.data, status]

    def in_blocking(ctx: BlockingContext) -> Any:
        got, status = ctx.step.gather(
            lambda: ctx.step.wait_for_signal("wait", signal="go", timeout="30s"),
            lambda: ctx.step.run("send", send, "go", data),
        )
        assert isinstance(got, InboundSignal)
        return [got.signal, got.data, status]

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == ["go", data, 200]
    assert run.once


@pytest.mark.checkpointing("confirmed", "buffered", "pipelined", reason="its calls are counted")
def test_it_times_out(world: World) -> None:
    async def in_async(ctx: Context) -> Any:
        return await ctx.step.wait_for_signal("wait", signal="never", timeout="10ms")

    def in_blocking(ctx: BlockingContext) -> Any:
        return ctx.step.wait_for_signal("wait", signal="never", timeout=0.01)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result is None
    assert run.kinds == "e a"
    (op,) = run.invocations[0].body
    assert op["name"] == "never"
    assert op["opts"] == {"signal": "never", "timeout": "10ms", "parallelMode": "race"}


def test_data_of_a_type(world: World) -> None:
    send = sender(world)

    async def in_async(ctx: Context) -> Any:
        got, _ = await asyncio.gather(
            ctx.step.wait_for_signal("wait", signal="go", timeout="30s", type=set[int]),
            ctx.step.run("send", send, "go", [1, 2, 2]),
        )
        assert got is not None
        return sorted(got.data) if isinstance(got.data, set) else None

    def in_blocking(ctx: BlockingContext) -> Any:
        got, _ = ctx.step.gather(
            lambda: ctx.step.wait_for_signal("wait", signal="go", timeout="30s", type=set[int]),
            lambda: ctx.step.run("send", send, "go", [1, 2, 2]),
        )
        assert isinstance(got, InboundSignal)
        return sorted(got.data) if isinstance(got.data, set) else None

    world.define(in_async, in_blocking)
    assert world.run().result == [1, 2]


@pytest.mark.parametrize("conflict", ["fail", "replace"])
def test_two_runs_that_wait_for_one_signal(world: World, conflict: Any) -> None:
    """`fail` fails the later run; `replace` leaves the earlier one to its timeout."""
    send = sender(world)

    async def other_async(ctx: Context) -> Any:
        got, _ = await asyncio.gather(
            ctx.step.wait_for_signal("theirs", signal="go", timeout="30s", on_conflict=conflict),
            ctx.step.run("send-theirs", send, "go", "theirs"),
        )
        return got.data if got else None

    def other_blocking(ctx: BlockingContext) -> Any:
        got, _ = ctx.step.gather(
            lambda: ctx.step.wait_for_signal(
                "theirs", signal="go", timeout="30s", on_conflict=conflict
            ),
            lambda: ctx.step.run("send-theirs", send, "go", "theirs"),
        )
        return got.data if isinstance(got, InboundSignal) else None

    async def in_async(ctx: Context) -> Any:
        async def other() -> Any:
            try:
                return await ctx.step.invoke("other", "other")
            except StepError as error:
                await ctx.step.run("send", send, "go", "ours")
                return error.message

        timeout = "30s" if conflict == "fail" else "300ms"
        ours, theirs = await asyncio.gather(
            ctx.step.wait_for_signal("ours", signal="go", timeout=timeout), other()
        )
        return [ours.data if ours else None, theirs]

    def in_blocking(ctx: BlockingContext) -> Any:
        def other() -> Any:
            try:
                return ctx.step.invoke("other", "other")
            except StepError as error:
                ctx.step.run("send", send, "go", "ours")
                return error.message

        timeout = "30s" if conflict == "fail" else "300ms"
        ours, theirs = ctx.step.gather(
            lambda: ctx.step.wait_for_signal("ours", signal="go", timeout=timeout), other
        )
        return [ours.data if isinstance(ours, InboundSignal) else None, theirs]

    app = world.define(in_async, in_blocking)
    other: Any = other_async if world.driver == "async" else other_blocking
    app.function("other", trigger=Event("scenario/never"), retries=0)(other)
    ours, theirs = world.run().result
    if conflict == "fail":
        assert ours == "ours"
        assert "Signal conflict" in theirs
    else:
        assert (ours, theirs) == (None, "theirs")


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "signal": ({"signal": 5}, "StepUsageError", "no signal"),
    "timeout": ({"timeout": "soon"}, "DurationError", "'wait'"),
    "conflict": ({"on_conflict": "ignore"}, "StepUsageError", "'fail' or 'replace'"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_wait(world: World, bad: str) -> None:
    changed, name, said = BAD[bad]
    given: dict[str, Any] = {"signal": "go", "timeout": "1s", **changed}

    async def in_async(ctx: Context) -> None:
        await ctx.step.wait_for_signal("wait", **given)

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.wait_for_signal("wait", **given)

    world.define(in_async, in_blocking)
    run = world.run()
    assert run.error["name"] == name
    assert said in run.error["message"]
    assert len(run.invocations) == 1
