"""More bodies than threads: a body that turns out to be async passes its thread on."""

from __future__ import annotations

import asyncio

import onward
from onward.execution.asyncio_driver import BLOCKING_BODIES
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import Entry, call_request, shape_of

MANY = 2 * BLOCKING_BODIES + 1


async def _number(number: int) -> int:
    await asyncio.sleep(0)
    return number


def test_bodies_that_give_coroutines_pass_their_threads_on(
    entry: Entry, api: CheckpointApi
) -> None:
    app = onward.App("lab", checkpointing=onward.Checkpointing(buffered_steps=50))

    @app.function("linear", trigger=onward.Event("lab/linear"))
    async def add(ctx: onward.Context) -> int:
        steps = (ctx.step.run(f"s{n}", lambda n=n: _number(n)) for n in range(MANY))
        return sum(await asyncio.gather(*steps))

    answer = entry.call(app, call_request())
    assert shape_of(answer) == "complete"
    assert answer.ops[-1]["data"] == sum(range(MANY))
    assert len(api.stored()) + len(answer.ops) - 1 == MANY
