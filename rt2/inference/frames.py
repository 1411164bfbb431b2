"""Messages between the front and the model process: length, then a frame of `rt2.inference.wire`.

Both ends are this project's own; the checks of `wire` apply all the same.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from rt2.inference import wire

LENGTH = struct.Struct("<Q")


def packed(message: Any) -> bytes:
    """The bytes of one message."""
    frame = wire.encode(message)
    return LENGTH.pack(len(frame)) + frame


async def read(reader: asyncio.StreamReader) -> Any:
    """The next message. Raises asyncio.IncompleteReadError at the end."""
    (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return wire.decode(await reader.readexactly(size))


def receive(connection: socket.socket) -> Any:
    """The next message of a blocking socket. Raises EOFError at the end."""
    (size,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    return wire.decode(_exactly(connection, size))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = connection.recv_into(view[filled:])
        if not count:
            raise EOFError
        filled += count
    return bytes(data)
