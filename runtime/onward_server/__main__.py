"""`python -m onward_server --db FILE --port N`: an orchestrator as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from onward.errors import OnwardError
from onward_server.orchestrator import Orchestrator
from onward_server.serving import serve
from onward_server.settings import Settings


async def run(
    db: str, host: str, port: int, settings: Settings, app_urls: Sequence[str] = ()
) -> None:
    """Serves until SIGINT or SIGTERM. Prints one JSON line with the URL when it is ready.

    The apps at `app_urls` are asked for their functions. Raises SyncError for one that has none.
    """
    orchestrator = Orchestrator(db, settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await orchestrator.start()
    try:
        async with serve(orchestrator, host, port) as serving:
            print(json.dumps({"url": serving.url, "db": db}), flush=True)  # noqa: T201 - the interface
            for url in app_urls:
                await orchestrator.sync(url)
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
    parser.add_argument(
        "--signing-key",
        default=os.environ.get("INNGEST_SIGNING_KEY"),
        help="sign calls, and ask for its token (INNGEST_SIGNING_KEY); without one all is open",
    )
    parser.add_argument(
        "--event-key",
        action="append",
        default=None,
        metavar="KEY",
        help="a key that events may be sent with (INNGEST_EVENT_KEY); may be repeated",
    )
    parser.add_argument(
        "--app-url",
        action="append",
        default=[],
        metavar="URL",
        help="ask the app there for its functions; may be repeated",
    )
    options = parser.parse_args()
    event_keys = options.event_key or [os.environ.get("INNGEST_EVENT_KEY", "")]
    settings = Settings(
        signing_key=options.signing_key or None, event_keys=tuple(filter(None, event_keys))
    )
    if options.retry_base is not None:
        settings = replace(settings, retry_base_s=options.retry_base)
    try:
        asyncio.run(run(options.db, options.host, options.port, settings, options.app_url))
    except OnwardError as error:
        print(f"onward_server: {error.message}", file=sys.stderr)  # noqa: T201 - the interface
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
