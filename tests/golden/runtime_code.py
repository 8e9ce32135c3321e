"""The user code of the recorded scenarios, for both drivers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from onward import (
    BlockingContext,
    Checkpointing,
    Context,
    NonRetriableError,
    RetryAfterError,
    StepError,
)

#: A step that waits for something that never comes gives up after so many seconds.
PATIENCE_S = 30.0

EACH_STEP = Checkpointing()
BUFFERED = Checkpointing(buffered_steps=10)


class Error(Exception):
    """The recorded name of an error is that of its class."""


@dataclass(frozen=True)
class Code:
    """One scenario's function for both drivers, and its options."""

    in_async: Callable[[Context], Any]
    in_blocking: Callable[[BlockingContext], Any]
    checkpointing: Checkpointing | bool = EACH_STEP
    options: dict[str, Any] = field(default_factory=dict)


CODE: dict[str, Callable[[threading.Event], Code]] = {}

Make = Callable[[threading.Event], Code]


def scenario(name: str) -> Callable[[Make], Make]:
    """Register what makes the code of `name`; it gets an event: a checkpoint was received."""

    def register(make: Make) -> Make:
        CODE[name] = make
        return make

    return register


def number(n: int) -> dict[str, int]:
    return {"i": n}


def same(value: Any) -> Any:
    return value


def raises(error: Exception) -> Any:
    raise error


def _sequence(name: str, count: int, checkpointing: Checkpointing | bool) -> None:
    async def in_async(ctx: Context) -> list[Any]:
        return [await ctx.step.run(f"s{n}", number, n) for n in range(count)]

    def in_blocking(ctx: BlockingContext) -> list[Any]:
        return [ctx.step.run(f"s{n}", number, n) for n in range(count)]

    scenario(name)(lambda _: Code(in_async, in_blocking, checkpointing))


_sequence("sequential-checkpoint-each-step", 3, EACH_STEP)
_sequence("sequential-buffered-3-of-7", 7, Checkpointing(buffered_steps=3))
_sequence("sequential-no-checkpointing", 3, False)
_sequence("checkpoint-api-down-fallback", 4, Checkpointing(buffered_steps=2))


def _one_step(name: str, step: str, value: Callable[[Any], Any], *, returns: bool = True) -> None:
    async def in_async(ctx: Context) -> Any:
        result = await ctx.step.run(step, value, ctx)
        return result if returns else None

    def in_blocking(ctx: BlockingContext) -> Any:
        result = ctx.step.run(step, value, ctx)
        return result if returns else None

    scenario(name)(lambda _: Code(in_async, in_blocking))


_one_step("child", "double", lambda ctx: ctx.event.data["x"] * 2)
_one_step("batch-events", "sum", lambda ctx: len(ctx.events))
_one_step(
    "on-failure-failure",
    "clean-up",
    lambda ctx: ctx.failure.error.message,
    returns=False,
)


