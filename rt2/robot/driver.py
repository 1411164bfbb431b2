"""The driver's side of a socket: the arm holds when the client dies, hangs or is not the newest.

A frame is one command or heartbeat of fixed size: fence (uint64), kind (uint64), pose (float64
[D]). No frame is trusted: what is not finite, of an older fence or cut short is a hold.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

import numpy as np

from rt2.robot.gate import Command

SILENCE = 0.15  # seconds without a frame; the watchdog beats every 0.02
BEAT, MOVE, HOLD = range(3)


class RemoteArm:
    """The client's end: what a gate sends to, and what a watchdog beats."""

    def __init__(self, connection: socket.socket, dim: int):
        self._connection, self._fence, self._lock = connection, 0, threading.Lock()
        self._zeros = np.zeros(dim)
        connection.settimeout(SILENCE)  # a driver that reads nothing is a broken arm

    def send(self, command: Command) -> None:
        """Sends a command. Raises OSError where the driver is gone."""
        self._fence = command.fence
        self._write(HOLD if command.hold else MOVE, command.pose)

    def beat(self) -> None:
        """Tells the driver that the client lives. Raises OSError where the driver is gone."""
        self._write(BEAT, self._zeros)

    def _write(self, kind: int, pose: np.ndarray) -> None:
        frame = struct.pack("<QQ", self._fence, kind) + pose.astype("<f8").tobytes()
        with self._lock:  # of two threads: the loop's and the watchdog's
            self._connection.sendall(frame)


def drive(
    connection: socket.socket,
    dim: int,
    move: Callable[[np.ndarray], None],
    hold: Callable[[str], None],
    fence: int = 0,
    silence: float = SILENCE,
) -> int:
    """Obeys one client until it leaves; returns the highest fence seen, for the next call.

    `move(pose)` is given poses float64 [D], `hold(reason)` is called once when frames stop.
    """
    connection.settimeout(silence)
    size, moving = 16 + 8 * dim, False
    while True:
        try:
            frame = _read(connection, size)
        except TimeoutError:
            if moving:
                hold(f"no sign of life for {silence:g} s")
            moving = False
            continue
        except (OSError, EOFError):
            hold("the client is gone")
            return fence
        given, kind = struct.unpack_from("<QQ", frame)
        pose = np.frombuffer(frame, "<f8", dim, 16)
        if given < fence or kind not in (BEAT, MOVE, HOLD) or not np.isfinite(pose).all():
            hold("a frame of an older client, or none at all")
            return fence
        fence = given
        if kind == HOLD:
            hold("told to")
        elif kind == MOVE:
            move(pose)
        moving = moving or kind == MOVE


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data
