"""Every hook, in the order of the specification, over all that an invocation can be."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from onward import BlockingContext, Checkpointing, Context, NonRetriableError, StepError
from onward.middleware import Call, Middleware, Outcome, Step
from tests.middleware.recorder import Recorder, WaitingRecorder
from tests.support.harness import World

OPEN = ["a.transform_event", "f.transform_event", "a.transform_input", "f.transform_input"]
NEW = ["a.after_memoization", "f.after_memoization", "a.before_execution", "f.before_execution"]
OVER = ["f.after_execution", "a.after_execution"]
RESULT = ["f.transform_output", "a.transform_output"]


def body(step: str) -> list[str]:
    """A body and its result: what goes out passes the app's middleware last, and comes back."""
    inner = ["f.after_step", "a.after_step", "f.transform_output", "a.transform_output"]
    begin = [f"a.before_step {step}", f"f.before_step {step}"]
    back = [f"a.transform_recorded {step}", f"f.transform_recorded {step}"]
    return [*begin, *(f"{hook} {step}" for hook in inner), *back]


def recorded(count: int) -> list[str]:
    return ["a.transform_recorded recorded", "f.transform_recorded recorded"] * count


def answer(kind: str) -> list[str]:
    return [f"a.before_response {kind}", f"f.before_response {kind}"]


@pytest.fixture(params=[Recorder, WaitingRecorder])
def log(world: World, request: pytest.FixtureRequest) -> list[str]:
    """What the middleware of the app (`a`) and of the function (`f`) write down."""
    told: list[str] = []
    world.app_options["middleware"] = [request.param("a", told)]
    world.function_options["middleware"] = [request.param("f", told)]
    return told


def without_checkpoints(log: list[str]) -> list[str]:
    """Checkpoints are answered on a thread of their own, beside the rest."""
    return [entry for entry in log if "after_checkpoint" not in entry]


async def two_async(ctx: Context) -> int:
    one = await ctx.step.run("one", lambda: 1)
    return one + await ctx.step.run("two", lambda: 2)


def two_blocking(ctx: BlockingContext) -> int:
    one: int = ctx.step.run("one", lambda: 1)
    return one + ctx.step.run("two", lambda: 2)


def test_eager_steps(world: World, log: list[str]) -> None:
    world.define(two_async, two_blocking)
    run = world.run()
    assert run.result == 3
    ran = [*OPEN, *NEW, *body("one"), *body("two"), *OVER, *RESULT, *answer("result")]
    assert without_checkpoints(log) == ran
    sent = [entry for entry in log if "after_checkpoint" in entry]
    assert sent == ["a.after_checkpoint", "f.after_checkpoint"] * len(run.checkpoints)


@pytest.mark.parametrize("off", [False])
def test_a_call_a_step(world: World, log: list[str], off: bool) -> None:
    world.define(two_async, two_blocking, checkpointing=off)
    assert world.run().result == 3
    first = [step for step in body("one") if "transform" not in step]
    out = [step for step in body("one") if "transform" in step]
    second = [step.replace("one", "two") for step in first]
    out2 = [step.replace("one", "two") for step in out]
    events = OPEN[:2]
    given = OPEN[2:]
    assert log == [
        *events, *given, *NEW, *first, *OVER, *out, *answer("steps"),
        *events, *recorded(1), *given, *NEW, *second, *OVER, *out2, *answer("steps"),
        *events, *recorded(2), *given, *NEW, *OVER, *RESULT, *answer("result"),
    ]  # fmt: skip


async def failing_async(ctx: Context) -> str:
    try:
        await ctx.step.run("fails", fail)
    except StepError as error:
        return error.message
    return "it did not fail"


def failing_blocking(ctx: BlockingContext) -> str:
    try:
        ctx.step.run("fails", fail)
    except StepError as error:
        return error.message
    return "it did not fail"


def fail() -> None:
    raise ValueError("no")


def test_a_step_that_fails_for_good(world: World, log: list[str]) -> None:
    world.define(failing_async, failing_blocking, retries=1)
    assert world.run().result == "no"
    tried = [
        "a.before_step fails",
        "f.before_step fails",
        "f.after_step fails",
        "a.after_step fails",
    ]
    told = ["f.transform_output fails", "a.transform_output fails"]
    once = [*OPEN, *NEW, *tried, *told, *OVER, *answer("step_error")]
    last = [*OPEN[:2], *recorded(1), *OPEN[2:], *NEW, *OVER, *RESULT, *answer("result")]
    assert log == [*once, *once, *last]


async def in_place_async(ctx: Context) -> int:
    tries: list[int] = []
    return await ctx.step.run("again", second_time, tries, retry_in_place=1)


def in_place_blocking(ctx: BlockingContext) -> int:
    tries: list[int] = []
    result: int = ctx.step.run("again", second_time, tries, retry_in_place=1)
    return result


