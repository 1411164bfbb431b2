"""How fast a run is: examples a second, waiting for input, model FLOPs utilisation."""

from __future__ import annotations

import resource
import time

import jax

from rt2.models import flops
from rt2.plan.chips import CHIPS
from rt2.preprocess import Preprocess
from rt2.train.step import StepSettings

# What jax calls the chips of rt2/plan/chips.py.
KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
}


def peak_flops(devices: list[jax.Device]) -> float | None:
    """FLOP/s of all devices together in bfloat16, by their data sheet; None for unknown ones."""
    kind = devices[0].device_kind
    return CHIPS[KINDS[kind]].flops * len(devices) if kind in KINDS else None


def example_flops(settings: StepSettings, preprocess: Preprocess) -> int | None:
    """Operations of a row's forward and backward pass, recomputation left out.

    None where a part is frozen, whose backward pass is smaller.
    """
    p = preprocess
    once = flops.forward(settings.model, p.images, p.prefix_length, p.target_length)
    return None if settings.frozen else 3 * once


class Clock:
    """Examples a second, and the part of the time spent waiting for input.

    With `flops`, operations of an example, and `peak`, operations a second of all devices, also the
    model FLOPs utilisation (Chowdhery et al. 2022, appendix B).
    """

    def __init__(self, batch_size: int, flops: int | None = None, peak: float | None = None):
        self.batch_size = batch_size
        self.used = flops / peak if flops and peak else None  # of the peak, by an example a second
        self.restart(None)

    def restart(self, step: int | None) -> None:
        """Forgets what was measured, as after an evaluation."""
        self.began, self.waited, self.step = time.perf_counter(), 0.0, step

    def waiting(self) -> _Waiting:
        """A context around the wait for a batch."""
        return _Waiting(self)

    def figures(self, step: int) -> dict[str, float | None]:
        """Figures since the last call; the rate is None over the first, which compiles."""
        seconds = time.perf_counter() - self.began
        rate = None
        if self.step is not None and step > self.step:
            rate = (step - self.step) * self.batch_size / seconds
        share = self.waited / seconds
        self.restart(step)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KB on Linux
        return {
            "examples_per_second": rate,
            "input_wait_share": share,
            "peak_rss_mb": peak,
            "mfu": rate * self.used if rate and self.used else None,
        }


class _Waiting:
    def __init__(self, clock: Clock):
        self.clock = clock

    def __enter__(self):
        self.began = time.perf_counter()

    def __exit__(self, *_):
        self.clock.waited += time.perf_counter() - self.began
