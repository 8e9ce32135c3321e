"""`python -m onward_server --db FILE --port N`: an orchestrator as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys

from onward.errors import OnwardError
from onward_server.orchestrator import Orchestrator
from onward_server.serving import serve
from onward_server.settings import Settings


async def run(db: str, host: str, port: int, settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM. Prints one JSON line with the URL when it is ready."""
    orchestrator = Orchestrator(db, settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await orchestrator.start()
    try:
        async with serve(orchestrator, host, port) as serving:
            print(json.dumps({"url": serving.url, "db": db}), flush=True)  # noqa: T201 - the interface
            await stopping.wait()
    finally:
        await orchestrator.stop()


def main() -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m onward_server", description=__doc__)
    parser.add_argument("--db", default=":memory:", help="the database file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8288, help="0 takes any free port")
    parser.add_argument(
        "--retry-base", type=float, default=None, metavar="SECONDS", help="first retry delay"
    )
    options = parser.parse_args()
    settings = Settings()
    if options.retry_base is not None:
        settings = Settings(retry_base_s=options.retry_base)
    try:
        asyncio.run(run(options.db, options.host, options.port, settings))
    except OnwardError as error:
        print(f"onward_server: {error.message}", file=sys.stderr)  # noqa: T201 - the interface
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
