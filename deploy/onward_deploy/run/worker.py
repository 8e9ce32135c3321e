"""The worker process of `onward run`: one function, one invocation at a time, as on Lambda.

It is told when its time ends (as a Lambda function is), and nothing about who watches it: the
parent kills it at the limit with its own clock.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from onward_deploy import channel as wire
from onward_deploy.errors import UsageError
from onward_deploy.loading import load_app_here, parse_target, users_traceback
from onward_deploy.run.ledger import LedgerWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from onward import App

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class InvocationContext:
    """What AWS Lambda passes as `context`, with the attributes of its Python runtime.

    `deadline_ms` is in milliseconds since the epoch, as `Lambda-Runtime-Deadline-Ms` is.
    """

    def __init__(self, *, request_id: str, function_name: str, deadline_ms: float) -> None:
        self.aws_request_id = request_id
        self.function_name = function_name
        self.function_version = "$LATEST"
        self.memory_limit_in_mb = "1769"
        self.invoked_function_arn = (
            f"arn:aws:lambda:us-east-1:000000000000:function:{function_name}"
        )
        self.log_group_name = f"/aws/lambda/{function_name}"
        self.log_stream_name = "local"
        self.identity = None
        self.client_context = None
        self._deadline_ms = deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        """How much time this invocation believes to have left, in milliseconds; never negative."""
        return max(int(self._deadline_ms - time.time() * 1000), 0)


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when the process `parent` ends, however it ends.

    Elsewhere the end of the channel does it (`_read`), as soon as Python code runs.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _read(channel: socket.socket, inbox: SimpleQueue[dict[str, Any]]) -> None:
    while (message := wire.receive(channel)) is not None:
        inbox.put(message)
    # Nobody is left to answer to. SIGKILL, since a body may be busy; and the whole group, since a
    # body may have started processes. The parent gave this process a group of its own.
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _serve_one(
    message: dict[str, Any], handle: Callable[[Any, Any], Any], function_name: str
) -> dict[str, Any]:
    context = InvocationContext(
        request_id=message["request_id"],
        function_name=function_name,
        deadline_ms=message["deadline_ms"],
    )
    try:
        answer = handle(message["payload"], context)
    except Exception as error:  # noqa: BLE001 - reported to the parent, as Lambda's runtime does
        return {
            "kind": "raised",
            "message": f"{type(error).__name__}: {error}",
            "traceback": users_traceback(error),
        }
    return {"kind": "answer", "answer": answer}


def _describe(app: App) -> dict[str, Any]:
    return {"kind": "ready", "registration": app.registration("lambda://local")}


def serve(channel: socket.socket, app: App, ledger: LedgerWriter) -> None:
    """Say `ready`, then answer invocations from `channel` until the process is killed."""
    from onward.aws_lambda import handler
    from onward.testing import observe_bodies

    observe_bodies(app, ledger)
    handle = handler(app)
    inbox: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_read, args=(channel, inbox), name="channel", daemon=True).start()
    wire.send(channel, _describe(app))
    while True:
        message = inbox.get()
        ledger.invocation = message["invocation"]
        answer = _serve_one(message, handle, app.id)
        sys.stdout.flush()
        sys.stderr.flush()
        wire.send(channel, {"invocation": message["invocation"], **answer})


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `python -m onward_deploy.run.worker`."""
    parser = argparse.ArgumentParser(prog="onward_deploy.run.worker", description=__doc__)
    parser.add_argument("--channel", type=int, required=True, help="descriptor of the channel")
    parser.add_argument("--parent", type=int, required=True, help="process to die with")
    parser.add_argument("--ledger", required=True, help="file that body events are appended to")
    parser.add_argument("target", help="MODULE:APP")
    options = parser.parse_args(arguments)
    die_with_parent(options.parent)
    channel = socket.socket(fileno=options.channel)
    channel.set_inheritable(False)
    try:
        app = load_app_here(parse_target(options.target), os.environ["INNGEST_DEV"])
    except UsageError as error:
        refusal = {"kind": "refused", "message": error.message, "details": error.details}
        wire.send(channel, refusal)
        return 2
    serve(channel, app, LedgerWriter(options.ledger))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
