"""Cloud mode: calls, answers, checkpoints and reads all carry proof of the key."""

from __future__ import annotations

import pytest

from onward import BlockingContext, Context
from tests.support.harness import World

KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
OTHER = "signkey-prod-00000000000000000000000000000000000000000000000000000000000000ff"


def steps_and_sleep(world: World) -> None:
    async def in_async(ctx: Context) -> list[str]:
        first = await ctx.step.run("a", str)
        await ctx.step.sleep("nap", "5ms")
        return [first, await ctx.step.run("b", str)]

    def in_blocking(ctx: BlockingContext) -> list[str]:
        first = ctx.step.run("a", str)
        ctx.step.sleep("nap", "5ms")
        return [first, ctx.step.run("b", str)]

    world.define(in_async, in_blocking)


@pytest.mark.parametrize(
    ("key", "fallback"), [(KEY, ""), (OTHER, KEY)], ids=["the key", "the fallback"]
)
def test_a_run_in_cloud_mode(
    world: World, key: str, fallback: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INNGEST_DEV")
    monkeypatch.setenv("INNGEST_SIGNING_KEY", key)
    monkeypatch.setenv("INNGEST_SIGNING_KEY_FALLBACK", fallback)
    world.settings = {"signing_key": KEY, "trim_bytes": 1}
    steps_and_sleep(world)
    run = world.run()
    assert run.result == ["", ""]
    assert run.once
    if world.entry != "lambda":  # there IAM vouches for both sides
        assert all("x-inngest-signature" in call.answer.headers for call in run.invocations)
    # A key that was refused is not tried again; without checkpoints it is a read that finds out.
    refused = [checkpoint.status for checkpoint in run.checkpoints if checkpoint.status != 200]
    assert refused == ([401] if fallback and run.checkpoints else [])
