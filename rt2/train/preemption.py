"""Ending early, at a step on which all processes agree."""

from __future__ import annotations

import signal

import jax
from jax.experimental import multihost_utils


class Preempted(Exception):
    """The run was asked to end and has saved its step; it is to be started again."""


class Preemption:
    """Whether SIGTERM has come, to this process or to any other of the run.

    Among several processes jax has caught the signal since they joined, and spreads it; alone, it
    is caught from here on. A second one changes nothing.
    """

    def __init__(self):
        self._asked = False
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_) -> None:
        self._asked = True

    def reached(self, step: int) -> bool:
        """Whether to end after `step`; every process gets the same answer for the same step."""
        if jax.process_count() == 1:
            return self._asked
        return multihost_utils.reached_preemption_sync_point(step)
