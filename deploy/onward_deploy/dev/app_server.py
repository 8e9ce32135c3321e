"""The process that serves the app for `onward dev`: a crash of it leaves the orchestrator alone.

The parent owns the listening socket, so that calls queue up while a crashed app is replaced. It
is told about the app over a channel of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING

from onward_deploy import channel as wire
from onward_deploy.errors import UsageError
from onward_deploy.loading import load_app_here, parse_target
from onward_deploy.run.worker import die_with_parent
from onward_server.serving import build_server, url_of

if TYPE_CHECKING:
    import uvicorn

    from onward import App

PATH = "/api/inngest"
#: How long a stop waits for calls in flight; their runs go on from the journal after it.
STOP_GRACE_S = 3.0


def _stop_with(channel: socket.socket, server: uvicorn.Server) -> None:
    """The end of the channel is the parent's word to stop, however the parent ended."""
    while wire.receive(channel) is not None:
        pass
    server.should_exit = True
    # A body that blocks must not keep the process: nothing of it is lost but its own step.
    timer = threading.Timer(STOP_GRACE_S, os._exit, (0,))
    timer.daemon = True
    timer.start()


def serve(app: App, listener: socket.socket, channel: socket.socket) -> None:
    """Answer calls on `listener` until the parent closes `channel`."""
    from onward.asgi import serve as asgi

    server = build_server(asgi(app, path=PATH))
    threading.Thread(target=_stop_with, args=(channel, server), daemon=True).start()
    registration = app.registration(f"{url_of(listener)}{PATH}")
    wire.send(channel, {"kind": "ready", "registration": registration})
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(server.serve(sockets=[listener]))


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `python -m onward_deploy.dev.app_server`."""
    parser = argparse.ArgumentParser(prog="onward_deploy.dev.app_server", description=__doc__)
    parser.add_argument("--listener", type=int, required=True, help="descriptor to accept on")
    parser.add_argument("--channel", type=int, required=True, help="descriptor of the channel")
    parser.add_argument("--parent", type=int, required=True, help="process to die with")
    parser.add_argument("target", help="MODULE:APP")
    options = parser.parse_args(arguments)
    die_with_parent(options.parent)
    channel = socket.socket(fileno=options.channel)
    channel.set_inheritable(False)
    listener = socket.socket(fileno=options.listener)
    listener.set_inheritable(False)
    try:
        app = load_app_here(parse_target(options.target), os.environ["INNGEST_DEV"])
    except UsageError as error:
        refusal = {"kind": "refused", "message": error.message, "details": error.details}
        wire.send(channel, refusal)
        return 2
    serve(app, listener, channel)
    # Threads that still run a body are not waited for.
    os._exit(0)


if __name__ == "__main__":
    raise SystemExit(main())
