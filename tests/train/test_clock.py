"""Rates and utilisation of a run."""

import types

import pytest

from rt2.train import clock


def test_utilisation_is_what_is_computed_over_what_the_chips_can(monkeypatch):
    now = iter([0.0, 1.0, 1.0, 3.0, 3.0])
    monkeypatch.setattr(clock, "time", types.SimpleNamespace(perf_counter=lambda: next(now)))
    watch = clock.Clock(16, flops=10**12, peak=64e12)
    assert watch.figures(1)["mfu"] is None  # the first step compiles
    figures = watch.figures(5)  # 4 steps of 16 examples in 2 seconds
    assert figures["examples_per_second"] == pytest.approx(32)
    assert figures["mfu"] == pytest.approx(0.5)


def test_the_peak_is_known_for_known_chips_alone():
    def devices(kind, count):
        return [types.SimpleNamespace(device_kind=kind)] * count

    assert clock.peak_flops(devices("TPU v4", 4)) == 4 * 275e12
    assert clock.peak_flops(devices("cpu", 4)) is None
    assert clock.Clock(16, flops=10, peak=None).used is None
