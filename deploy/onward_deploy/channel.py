"""The private channel between the command line and a child process: JSON, length-prefixed.

It is a socket pair of its own, so that what user code prints can never be taken for a message.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

_LENGTH = struct.Struct(">Q")
_PIECE = 1 << 20


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Write `message`. Raises OSError when the other side is gone."""
    body = json.dumps(message, separators=(",", ":")).encode()
    channel.sendall(_LENGTH.pack(len(body)) + body)


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """The next message; None when the other side is gone.

    Raises TimeoutError when the channel has a timeout and it passes without a byte.
    """
    head = _exactly(channel, _LENGTH.size)
    if head is None:
        return None
    body = _exactly(channel, _LENGTH.unpack(head)[0])
    if body is None:
        return None
    message: dict[str, Any] = json.loads(body)
    return message


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    pieces = bytearray()
    while len(pieces) < size:
        try:
            piece = channel.recv(min(size - len(pieces), _PIECE))
        except ConnectionError:
            return None
        if not piece:
            return None
        pieces += piece
    return bytes(pieces)
