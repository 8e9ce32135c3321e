"""A function in a process of its own, that notes what it does before and after it is confirmed.

Usage: `crash_function.py PORT ORCHESTRATOR LEDGER STEPS`. Each step appends `run N` to the ledger,
and `ok N` once its checkpoint was answered 200. A line on stdout says what the ledger got.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from onward.core.ids import RUN_COMPLETE_ID, hash_step

PORT, ORCHESTRATOR, LEDGER, STEPS = (
    int(sys.argv[1]),
    urlsplit(sys.argv[2]),
    sys.argv[3],
    int(sys.argv[4]),
)


def note(line: str) -> None:
    file = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.fsync(file)
    os.close(file)
    print(line, flush=True)  # noqa: T201 - the test reads it


def confirm(ctx: dict[str, Any], number: int) -> int:
    """The status of the checkpoint of one step; asks again for as long as nobody answers."""
    step = {"id": hash_step(f"s{number}", 0), "op": "StepRun", "name": f"s{number}", "data": number}
    body = {
        "run_id": ctx["run_id"],
        "fn_id": ctx["fn_id"],
        "qi_id": ctx["qi_id"],
        "request_id": ctx["request_id"],
        "generation_id": ctx["generation_id"],
        "steps": [step],
    }
    while True:
        connection = http.client.HTTPConnection(str(ORCHESTRATOR.hostname), ORCHESTRATOR.port or 80)
        try:
            connection.request("POST", f"/v1/checkpoint/{ctx['run_id']}/async", json.dumps(body))
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            time.sleep(0.01)  # the orchestrator is being started again
        else:
            return response.status
        finally:
            connection.close()


def answer(call: dict[str, Any]) -> list[dict[str, Any]]:
    ctx = call["ctx"]
    for number in range(STEPS):
        if hash_step(f"s{number}", 0) in call["steps"]:
            continue
        note(f"run {number}")
        time.sleep(0.05)  # a run that is over when the kill comes would prove nothing
        status = confirm(ctx, number)
        if status != 200:
            note(f"over {status}")
            return [{"id": f"over-{ctx['request_id']}", "op": "None"}]
        note(f"ok {number}")
    return [{"id": RUN_COMPLETE_ID, "op": "RunComplete", "data": list(range(STEPS))}]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(answer(call)).encode()
        self.send_response(206)
        self.send_header("content-type", "application/json")
        self.send_header("x-inngest-req-version", "2")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Nothing: stdout is the ledger's."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """Nothing: a caller that was killed is what this is for."""


if __name__ == "__main__":
    server = Server(("127.0.0.1", PORT), Handler)
    print(f"ready {server.server_address[1]}", flush=True)  # noqa: T201 - as above
    server.serve_forever()
