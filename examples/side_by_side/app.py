"""Functions on the PyPI SDK `inngest` and on Onward, in one FastAPI process, on one orchestrator.

    uvicorn examples.side_by_side.app:api --port 8000

Each SDK serves an app of its own, at a path of its own, under an id of its own: `shop-classic` and
`shop`. Events start functions of either, and each may invoke the other's. What moving a function
from one to the other takes is in docs/from-inngest-py.md.
"""

from __future__ import annotations

import logging
from typing import Any

import fastapi
import inngest
import inngest.fast_api
from pydantic import BaseModel

import onward
import onward.asgi

api = fastapi.FastAPI()

# ---------------------------------------------------------------- what stays on PyPI `inngest`

classic = inngest.Inngest(app_id="shop-classic", logger=logging.getLogger("shop.classic"))


@classic.create_function(fn_id="price", trigger=inngest.TriggerEvent(event="shop/price.asked"))
async def price(ctx: inngest.Context) -> Any:
    """The price of so many items, in cents."""

    async def look_up() -> int:
        return 250 * int(str(ctx.event.data["items"]))

    return await ctx.step.run("look-up", look_up)


@classic.create_function(fn_id="thank", trigger=inngest.TriggerEvent(event="order/shipped"))
async def thank(ctx: inngest.Context) -> Any:
    """Started by an event that a function on Onward sends."""

    async def write() -> str:
        return f"Thank you for {ctx.event.data['cents']} cents."

    return await ctx.step.run("write", write)


inngest.fast_api.serve(api, classic, [price, thank], serve_path="/api/classic")

# ---------------------------------------------------------------- what is on Onward


class OrderPaid(BaseModel):
    """The data of the event `order/paid`."""

    order: str
    items: int


app = onward.App("shop")


@app.function("fulfil", trigger=onward.Event("order/paid", schema=OrderPaid))
async def fulfil(ctx: onward.Context) -> dict[str, Any]:
    """Asks the other SDK's function for the price, and starts its other one by an event."""
    paid: OrderPaid = ctx.event.data
    cents = await ctx.step.invoke("price", "shop-classic-price", data={"items": paid.items})
    shipped = onward.NewEvent("order/shipped", {"order": paid.order, "cents": cents})
    await ctx.step.send_event("shipped", shipped)
    return {"order": paid.order, "cents": cents}


@api.post("/orders/{order}")
async def pay(order: str, items: int) -> dict[str, Any]:
    """A route beside both: it sends an event, and gives its run's result once there is one."""
    paid = OrderPaid(order=order, items=items)
    (event_id,) = await app.send_async(onward.NewEvent("order/paid", paid))
    (run,) = await app.runs_of_async(event_id, timeout="10s")
    result: dict[str, Any] = await run.result_async(timeout="30s")
    return result


# The last one: it takes what no route above has taken.
api.mount("/", onward.asgi.serve(app, path="/api/inngest"))
