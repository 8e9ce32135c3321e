"""An application with durable endpoints, each as `async def` and as `def`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Form, HTTPException, Request
from fastapi import Response as Injected
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel

import onward
from onward import App

_F = TypeVar("_F", bound=Callable[..., Any])

#: What bodies did, by step.
done: Counter[str] = Counter()

#: How often a body or a handler still fails, by name.
failures: Counter[str] = Counter()

#: What handlers saw of their requests.
seen: list[Any] = []

#: Bodies that wait until they are told.
gate = threading.Event()


class TooBusyError(Exception):
    """An error for which the application has an answer."""


class Cart(BaseModel):
    """What is bought."""

    items: list[str]


class Receipt(BaseModel):
    """What is answered."""

    total: int


def work(name: str, value: Any = None) -> Any:
    """A body."""
    done[name] += 1
    if failures[name] > 0:
        failures[name] -= 1
        message = f"{name} fails"
        raise RuntimeError(message)
    return value


def wait() -> str:
    """A body that waits until it is told to go on."""
    done["wait"] += 1
    while not gate.is_set():  # in Python, where it can be interrupted
        time.sleep(0.005)
    return "waited"


def who(request: Request) -> str:
    """Who asks; nobody else is let in."""
    name = request.headers.get("authorization")
    if not name:
        raise HTTPException(401, "who are you?")
    return name


def fail(name: str) -> None:
    """Raise as often as the test asks for."""
    done[name] += 1
    if failures[name] > 0:
        failures[name] -= 1
        message = f"{name} fails"
        raise RuntimeError(message)


def application(app: App, **options: Any) -> FastAPI:
    """The application."""
    api = FastAPI()
    api.include_router(in_async(app, options), prefix="/async")
    api.include_router(in_blocking(app, options), prefix="/blocking")

    @api.exception_handler(TooBusyError)
    async def too_busy(_request: Request, _error: TooBusyError) -> JSONResponse:
        return JSONResponse({"busy": True}, 503, {"retry-after": "7"})

    return api


def in_async(app: App, options: dict[str, Any]) -> APIRouter:
    """The endpoints as `async def`."""
    router = APIRouter()
    durable = _Durable(app, "async", options)

    @router.post("/checkout/{shop}", response_model=Receipt, status_code=201)
    @durable("checkout", headers=["authorization"])
    async def checkout(  # noqa: PLR0917 - as FastAPI wants them
        shop: str,
        cart: Cart,
        ctx: onward.Context,
        response: Injected,
        user: Annotated[str, Depends(who)],
        nap: float = 0,
    ) -> dict[str, Any]:
        seen.append((shop, cart.items, user, nap, ctx.run_id))
        price = await ctx.step.run("price", work, "price", 5)
        if nap:
            await ctx.step.sleep("nap", nap)
        count = await ctx.step.run("count", work, "count", len(cart.items))
        response.headers["x-shop"] = shop
        return {"total": price * count, "internal": "not in the model"}

    @router.get("/go")
    @durable("go")
    async def go(
        ctx: onward.Context, background: BackgroundTasks, how: str = "", status: int = 0
    ) -> Any:
        background.add_task(work, "background")
        first = await ctx.step.run("first", work, "first", 1)
        if how == "wait":
            await ctx.step.run("wait", wait)
        elif how == "event":
            event = await ctx.step.wait_for_event("paid", event="shop/paid", timeout="30s")
            first += event.data["amount"] if event else 0
        elif how == "parallel":
            names = ("one", "two", "three")
            await asyncio.gather(*(ctx.step.run(name, work, name, name) for name in names))
        elif how == "mixed":
            await asyncio.gather(
                ctx.step.sleep("nap", 0.05), ctx.step.run("beside", work, "beside")
            )
        fail("handler")
        second = await ctx.step.run("second", work, "second", first + 1)
        return answer_of(second, how, status)

    @router.post("/form")
    @durable("form")
    async def form(
        ctx: onward.Context, name: Annotated[str, Form()], size: Annotated[int, Form()]
    ) -> Any:
        await ctx.step.sleep("nap", 0.01)
        return {"name": name, "size": size}

    return router


def in_blocking(app: App, options: dict[str, Any]) -> APIRouter:
    """The endpoints as `def`."""
    router = APIRouter()
    durable = _Durable(app, "blocking", options)

    @router.post("/checkout/{shop}", response_model=Receipt, status_code=201)
    @durable("checkout", headers=["authorization"])
    def checkout(  # noqa: PLR0917 - as FastAPI wants them
        shop: str,
        cart: Cart,
        ctx: onward.BlockingContext,
        response: Injected,
        user: Annotated[str, Depends(who)],
        nap: float = 0,
    ) -> dict[str, Any]:
        seen.append((shop, cart.items, user, nap, ctx.run_id))
        price = ctx.step.run("price", work, "price", 5)
        if nap:
            ctx.step.sleep("nap", nap)
        count = ctx.step.run("count", work, "count", len(cart.items))
        response.headers["x-shop"] = shop
        return {"total": price * count, "internal": "not in the model"}

    @router.get("/go")
    @durable("go")
    def go(
        ctx: onward.BlockingContext, background: BackgroundTasks, how: str = "", status: int = 0
    ) -> Any:
        background.add_task(work, "background")
        first = ctx.step.run("first", work, "first", 1)
        if how == "wait":
            ctx.step.run("wait", wait)
        elif how == "event":
            event = ctx.step.wait_for_event("paid", event="shop/paid", timeout="30s")
            first += event.data["amount"] if event else 0
        elif how == "parallel":
            ctx.step.gather(*(_branch(ctx, name) for name in ("one", "two", "three")))
        elif how == "mixed":
            ctx.step.gather(lambda: ctx.step.sleep("nap", 0.05), _branch(ctx, "beside"))
        fail("handler")
        second = ctx.step.run("second", work, "second", first + 1)
        return answer_of(second, how, status)

    @router.post("/form")
    @durable("form")
    def form(
        ctx: onward.BlockingContext, name: Annotated[str, Form()], size: Annotated[int, Form()]
    ) -> Any:
        ctx.step.sleep("nap", 0.01)
        return {"name": name, "size": size}

    return router


def _branch(ctx: onward.BlockingContext, name: str) -> Callable[[], Any]:
    return lambda: ctx.step.run(name, work, name, name)


class _Durable:
    """`onward.endpoint` with the options of a test."""

    def __init__(self, app: App, kind: str, options: dict[str, Any]) -> None:
        self._app, self._kind, self._options = app, kind, options

    def __call__(self, id_: str, **more: Any) -> Callable[[_F], _F]:
        return onward.endpoint(self._app, f"{self._kind}-{id_}", **{**self._options, **more})


def answer_of(value: Any, how: str, status: int) -> Any:
    """A response of the kind that is asked for."""
    if status:
        raise HTTPException(status, f"asked for {status}", {"x-reason": "asked"})
    if how == "busy":
        raise TooBusyError
    if how == "text":
        return PlainTextResponse("straße", 202, {"x-kind": "text"})
    if how == "bytes":
        return StreamingResponse(iter([b"\xff", b"\x00\x01"]), media_type="image/x-test")
    if how == "cookies":
        response = JSONResponse({"value": value})
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        return response
    return {"value": value}
