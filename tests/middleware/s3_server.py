"""A small S3 on loopback: PUT and GET of objects, with signatures required."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

MISSING = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"""
DENIED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_PUT(self) -> None:
        if self.headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        else:
            body = self.rfile.read(int(self.headers["content-length"]))
        if "aws-chunked" in self.headers.get("content-encoding", ""):
            body = _payload(body)
        if not self._refused():
            self.server.store.objects[self.path.lstrip("/")] = body
            self.server.store.headers.update({k.lower(): v for k, v in self.headers.items()})
            self._answer(200, b"")

    def do_GET(self) -> None:
        if self._refused():
            return
        found = self.server.store.objects.get(self.path.lstrip("/"))
        self._answer(404 if found is None else 200, MISSING if found is None else found)

    def _refused(self) -> bool:
        signed = self.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 ")
        refused = not signed or self.path.startswith("/denied/")
        if refused:
            self._answer(403, DENIED)
        return refused

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    store: S3Server


class S3Server:
    """Objects by `bucket/key`; a bucket called `denied` refuses everything."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.store = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _payload(body: bytes) -> bytes:
    """The object in a body that is `aws-chunked`: sizes in hexadecimal, parts, trailers."""
    parts, rest = [], body
    while rest:
        head, _, rest = rest.partition(b"\r\n")
        size = int(head.partition(b";")[0], 16)
        if not size:
            break
        parts.append(rest[:size])
        rest = rest[size + 2 :]
    return b"".join(parts)
