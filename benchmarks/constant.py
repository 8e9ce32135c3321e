"""An orchestrator whose checkpoint call costs a constant time: `python -m benchmarks.constant MS`.

Prints its port, then serves until its standard input ends. GET tells how many seconds the calls
have really taken, from having read one to having answered it: a sleep is longer than it should be.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
_spent: list[float] = []


def _serve(connection: socket.socket, seconds: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb") as stream:
        while first := stream.readline():
            length = 0
            while (line := stream.readline()).strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            stream.read(length)
            if first.startswith(b"GET"):
                body = json.dumps(sum(_spent)).encode()
                connection.sendall(HEAD + b"%d\r\n\r\n" % len(body) + body)
                continue
            begun = time.perf_counter()
            time.sleep(seconds)
            connection.sendall(HEAD + b"4\r\n\r\nnull")
            _spent.append(time.perf_counter() - begun)


def _accept(listener: socket.socket, seconds: float) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, seconds), daemon=True).start()


def main() -> None:
    """Serve."""
    seconds = float(sys.argv[1]) / 1000
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, seconds), daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
