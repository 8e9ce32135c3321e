"""A process that has everything imported and forks the processes of the crash tests.

Its standard input takes one JSON object a line: `{"role", "environ", "arguments"}` forks a child.
Its standard output gives one a line: `{"forked": pid}`, `{"exited": pid, "status": n}`, and what
children tell of themselves, `{"ready": url, "pid": pid}` and `{"ended": run_id, "pid": pid}`. At
the end of its input it ends the children that are left.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

import onward.execution.asyncio_driver
import onward.execution.blocking_driver
import onward.transport.channel  # noqa: F401 - imported once for all children
from onward.testing.crash import CrashPoints, watch_function
from onward_server.serving import serve_asgi
from tests.crash import orchestrator, pipeline


def tell(**facts: Any) -> None:
    """One line by one write: lines of several processes do not mix."""
    os.write(1, f"{json.dumps(facts)}\n".encode())


async def serve_function(port: int, points: CrashPoints) -> None:
    """The function's process: uvicorn around the ASGI entry, until it is killed."""
    served = watch_function(pipeline.app, pipeline.served, points)
    async with serve_asgi(served, port=port) as serving:
        tell(ready=serving.url, pid=os.getpid())
        await asyncio.Event().wait()


def child(request: dict[str, Any]) -> int:
    """What a forked process runs. Returns its exit status."""
    os.environ.update(request["environ"])
    points = CrashPoints.of(os.environ)
    if request["role"] == "orchestrator":
        return orchestrator.main(points, tell, request["arguments"])
    asyncio.run(serve_function(int(request["arguments"][0]), points))
    return 0


def fork(request: dict[str, Any], inherited: list[int]) -> int:
    """Fork a child for `request` and return its id; `inherited` files are closed in it."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for file in inherited:
            os.close(file)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        status = child(request)
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def reap(children: set[int]) -> None:
    """Tell of each child that has ended."""
    for pid in list(children):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            children.discard(pid)
            tell(exited=pid, status=os.waitstatus_to_exitcode(status))


def main() -> None:
    """Fork what is asked for until the input ends."""
    children: set[int] = set()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    asked = b""
    while True:
        ready = {key.fd for key, _ in selector.select()}
        if woken in ready:
            os.read(woken, 4096)
            reap(children)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, asked = (asked + data).split(b"\n")
            for line in lines:
                pid = fork(json.loads(line), [selector.fileno(), woken, wake])
                children.add(pid)
                tell(forked=pid)
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
