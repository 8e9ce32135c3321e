"""The functions of `classic_app.py` on Onward: the same app, function and step ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from onward import App, BlockingContext, Context, Event, NewEvent, StepError
from onward.middleware import EncryptionMiddleware


class Receipt(BaseModel):
    number: int
    paid: datetime


class Moved:
    """The app; its steps write into `trace` what they do."""

    def __init__(self, trace: Path, orchestrator: str, *, checkpointing: bool) -> None:
        self.trace = trace
        self.app = App("shop", checkpointing=checkpointing, orchestrator=orchestrator, dev=True)
        self._simple()
        self._branching()
        self._waiting()
        self._typed()

    def step(self, label: str, value: Any = None) -> Callable[[], Any]:
        """A body that leaves the trace `label` and returns `value`."""

        def body() -> Any:
            with self.trace.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"sdk": "onward", "label": label}) + "\n")
            return value

        return body

    def _simple(self) -> None:
        app, step = self.app, self.step

        @app.function("sleeps", trigger=Event("shop/sleeps"))
        async def sleeps(ctx: Context) -> Any:
            charged = await ctx.step.run("charge", step("charge", {"amount": 12}))
            await ctx.step.run("mail", step("mail"))
            await ctx.step.sleep("rest", "1h")
            return await ctx.step.run("ship", step("ship", charged))

        reading = EncryptionMiddleware("the key of both", decrypt_only=True)

        @app.function("encrypted", trigger=Event("shop/encrypted"), middleware=[reading])
        async def encrypted(ctx: Context) -> Any:
            card = await ctx.step.run("seal", step("seal", {"card": "4111"}))
            await ctx.step.sleep("rest", "1h")
            return await ctx.step.run("open", step("open", card))

        @app.function("in-blocking", trigger=Event("shop/in-blocking"))
        def in_blocking(ctx: BlockingContext) -> Any:
            charged = ctx.step.run("charge", step("charge", {"amount": 12}))
            ctx.step.sleep("rest", "1h")
            return ctx.step.run("ship", step("ship", charged))

        @app.function("repeats", trigger=Event("shop/repeats"))
        async def repeats(ctx: Context) -> Any:
            found = [await ctx.step.run("again", step(f"again-{n}", n)) for n in range(3)]
            await ctx.step.sleep("again", "1h")
            more = [await ctx.step.run("again", step(f"again-{n}", n)) for n in range(3, 5)]
            return [*found, *more]

        @app.function("errs", trigger=Event("shop/errs"), retries=0)
        async def errs(ctx: Context) -> Any:
            try:
                await ctx.step.run("refuse", step("refuse"))
            except StepError as error:
                told = f"{error.name}: {error.message}"
                await ctx.step.sleep("rest", "1h")
                return await ctx.step.run("tell", step("tell", told))

    def _branching(self) -> None:
        import asyncio

        app, step = self.app, self.step

        @app.function("in-parallel", trigger=Event("shop/in-parallel"))
        async def in_parallel(ctx: Context) -> Any:
            first = await asyncio.gather(
                *(ctx.step.run(f"part-{n}", step(f"part-{n}", n)) for n in range(3))
            )
            await ctx.step.sleep("rest", "1h")
            second = await asyncio.gather(
                *(ctx.step.run(f"more-{n}", step(f"more-{n}", n)) for n in range(3))
            )
            return [*first, *second]

        @app.function("cut-off", trigger=Event("shop/cut-off"))
        async def cut_off(ctx: Context) -> Any:
            return await asyncio.gather(
                ctx.step.run("done", step("done", 1)), ctx.step.run("cut", step("cut", 2))
            )

        async def beside_a_sleep(ctx: Context) -> Any:
            await asyncio.gather(
                ctx.step.sleep("rest", "1h"), ctx.step.run("beside", step("beside", 1))
            )
            return await ctx.step.run("after", step("after", 2))

        app.function("sleeps-in-parallel", trigger=Event("shop/sleeps-in-parallel"))(beside_a_sleep)
        app.function("races", trigger=Event("shop/races"))(beside_a_sleep)

    def _waiting(self) -> None:
        app, step = self.app, self.step

        @app.function("waits", trigger=Event("shop/waits"))
        async def waits(ctx: Context) -> Any:
            await ctx.step.run("ask", step("ask"))
            missed = await ctx.step.wait_for_event("missed", event="shop/never", timeout="30s")
            answer = await ctx.step.wait_for_event(
                "answer",
                event="shop/answered",
                if_="async.data.to == event.data.from",
                timeout="1d",
            )
            again = await ctx.step.wait_for_event(
                "again", event="shop/answered-again", timeout="1d"
            )
            assert missed is None
            assert answer is not None
            assert again is not None
            return [answer.data["says"], again.data["says"]]

        @app.function("child", trigger=Event("shop/child"))
        async def child(ctx: Context) -> Any:
            await ctx.step.sleep("rest", f"{ctx.event.data['hours']}h")
            return await ctx.step.run("grow", step("grow", ctx.event.data["hours"]))

        @app.function("invokes", trigger=Event("shop/invokes"))
        async def invokes(ctx: Context) -> Any:
            first = await ctx.step.invoke("short", child, data={"hours": 0})
            second = await ctx.step.invoke("long", child, data={"hours": 1})
            return [first, second]

    def _typed(self) -> None:
        app, step = self.app, self.step

        def pay() -> Receipt:
            step("pay")()
            raise AssertionError("it is paid already")

        @app.function("models", trigger=Event("shop/models"))
        async def models(ctx: Context) -> Receipt:
            receipt = await ctx.step.run("pay", pay)
            assert type(receipt) is Receipt
            await ctx.step.sleep("rest", "1h")
            return receipt

        @app.function("sends", trigger=Event("shop/sends"))
        async def sends(ctx: Context) -> list[str]:
            ids = await ctx.step.send_event("tell", NewEvent("shop/told", {"n": 1}))
            await ctx.step.sleep("rest", "1h")
            return ids
