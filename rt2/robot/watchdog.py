"""The dead man's switch: a thread of its own, so that a stuck request cannot keep an arm moving."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rt2.robot.gate import Gate

EVERY = 0.02  # seconds


class Watchdog:
    """`with Watchdog(gate):` latches the gate within `EVERY` of its deadline.

    `beat` is called as often while the gate is open: a driver that hears nothing holds by itself
    (`rt2.robot.driver`), also when this whole process is stopped.
    """

    def __init__(self, gate: Gate, beat: Callable[[], None] = lambda: None):
        self._gate, self._beat = gate, beat
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops the arm: without its watchdog it must not move."""
        self._ended.set()
        self._thread.join()
        self._gate.stop("the watchdog was ended")

    def _run(self) -> None:
        while not self._ended.wait(EVERY):
            self._gate.watch()
            if self._gate.reason:
                continue
            try:
                self._beat()
            except OSError as error:
                self._gate.stop(f"arm: {error}")
