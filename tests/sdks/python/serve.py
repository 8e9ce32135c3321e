"""Serves every function as several apps, async and blocking, behind FastAPI and Flask.

Prints where each app is, and ends with its standard input.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from typing import Any

import fastapi
import flask
import inngest
import inngest.fast_api
import inngest.flask
import uvicorn
from werkzeug.serving import WSGIRequestHandler, make_server

from onward_server.serving import listen, url_of
from tests.sdks.python import branches, configured, errors, events, invoking, steps
from tests.sdks.python.coded import coded
from tests.sdks.python.definitions import App

DEFINED_IN = (branches, configured, errors, events, invoking, steps)


class QuietHandler(WSGIRequestHandler):
    """Keeps connections and writes no log."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        """Nothing."""


def client_of(options: dict[str, Any]) -> inngest.Inngest:
    """The client of one app."""
    quiet = logging.getLogger("inngest")
    quiet.setLevel(logging.CRITICAL)
    url, key = os.environ["ORCHESTRATOR"], os.environ.get("SIGNING_KEY")
    return inngest.Inngest(
        app_id=options["id"],
        api_base_url=url,
        event_api_base_url=url,
        is_production=bool(key),
        signing_key=key,
        event_key=os.environ.get("EVENT_KEY"),
        logger=quiet,
        middleware=[coded(blocking=options["blocking"])] if options.get("coded") else [],
    )


def main() -> None:
    """Serve until standard input ends."""
    asgi, wsgi = fastapi.FastAPI(), flask.Flask("sdk")
    listeners = {"fastapi": listen(), "flask": listen()}
    urls = {}
    for options in json.loads(os.environ["APPS"]):
        id_, framework = options["id"], options["framework"]
        client = client_of(options)
        made = list(App(id_, client, blocking=options["blocking"]).functions.values())
        if framework == "fastapi":
            inngest.fast_api.serve(asgi, client, made, serve_path=f"/api/{id_}")
        else:
            own = flask.Flask(id_)
            inngest.flask.serve(own, client, made, serve_path=f"/api/{id_}")
            wsgi.wsgi_app = Routed(wsgi.wsgi_app, f"/api/{id_}", own)  # type: ignore[method-assign]
        urls[id_] = f"{url_of(listeners[framework])}/api/{id_}"
    listeners["flask"].setblocking(True)
    flask_server = make_server(
        "127.0.0.1",
        listeners["flask"].getsockname()[1],
        wsgi,
        threaded=True,
        request_handler=QuietHandler,
        fd=listeners["flask"].fileno(),
    )
    config = uvicorn.Config(asgi, log_level="error", access_log=False, timeout_keep_alive=600)
    fastapi_server = uvicorn.Server(config)
    threading.Thread(target=flask_server.serve_forever, daemon=True).start()
    threading.Thread(target=fastapi_server.run, args=([listeners["fastapi"]],), daemon=True).start()
    sys.stdout.write(json.dumps(urls) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


class Routed:
    """One WSGI app below a path, another one for the rest: Flask names its routes once an app."""

    def __init__(self, rest: Any, path: str, app: Any) -> None:
        self._rest, self._path, self._app = rest, path, app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer by whichever it is."""
        app = self._app if environ["PATH_INFO"] == self._path else self._rest
        return app(environ, start_response)


if __name__ == "__main__":
    main()