def second_time(tries: list[int]) -> int:
    tries.append(1)
    if len(tries) < 2:
        raise ValueError("not yet")
    return 7


def test_a_failure_that_is_tried_again_in_place_does_not_go_out(
    world: World, log: list[str]
) -> None:
    world.define(in_place_async, in_place_blocking)
    assert world.run().result == 7
    assert log.count("a.before_step again") == log.count("a.after_step again") == 2
    assert log.count("a.transform_output again") == 1


async def sleeping_async(ctx: Context) -> int:
    one = await ctx.step.run("one", lambda: 1)
    await ctx.step.sleep("nap", "1ms")
    return one


def sleeping_blocking(ctx: BlockingContext) -> int:
    one: int = ctx.step.run("one", lambda: 1)
    ctx.step.sleep("nap", "1ms")
    return one


def test_a_suspended_function(world: World, log: list[str]) -> None:
    world.define(sleeping_async, sleeping_blocking)
    assert world.run().result == 1
    first = [*OPEN, *NEW, *body("one"), *OVER, *answer("plan")]
    then = [*OPEN[:2], *recorded(1), *OPEN[2:], *NEW, *OVER, *RESULT, *answer("result")]
    assert without_checkpoints(log) == [*first, *then]


async def long_async(ctx: Context) -> int:
    total = 0
    for n in range(3):
        total += await ctx.step.run(f"s{n}", lambda: 1, expected="600s" if n else None)
    return total


def long_blocking(ctx: BlockingContext) -> int:
    total = 0
    for n in range(3):
        total += ctx.step.run(f"s{n}", lambda: 1, expected="600s" if n else None)
    return total


def test_continuations(world: World, log: list[str]) -> None:
    options = Checkpointing(max_runtime="300s")
    world.define(long_async, long_blocking, checkpointing=options)
    run = world.run()
    assert run.result == 3
    assert log.count("a.before_response continuation") == run.kinds.split().count("c") > 0
    each = len(run.invocations)
    for hook in ("transform_input", "after_memoization", "before_execution", "after_execution"):
        assert log.count(f"a.{hook}") == log.count(f"f.{hook}") == each


async def parallel_async(ctx: Context) -> list[int]:
    import asyncio

    return list(await asyncio.gather(*(ctx.step.run(f"p{n}", lambda n=n: n) for n in range(3))))


def parallel_blocking(ctx: BlockingContext) -> list[int]:
    return ctx.step.gather(*(lambda n=n: ctx.step.run(f"p{n}", lambda: n) for n in range(3)))


@pytest.mark.parametrize("parallel", ["eager", "orchestrated"])
def test_parallel_steps(world: World, log: list[str], parallel: str) -> None:
    world.define(parallel_async, parallel_blocking, parallel=parallel)
    run = world.run()
    assert run.result == [0, 1, 2]
    each = len(run.invocations)
    for hook in ("transform_input", "after_memoization", "before_execution", "after_execution"):
        assert log.count(f"a.{hook}") == log.count(f"f.{hook}") == each
    for n in range(3):
        entries = [entry for entry in log if entry.endswith(f" p{n}")]
        assert entries == body(f"p{n}")


async def sending_async(ctx: Context) -> Any:
    return await ctx.step.send_event("tell", {"name": "told"})


def sending_blocking(ctx: BlockingContext) -> Any:
    return ctx.step.send_event("tell", {"name": "told"})


def test_sent_events(world: World, log: list[str]) -> None:
    world.define(sending_async, sending_blocking)
    assert len(world.run().result) == 1
    start, *_ = (n for n, entry in enumerate(log) if entry.endswith("before_step tell"))
    assert log[start + 2 : start + 6] == [
        "f.before_send_events",
        "a.before_send_events",
        "f.after_send_events",
        "a.after_send_events",
    ]


class Slow(Middleware):
    """Says on which thread it is told what came of a body."""

    waits = True

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def after_step(self, call: Call, step: Step, error: BaseException | None) -> None:
        self.threads.add(threading.get_ident())

    def transform_output(self, call: Call, outcome: Outcome) -> Outcome:
        self.threads.add(threading.get_ident())
        return outcome


def test_the_event_loop_goes_on_while_middleware_is_told_of_a_failure(world: World) -> None:
    slow, loops = Slow(), set[int]()

    async def fails() -> None:
        loops.add(threading.get_ident())
        raise NonRetriableError("of no use")

    async def in_async(ctx: Context) -> str:
        with pytest.raises(StepError):
            await ctx.step.run("fails", fails)
        return "caught"

    def in_blocking(ctx: BlockingContext) -> str:
        with pytest.raises(StepError):
            ctx.step.run("fails", fails)
        return "caught"

    world.function_options["middleware"] = [slow]
    world.define(in_async, in_blocking)
    assert world.run().result == "caught"
    assert slow.threads
    assert not slow.threads & loops