@scenario("no-steps")
def no_steps(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> dict[str, str]:
        return {"hello": "world"}

    def in_blocking(ctx: BlockingContext) -> dict[str, str]:
        return {"hello": "world"}

    return Code(in_async, in_blocking)


@scenario("buffered-max-interval")
def buffered_max_interval(checkpointed: threading.Event) -> Code:
    def slow(n: int) -> int:
        if n == 2:
            assert checkpointed.wait(PATIENCE_S)
        return n

    async def in_async(ctx: Context) -> str:
        for n in range(4):
            await ctx.step.run(f"s{n}", slow, n)
        return "done"

    def in_blocking(ctx: BlockingContext) -> str:
        for n in range(4):
            ctx.step.run(f"s{n}", slow, n)
        return "done"

    return Code(in_async, in_blocking, Checkpointing(buffered_steps=100, max_interval="1s"))


@scenario("sleep-between-steps")
def sleep_between_steps(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> str:
        await ctx.step.run("a", same, 1)
        await ctx.step.run("b", same, 2)
        await ctx.step.sleep("nap", "2s")
        await ctx.step.run("c", same, 3)
        return "done"

    def in_blocking(ctx: BlockingContext) -> str:
        ctx.step.run("a", same, 1)
        ctx.step.run("b", same, 2)
        ctx.step.sleep("nap", "2s")
        ctx.step.run("c", same, 3)
        return "done"

    return Code(in_async, in_blocking, BUFFERED)


@scenario("sleep-until")
def sleep_until(_: threading.Event) -> Code:
    at = "2026-11-23T03:02:43.160Z"

    async def in_async(ctx: Context) -> str:
        await ctx.step.sleep_until("nap", await ctx.step.run("at", same, at))
        return "done"

    def in_blocking(ctx: BlockingContext) -> str:
        ctx.step.sleep_until("nap", ctx.step.run("at", same, at))
        return "done"

    return Code(in_async, in_blocking)


@scenario("cancel-on-event")
def cancel_on_event(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> None:
        await ctx.step.run("a", same, 1)
        await ctx.step.sleep("long", "20s")

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("a", same, 1)
        ctx.step.sleep("long", "20s")

    return Code(in_async, in_blocking)


@scenario("send-event-step")
def send_event_step(_: threading.Event) -> Code:
    events = [{"name": "golden/sent", "data": {"n": 1}}, {"name": "golden/sent", "data": {"n": 2}}]

    async def in_async(ctx: Context) -> dict[str, Any]:
        return {"ids": await ctx.step.send_event("notify", events)}

    def in_blocking(ctx: BlockingContext) -> dict[str, Any]:
        return {"ids": ctx.step.send_event("notify", events)}

    return Code(in_async, in_blocking)


@scenario("step-error-retry-then-succeed")
def step_error_retry_then_succeed(_: threading.Event) -> Code:
    def flaky(attempt: int) -> int:
        if attempt == 0:
            raise Error("flaky")
        return 2

    async def in_async(ctx: Context) -> Any:
        await ctx.step.run("a", same, 1)
        b = await ctx.step.run("b", flaky, ctx.attempt)
        await ctx.step.run("c", same, 3)
        return b

    def in_blocking(ctx: BlockingContext) -> Any:
        ctx.step.run("a", same, 1)
        b = ctx.step.run("b", flaky, ctx.attempt)
        ctx.step.run("c", same, 3)
        return b

    return Code(in_async, in_blocking, BUFFERED)


@scenario("step-error-caught")
def step_error_caught(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> Any:
        try:
            await ctx.step.run("bad", raises, TypeError("nope"))
        except StepError as error:
            return await ctx.step.run("fallback", same, f"plan-b:{error.name}")

    def in_blocking(ctx: BlockingContext) -> Any:
        try:
            ctx.step.run("bad", raises, TypeError("nope"))
        except StepError as error:
            return ctx.step.run("fallback", same, f"plan-b:{error.name}")

    return Code(in_async, in_blocking)


def _failing_step(name: str, step: str, error: Exception, *, retries_help: bool) -> None:
    def body(attempt: int) -> str:
        if attempt == 0 or not retries_help:
            raise error
        return "ok"

    async def in_async(ctx: Context) -> Any:
        return await ctx.step.run(step, body, ctx.attempt)

    def in_blocking(ctx: BlockingContext) -> Any:
        return ctx.step.run(step, body, ctx.attempt)

    scenario(name)(lambda _: Code(in_async, in_blocking))


_failing_step("non-retriable-step-error", "bad", NonRetriableError("stop"), retries_help=False)
_failing_step("retry-after-step-error", "later", RetryAfterError("wait", "2s"), retries_help=True)


@scenario("function-error-final")
def function_error_final(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> None:
        await ctx.step.run("a", same, 1)
        raise Error("fatal")

    def in_blocking(ctx: BlockingContext) -> None:
        ctx.step.run("a", same, 1)
        raise Error("fatal")

    return Code(in_async, in_blocking)


@scenario("function-error-retry-then-succeed")
def function_error_retry(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> str:
        await ctx.step.run("a", same, 1)
        if ctx.attempt == 0:
            raise Error("boom")
        return "recovered"

    def in_blocking(ctx: BlockingContext) -> str:
        ctx.step.run("a", same, 1)
        if ctx.attempt == 0:
            raise Error("boom")
        return "recovered"

    return Code(in_async, in_blocking)


@scenario("on-failure")
def on_failure(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> None:
        raise Error("needs clean-up")

    def in_blocking(ctx: BlockingContext) -> None:
        raise Error("needs clean-up")

    return Code(in_async, in_blocking)


@scenario("parallel-three")
def parallel_three(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> Any:
        await ctx.step.run("before", same, 0)
        results = await asyncio.gather(*(ctx.step.run(f"p{n}", same, n) for n in range(3)))
        await ctx.step.run("after-1", same, results)
        await ctx.step.run("after-2", same, 1)
        return results

    def in_blocking(ctx: BlockingContext) -> Any:
        ctx.step.run("before", same, 0)
        branches = [lambda n=n: ctx.step.run(f"p{n}", same, n) for n in range(3)]
        results = ctx.step.gather(*branches)
        ctx.step.run("after-1", same, results)
        ctx.step.run("after-2", same, 1)
        return results

    return Code(in_async, in_blocking, BUFFERED)


@scenario("parallel-one-fails")
def parallel_one_fails(_: threading.Event) -> Code:
    def outcome(result: object) -> str:
        return "rejected" if isinstance(result, StepError) else "fulfilled"

    async def in_async(ctx: Context) -> list[str]:
        ok = ctx.step.run("ok", same, 1)
        bad = ctx.step.run("bad", raises, Error("bad branch"))
        results = await asyncio.gather(ok, bad, return_exceptions=True)
        await ctx.step.run("after", same, 1)
        return [outcome(result) for result in results]

    def in_blocking(ctx: BlockingContext) -> list[str]:
        def caught(step: str, body: Callable[..., Any], argument: Any) -> Any:
            try:
                return ctx.step.run(step, body, argument)
            except StepError as error:
                return error

        results = ctx.step.gather(
            lambda: caught("ok", same, 1), lambda: caught("bad", raises, Error("bad branch"))
        )
        ctx.step.run("after", same, 1)
        return [outcome(result) for result in results]

    return Code(in_async, in_blocking)


@scenario("race-two")
def race_two(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> Any:
        fast = asyncio.create_task(ctx.step.run("fast", same, "fast"))
        slow = asyncio.create_task(ctx.step.sleep("slow", "30s"))
        await asyncio.wait({fast, slow}, return_when=asyncio.FIRST_COMPLETED)
        slow.cancel()
        return await fast

    def in_blocking(ctx: BlockingContext) -> Any:
        return ctx.step.gather(
            lambda: ctx.step.run("fast", same, "fast"),
            lambda: ctx.step.sleep("slow", "30s"),
        )[0]

    return Code(in_async, in_blocking)


@scenario("max-runtime-reached")
def max_runtime_reached(_: threading.Event) -> Code:
    long = {3: "1h"}  # does not fit into what is left, however fast this machine is

    async def in_async(ctx: Context) -> str:
        for n in range(5):
            await ctx.step.run(f"s{n}", same, n, expected=long.get(n))
        return "done"

    def in_blocking(ctx: BlockingContext) -> str:
        for n in range(5):
            ctx.step.run(f"s{n}", same, n, expected=long.get(n))
        return "done"

    return Code(in_async, in_blocking, Checkpointing(max_runtime="10m"))


@scenario("repeated-step-id")
def repeated_step_id(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> Any:
        results = [await ctx.step.run("same", same, n) for n in range(3)]
        return results[1]

    def in_blocking(ctx: BlockingContext) -> Any:
        return [ctx.step.run("same", same, n) for n in range(3)][1]

    return Code(in_async, in_blocking)


@scenario("null-and-unicode-outputs")
def null_and_unicode(_: threading.Event) -> Code:
    def epoch() -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC)

    bodies: dict[str, Callable[[], Any]] = {
        "nothing": lambda: None,
        "null": lambda: None,
        "unicode": lambda: "żółć 🚀",
        "big-int": lambda: 2**53,
        "date": epoch,
    }

    async def in_async(ctx: Context) -> None:
        for name, body in bodies.items():
            await ctx.step.run(name, body)

    def in_blocking(ctx: BlockingContext) -> None:
        for name, body in bodies.items():
            ctx.step.run(name, body)

    return Code(in_async, in_blocking)


@scenario("signed-run")
def signed_run(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> Any:
        await ctx.step.run("a", same, "ż")
        return await ctx.step.run("b", same, 2)

    def in_blocking(ctx: BlockingContext) -> Any:
        ctx.step.run("a", same, "ż")
        return ctx.step.run("b", same, 2)

    return Code(in_async, in_blocking)


@scenario("wait-for-event-match")
def wait_for_event_match(_: threading.Event) -> Code:
    wait: Any = {
        "event": "golden/approval",
        "timeout": "30s",
        "if_": "async.data.id == event.data.id",
    }

    async def in_async(ctx: Context) -> Any:
        event = await ctx.step.wait_for_event("wait", **wait)
        return event.data if event is not None else "timed out"

    def in_blocking(ctx: BlockingContext) -> Any:
        event = ctx.step.wait_for_event("wait", **wait)
        return event.data if event is not None else "timed out"

    return Code(in_async, in_blocking)


@scenario("wait-for-event-timeout")
def wait_for_event_timeout(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> Any:
        event = await ctx.step.wait_for_event("wait", event="golden/never", timeout="2s")
        return event.data if event is not None else "timed out"

    def in_blocking(ctx: BlockingContext) -> Any:
        event = ctx.step.wait_for_event("wait", event="golden/never", timeout=2)
        return event.data if event is not None else "timed out"

    return Code(in_async, in_blocking)


@scenario("wait-for-signal")
def wait_for_signal(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> Any:
        got = await ctx.step.wait_for_signal("sig", signal="golden-signal-1", timeout="10s")
        return {"data": got.data, "signal": got.signal} if got is not None else None

    def in_blocking(ctx: BlockingContext) -> Any:
        got = ctx.step.wait_for_signal("sig", signal="golden-signal-1", timeout="10s")
        return {"data": got.data, "signal": got.signal} if got is not None else None

    return Code(in_async, in_blocking)


@scenario("invoke-child")
def invoke_child(_: threading.Event) -> Code:
    async def in_async(ctx: Context) -> Any:
        return await ctx.step.invoke("call-child", "golden-child", data={"x": 21}, type=int)

    def in_blocking(ctx: BlockingContext) -> Any:
        return ctx.step.invoke("call-child", "golden-child", data={"x": 21}, type=int)

    return Code(in_async, in_blocking)
