"""A hook that raises: who, which hook, which function; the call or the step is tried again."""

from __future__ import annotations

from typing import Any

import pytest

from onward import App, BlockingContext, ConfigurationError, Context, Event, Middleware
from onward.middleware import Call, Input, Outcome
from onward.middleware.base import HOOKS
from tests.middleware.recorder import Recorder, WaitingRecorder
from tests.support.harness import World


async def in_async(ctx: Context) -> int:
    one = await ctx.step.run("one", lambda: 1)
    await ctx.step.send_event("tell", {"name": "told"})
    await ctx.step.sleep("nap", "1ms")
    return one + await ctx.step.run("two", lambda: 2)


def in_blocking(ctx: BlockingContext) -> int:
    one: int = ctx.step.run("one", lambda: 1)
    ctx.step.send_event("tell", {"name": "told"})
    ctx.step.sleep("nap", "1ms")
    return one + ctx.step.run("two", lambda: 2)


class Broken(Middleware):
    """Its hook fails: always, or the first time."""

    def __init__(self, *, for_good: bool) -> None:
        self.for_good = for_good
        self.calls = 0

    def fail(self) -> None:
        self.calls += 1
        if self.for_good or self.calls == 1:
            raise ValueError("broken on purpose")


def breaking(hook: str) -> type[Broken]:
    base = getattr(Middleware, hook)

    def fails(self: Broken, call: Call, *args: Any) -> Any:
        self.fail()
        return base(self, call, *args)

    return type("Breaks", (Broken,), {hook: fails})


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_fails_once_only_costs_another_try(
    world: World, hook: str, waits: bool
) -> None:
    kind = breaking(hook)
    kind.waits = waits
    broken = kind(for_good=False)
    world.function_options["middleware"] = [broken]
    world.define(in_async, in_blocking)
    run = world.run()
    assert run.result == 3
    assert broken.calls > 1
    assert run.starts["one"] <= 2


#: A call that is tried again answers its first step instead of checkpointing it.
ALWAYS_CALLED = tuple(hook for hook in HOOKS if hook != "after_checkpoint")


@pytest.mark.parametrize("hook", ALWAYS_CALLED)
def test_a_hook_that_fails_for_good_fails_the_run_and_is_named(world: World, hook: str) -> None:
    world.function_options["middleware"] = [breaking(hook)(for_good=True)]
    world.define(in_async, in_blocking, retries=1)
    run = world.run()
    assert run.error["name"] in {"MiddlewareError", "StepError"}, run.error
    message = run.error["message"]
    assert f"Breaks.{hook} failed in function 'function'" in message
    assert "ValueError: broken on purpose" in message


class Turning(Middleware):
    """Returns what is none of what the hook may return."""

    def transform_output(self, call: Call, outcome: Outcome) -> Outcome:
        return {"data": 1}  # type: ignore[return-value]


class Unserializable(Middleware):
    def transform_output(self, call: Call, outcome: Outcome) -> Outcome:
        return outcome.with_data(object())


class NoInput(Middleware):
    def transform_input(self, call: Call, given: Input) -> Input:
        return None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (
            Turning,
            "transform_output failed in function 'function' for the function's outcome: TypeError",
        ),
        (Unserializable, "TypeError: object"),
        (NoInput, "not an Input"),
    ],
)
def test_what_a_hook_may_not_return(world: World, kind: type[Middleware], told: str) -> None:
    world.function_options["middleware"] = [kind()]
    world.define(in_async, in_blocking, retries=0)
    assert told in world.run().error["message"]


class Asynchronous(Middleware):
    async def before_response(self, call: Call, answer: Any) -> None:  # type: ignore[override]
        """It would never be awaited."""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([Middleware], r"class Middleware\. Give an instance: Middleware\(…\)"),
        ([object()], r"no onward\.Middleware"),
        (7, r"no onward\.Middleware"),
        ([Asynchronous()], r"before_response is async.*`waits = True`"),
    ],
)
def test_what_is_no_middleware(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"middleware of app 'shop'.*{told}"):
        App("shop", middleware=given)
    app = App("shop")
    with pytest.raises(ConfigurationError, match=rf"middleware of function 'f' of app.*{told}"):
        app.function("f", trigger=Event("e"), middleware=given)(in_async)


class FailsLater(Middleware):
    """Fails where the function is in the middle of its code."""

    def before_execution(self, call: Call) -> None:
        if call.recorded:
            raise ValueError("broken on purpose")


async def swallows_async(ctx: Context) -> str:
    try:
        await ctx.step.run("one", lambda: 1)
        await ctx.step.sleep("nap", "1ms")
    except Exception:  # noqa: BLE001 - that is the point
        return "swallowed"
    return "done"


def swallows_blocking(ctx: BlockingContext) -> str:
    try:
        ctx.step.run("one", lambda: 1)
        ctx.step.sleep("nap", "1ms")
    except Exception:  # noqa: BLE001 - that is the point
        return "swallowed"
    return "done"


def test_user_code_cannot_swallow_the_failure(world: World) -> None:
    world.function_options["middleware"] = [FailsLater()]
    world.define(swallows_async, swallows_blocking, retries=0)
    run = world.run()
    assert run.error["name"] == "MiddlewareError"
    assert "FailsLater.before_execution failed in function 'function'" in run.error["message"]


class FailsOnce(Middleware):
    """Its output hook fails once, after the body."""

    def __init__(self) -> None:
        self.failed = False

    def transform_output(self, call: Call, outcome: Outcome) -> Outcome:
        if not self.failed:
            self.failed = True
            raise ValueError("broken on purpose")
        return outcome


@pytest.mark.parametrize("waits", [False, True])
def test_a_body_has_one_end_also_where_a_hook_after_it_fails(world: World, waits: bool) -> None:
    log: list[str] = []
    recorder = (WaitingRecorder if waits else Recorder)("m", log)
    world.function_options["middleware"] = [recorder, FailsOnce()]
    world.define(in_async, in_blocking)
    assert world.run().result == 3
    about_one = [entry for entry in log if entry.endswith("_step one")]
    assert about_one == ["m.before_step one", "m.after_step one"] * 2
