"""A function that outlives its invocations, on AWS Lambda."""

from __future__ import annotations

import functools
import os
from typing import Any

import onward
import onward.aws_lambda

app = onward.App("my-app", checkpointing=onward.Checkpointing.from_env(os.environ))


@app.function("greet", trigger=onward.Event("app/greet"))
async def greet(ctx: onward.Context) -> dict[str, Any]:
    """Greet everybody that the event names, each in a step of its own."""
    names = ctx.event.data.get("names", ["world"])
    greetings = [await ctx.step.run(f"greet {name}", compose, name) for name in names]
    return {"greetings": greetings}


def compose(name: str) -> str:
    """Compose one greeting; its result is kept, however often the function is called again."""
    return f"Hello, {name}!"


direct = onward.aws_lambda.handler(app)


@functools.cache
def over_http() -> Any:
    """Return the handler for calls through the function's URL; made when the first one comes."""
    import onward.asgi
    from mangum import Mangum

    return Mangum(onward.asgi.serve(app), lifespan="off")


def handler(event: dict[str, Any], context: Any) -> Any:
    """Answer an orchestrator that invokes the function directly, or through its URL."""
    call = over_http() if "requestContext" in event else direct
    return call(event, context)
