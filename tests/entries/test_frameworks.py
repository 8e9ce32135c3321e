"""Real servers: FastAPI, Starlette and Flask, mounted, as routes and at the root."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import fastapi
import flask
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

import onward
import onward.asgi
import onward.wsgi
from tests.entries.app import small_app
from tests.support.checkpoint_api import CheckpointApi
from tests.support.entries import PATH, call_request
from tests.support.loops import LoopThread

#: How many calls are under way at once.
AT_ONCE = 24


def fastapi_route(app: onward.App) -> Any:
    api = fastapi.FastAPI()
    api.add_api_route("/", lambda: {"shop": "open"})
    api.router.routes.append(Route(PATH, onward.asgi.serve(app)))
    return api


def fastapi_mounted_at_the_root(app: onward.App) -> Any:
    api = fastapi.FastAPI()
    api.add_api_route("/", lambda: {"shop": "open"})
    api.mount("/", onward.asgi.serve(app))
    return api


def fastapi_mounted_at_its_path(app: onward.App) -> Any:
    """The framework redirects to the slash at the end."""
    api = fastapi.FastAPI()
    api.add_api_route("/", lambda: {"shop": "open"})
    api.mount(PATH, onward.asgi.serve(app))
    return api


def starlette_route(app: onward.App) -> Any:
    def shop(_: Any) -> Any:
        from starlette.responses import JSONResponse

        return JSONResponse({"shop": "open"})

    return Starlette(routes=[Route("/", shop), Route(PATH, onward.asgi.serve(app))])


def starlette_mounted_below(app: onward.App) -> Any:
    return Starlette(routes=[Mount("/below", app=onward.asgi.serve(app))])


def starlette_in_starlette(app: onward.App) -> Any:
    inner = Starlette(routes=[Mount("/inner", app=onward.asgi.serve(app, "/x"))])
    return Starlette(routes=[Mount("/outer", app=inner)])


def behind_a_proxy(app: onward.App, *, older: bool) -> Any:
    """The proxy takes `/proxy` off, and the server was told so.

    Servers put it before the path again, as ASGI says; older ones left the path as it came.
    """
    api = fastapi.FastAPI()
    api.mount("/", onward.asgi.serve(app))

    async def server(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = scope["path"] if older else "/proxy" + scope["path"]
            scope = {**scope, "root_path": "/proxy", "path": path}
        await api(scope, receive, send)

    return server


def plain_asgi(app: onward.App) -> Any:
    return onward.asgi.serve(app)


def flask_beside(app: onward.App) -> Any:
    shop = flask.Flask("shop")
    shop.add_url_rule("/", view_func=lambda: {"shop": "open"})
    shop.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        shop.wsgi_app, {PATH: onward.wsgi.serve(app)}
    )
    return shop


def flask_below(app: onward.App) -> Any:
    return DispatcherMiddleware(flask.Flask("shop"), {"/below": onward.wsgi.serve(app)})


def plain_wsgi(app: onward.App) -> Any:
    return onward.wsgi.serve(app)


#: How it is served, and the path under which it is reached and registered.
ASGI: dict[Callable[[onward.App], Any], str] = {
    plain_asgi: PATH,
    fastapi_route: PATH,
    fastapi_mounted_at_the_root: PATH,
    fastapi_mounted_at_its_path: f"{PATH}/",
    starlette_route: PATH,
    starlette_mounted_below: f"/below{PATH}",
    starlette_in_starlette: "/outer/inner/x",
}
WSGI: dict[Callable[[onward.App], Any], str] = {
    plain_wsgi: PATH,
    flask_beside: PATH,
    flask_below: f"/below{PATH}",
}


@contextmanager
def served(web: Any, *, wsgi: bool) -> Iterator[int]:
    """The port at which `web` is served, by uvicorn or by werkzeug with a thread a request."""
    if not wsgi:
        with LoopThread("web") as loops:
            yield int(loops.serve(web).rpartition(":")[2])
        return
    server = make_server("127.0.0.1", 0, web, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="werkzeug", daemon=True)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(text) if text else None


def call(port: int, path: str, function: str) -> Any:
    query = f"{path}?fnId={function}&stepId=step"
    status, ops = ask(port, "POST", query, json.dumps(call_request()).encode())
    assert status == 206, ops
    return ops[-1]["data"]


@pytest.mark.parametrize("make", [*ASGI, *WSGI], ids=lambda make: make.__name__)
def test_everything_is_served(make: Any, api: CheckpointApi) -> None:
    api.pages["/fn/register"] = (200, b'{"ok": true}')
    path = {**ASGI, **WSGI}[make]
    ran: list[str] = []
    with served(make(small_app(ran)), wsgi=make in WSGI) as port:
        status, told = ask(port, "GET", path)
        assert (status, told["function_count"]) == (200, 2)
        assert ask(port, "PUT", path) == (
            200,
            {"message": "Successfully registered", "modified": False},
        )
        # It is called at the address that was registered.
        sent = api.others[-1].json()
        assert sent["url"] == f"http://127.0.0.1:{port}{path}"
        assert call(port, path, "shop-sell") == {"n": 1}
        assert call(port, path, "shop-refund") == {"n": 1}
        assert ran == ["charge", "pay back"]


@pytest.mark.parametrize("make", [fastapi_route, fastapi_mounted_at_the_root, flask_beside])
def test_what_is_beside_it_goes_on(make: Any, api: CheckpointApi) -> None:
    with served(make(small_app([])), wsgi=make in WSGI) as port:
        assert ask(port, "GET", "/") == (200, {"shop": "open"})


@pytest.mark.parametrize("older", [False, True])
def test_a_proxy_that_takes_a_part_of_the_path_off(*, older: bool, api: CheckpointApi) -> None:
    """It calls without that part, and what is registered has it."""
    api.pages["/fn/register"] = (200, b'{"ok": true}')
    with served(behind_a_proxy(small_app([]), older=older), wsgi=False) as port:
        assert ask(port, "GET", PATH)[0] == 200
        assert ask(port, "PUT", PATH)[0] == 200
        assert api.others[-1].json()["url"] == f"http://127.0.0.1:{port}/proxy{PATH}"
        assert call(port, PATH, "shop-sell") == {"n": 1}


@pytest.mark.parametrize("make", [plain_asgi, flask_beside], ids=lambda make: make.__name__)
def test_many_calls_at_once(make: Any, driver: str, api: CheckpointApi) -> None:
    """None waits for another: all of them are inside of a body at the same time."""
    together = threading.Barrier(AT_ONCE, timeout=60)
    threads: set[int] = set()
    loops: set[int] = set()
    app = onward.App("shop")

    def meet() -> int:
        threads.add(threading.get_ident())
        return together.wait()

    async def in_async(ctx: onward.Context) -> int:
        loops.add(id(asyncio.get_running_loop()))
        return await ctx.step.run("meet", meet)

    def in_blocking(ctx: onward.BlockingContext) -> int:
        return ctx.step.run("meet", meet)

    handler = in_async if driver == "async" else in_blocking
    app.function("sell", trigger=onward.Event("test/asked"))(handler)
    with served(make(app), wsgi=make in WSGI) as port, ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda _: call(port, PATH, "shop-sell"), range(AT_ONCE))
        assert sorted(answers) == list(range(AT_ONCE))
    api.conflicts.clear()  # every call was of the same run, for the sake of simplicity
    assert len(threads) == AT_ONCE
    # Async functions share one loop: what they keep open is bound to it.
    assert len(loops) == (1 if driver == "async" else 0)


def test_wsgi_keeps_its_loop_from_call_to_call(api: CheckpointApi) -> None:
    seen: list[asyncio.AbstractEventLoop] = []
    app = onward.App("shop")

    @app.function("sell", trigger=onward.Event("test/asked"))
    async def sell(ctx: onward.Context) -> None:
        seen.append(asyncio.get_running_loop())

    with served(flask_beside(app), wsgi=True) as port:
        for _ in range(3):
            call(port, PATH, "shop-sell")
    assert len(seen) == 3
    assert len(set(map(id, seen))) == 1
    assert seen[0].is_running()
