"""A trace of some steps for TensorBoard's profiler or Perfetto (ui.perfetto.dev)."""

from __future__ import annotations

import pathlib
from typing import Any

import jax


class Trace:
    """Traces `steps` steps from `first` on to `workdir`/profile; none where `steps` is 0."""

    def __init__(self, workdir: pathlib.Path, first: int, steps: int):
        self.folder = workdir / "profile"
        self.first, self.last = first, first + steps - 1

    def before(self, step: int) -> None:
        """Begins at the first step to trace."""
        if step == self.first <= self.last:
            jax.profiler.start_trace(self.folder)

    def after(self, step: int, state: Any) -> None:
        """Ends once the devices have done the last one."""
        if step == self.last >= self.first:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
