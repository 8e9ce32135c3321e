"""The app that is called here, over both entries."""

from __future__ import annotations

from typing import Any

import onward


def small_app(ran: list[str], **options: Any) -> onward.App:
    """Two functions, each with a step that notes its run in `ran`."""
    app = onward.App("shop", **options)

    @app.function("sell", trigger=onward.Event("test/asked"))
    async def sell(ctx: onward.Context) -> Any:
        await ctx.step.run("charge", lambda: ran.append("charge"))
        return ctx.event.data

    @app.function("refund", trigger=onward.Event("test/asked"))
    def refund(ctx: onward.BlockingContext) -> Any:
        ctx.step.run("pay back", lambda: ran.append("pay back"))
        return ctx.event.data

    return app
