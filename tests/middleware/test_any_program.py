"""Any program has the same result with middleware that hides and moves data as without."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onward import BlockingContext, Checkpointing, Context, NonRetriableError, StepError
from onward.middleware import DirectoryStore, EncryptionMiddleware, Middleware, OffloadMiddleware
from tests.support.harness import Platform, World, clean_environment

#: Every shape that middleware could take for its own is among them.
SEALED = EncryptionMiddleware("another key").seal('"x"')
LOOKALIKES = [
    SEALED,
    {"__ENCRYPTED__": True, "data": "x"},
    {"__ONWARD_OFFLOADED__": 1, "key": "events/x", "sha256": "x"},
    {"__ONWARD_OFFLOADED__": 2},
    "__ENCRYPTED__:inngest/libsodium:x",
]
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=30)
VALUES = st.recursive(
    LEAVES | st.sampled_from(LOOKALIKES),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)

Item = tuple[str, Any]

ITEMS = st.one_of(
    st.tuples(st.just("run"), VALUES),
    st.tuples(st.just("fail"), st.text(max_size=10)),
    st.tuples(st.just("sleep"), st.none()),
    st.tuples(st.just("gather"), st.lists(VALUES, min_size=2, max_size=3)),
)
EXAMPLES = 200 if os.environ.get("ONWARD_REQUIRE_ALL") else 20


def give(value: Any) -> Any:
    return value


def fail(message: str) -> None:
    raise NonRetriableError(message)


def in_async(program: list[Item]) -> Callable[[Context], Any]:
    async def function(ctx: Context) -> Any:
        results: list[Any] = [ctx.event.data]
        for n, (kind, value) in enumerate(program):
            if kind == "run":
                results.append(await ctx.step.run(f"s{n}", give, value))
            elif kind == "sleep":
                await ctx.step.sleep(f"s{n}", "1ms")
            elif kind == "gather":
                steps = [ctx.step.run(f"s{n}-{m}", give, v) for m, v in enumerate(value)]
                results.append(list(await asyncio.gather(*steps)))
            else:
                try:
                    await ctx.step.run(f"s{n}", fail, value)
                except StepError as error:
                    results.append(error.message)
        return results

    return function


def in_blocking(program: list[Item]) -> Callable[[BlockingContext], Any]:
    def function(ctx: BlockingContext) -> Any:
        results: list[Any] = [ctx.event.data]
        for n, (kind, value) in enumerate(program):
            if kind == "run":
                results.append(ctx.step.run(f"s{n}", give, value))
            elif kind == "sleep":
                ctx.step.sleep(f"s{n}", "1ms")
            elif kind == "gather":
                branches = [_branch(ctx, f"s{n}-{m}", v) for m, v in enumerate(value)]
                results.append(ctx.step.gather(*branches))
            else:
                try:
                    ctx.step.run(f"s{n}", fail, value)
                except StepError as error:
                    results.append(error.message)
        return results

    return function


def _branch(ctx: BlockingContext, id_: str, value: Any) -> Callable[[], Any]:
    return lambda: ctx.step.run(id_, give, value)


MODES: list[bool | Checkpointing] = [
    True,
    False,
    Checkpointing(buffered_steps=3),
    Checkpointing(mode="pipelined"),
]


def result(
    platform: Platform,
    driver: str,
    program: list[Item],
    drawn: dict[str, Any],
    middleware: list[Middleware],
) -> Any:
    """What the program ends with. Every second checkpoint is refused, if that is drawn."""
    refused: list[bool] = []

    def fault(_body: dict[str, Any]) -> tuple[int, Any] | None:
        refused.append(drawn["refuses"] and len(refused) % 2 == 0)
        return (404, {"error": "no such thing"}) if refused[-1] else None

    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        world = World(
            platform,
            driver,
            "lambda",
            app_options={"middleware": middleware},
            settings={"trim_bytes": 100} if drawn["trimmed"] else {},
            fault=fault,
        )
        try:
            mode = MODES[drawn["mode"]]
            app = world.define(in_async(program), in_blocking(program), checkpointing=mode)
            value = world.run({"id": 7}).result
            chain = app.chain()
            return value if chain is None else chain.opened(value)
        finally:
            world.close()


@pytest.mark.parametrize("driver", ["async", "blocking"])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    program=st.lists(ITEMS, min_size=1, max_size=4),
    drawn=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(range(len(MODES))),
            "threshold": st.sampled_from([0, 20, 200]),
            "swapped": st.booleans(),
            "errors": st.booleans(),
            "trimmed": st.booleans(),
            "refuses": st.booleans(),
        }
    ),
)
def test_any_program(
    platform: Platform, driver: str, program: list[Item], drawn: dict[str, Any]
) -> None:
    plain = result(platform, driver, program, drawn, [])
    with tempfile.TemporaryDirectory() as folder:
        encryption = EncryptionMiddleware("a key", errors=drawn["errors"])
        middleware: list[Middleware] = [
            OffloadMiddleware(DirectoryStore(folder), drawn["threshold"]),
            encryption,
        ]
        if drawn["swapped"]:
            middleware.reverse()
        hidden = result(platform, driver, program, drawn, middleware)
    assert hidden == plain
