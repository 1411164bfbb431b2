"""The server of `rt2.inference` with a model that only waits: python stub_server.py MS MAX_BATCH.

Prints the two ports and its process number, then serves until SIGTERM. With --worker FD MS it is
the model process.
"""

import asyncio
import functools
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from rt2.inference import serve, worker
from rt2.inference.access import Access
from rt2.inference.front import Front
from rt2.inference.logs import log_json
from rt2.inference.model import Model


class Waits:
    """Answers after a time with the brightness of the image."""

    metadata = {"dataset": "table", "datasets": {}, "step": 1, "history": 1, "cameras": ["image"]}

    def __init__(self, seconds: float):
        self.seconds = seconds

    def infer_batch(self, observations):
        """One reply for each observation."""
        time.sleep(self.seconds)
        return [
            {
                "actions": np.full((1, 2), np.asarray(row["image"]).mean(), np.float32),
                "terminate": False,
                "text": "0 1",
                "log_prob": -0.5,
                "timing": {"decode_ms": 1e3 * self.seconds},
            }
            for row in observations
        ]


def start(end: socket.socket, milliseconds: str) -> subprocess.Popen:
    """The model process."""
    command = [sys.executable, __file__, "--worker", str(end.fileno()), milliseconds]
    return subprocess.Popen(command, pass_fds=[end.fileno()])


async def main(milliseconds: str, max_batch: int) -> None:
    """Serves until SIGTERM."""
    model = Model("nowhere", functools.partial(start, milliseconds=milliseconds), timeout=2.0)
    front, stop = Front(model, Access(), max_batch), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def listening(port: int, rest: int | None) -> None:
        print(port, rest, os.getpid(), flush=True)

    await serve.run(front, "127.0.0.1", (0, 0), None, stop, listening)


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        policy = Waits(float(sys.argv[3]) / 1e3)
        worker.answer(
            socket.socket(fileno=int(sys.argv[2])), lambda path: worker.Loaded(policy, "stub", path)
        )
    else:
        log_json()
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))
