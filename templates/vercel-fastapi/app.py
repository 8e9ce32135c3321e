"""A function that outlives its invocations, on Vercel, beside an ordinary FastAPI application."""

from __future__ import annotations

import os
from typing import Any

import onward
import onward.asgi
from fastapi import FastAPI

durable = onward.App("my-app", checkpointing=onward.Checkpointing.from_env(os.environ))


@durable.function("greet", trigger=onward.Event("app/greet"))
async def greet(ctx: onward.Context) -> dict[str, Any]:
    """Greet everybody that the event names, each in a step of its own."""
    names = ctx.event.data.get("names", ["world"])
    greetings = [await ctx.step.run(f"greet {name}", compose, name) for name in names]
    return {"greetings": greetings}


def compose(name: str) -> str:
    """Compose one greeting; its result is kept, however often the function is called again."""
    return f"Hello, {name}!"


app = FastAPI()


@app.get("/")
async def root() -> dict[str, str]:
    """Say where the functions are served."""
    return {"functions": "/api/inngest"}


# Last: everything that no route above matched goes to it, and it answers below /api/inngest.
app.mount("/", onward.asgi.serve(durable, path="/api/inngest"))
