"""What importing Onward and building a handler costs, over a bare interpreter."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.figures import Figure, Options, cpu_of, figure, has_module, ratio

ONWARD = """
import onward
app = onward.App("cold")
@app.function("f", trigger=onward.Event("x"))
def f(ctx: onward.BlockingContext) -> int: return ctx.step.run("a", int)
handler = onward.aws_lambda.handler(app)
"""
INNGEST = "import inngest"
FIRST = "import runpy; runpy.run_module('benchmarks.{}', run_name='__main__')"
ROUNDS = 9


class _Confirm(BaseHTTPRequestHandler):
    """Confirms every checkpoint."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer 200."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"null")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def measure(options: Options) -> list[Figure]:
    """Milliseconds of CPU."""
    peers = options.peers
    pairs = [(cpu_of("pass"), cpu_of(ONWARD)) for _ in range(ROUNDS)]
    ours = figure("import onward, build a handler", [b - a for a, b in pairs], "ms CPU", aim=80)
    figures = [ours]
    if peers and has_module(peers, "inngest"):
        pairs = [
            (cpu_of("pass", python=peers), cpu_of(INNGEST, python=peers)) for _ in range(ROUNDS)
        ]
        theirs = figure("import inngest", [b - a for a, b in pairs], "ms CPU")
        figures += [theirs, ratio("ratio", ours, theirs, aim=0.2)]
    return figures + _to_first_answer(peers)


def _to_first_answer(peers: str | None) -> list[Figure]:
    """From nothing to the first confirmed checkpoint, beside inngest's first answer."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Confirm)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        values = [cpu_of(FIRST.format("first_checkpoint"), BENCH_URL=url) for _ in range(ROUNDS)]
    finally:
        server.shutdown()
        server.server_close()
    ours = figure("import to first confirmed checkpoint", values, "ms CPU")
    if not peers or not has_module(peers, "inngest"):
        return [ours]
    code = FIRST.format("peer_inngest")
    values = [cpu_of(code, python=peers) for _ in range(ROUNDS)]
    theirs = figure("inngest: import to first answer", values, "ms CPU")
    return [ours, theirs, ratio("ratio", ours, theirs, aim=0.5)]
