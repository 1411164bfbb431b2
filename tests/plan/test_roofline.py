"""Times from figures: which resource binds, what a group of devices can receive."""

from types import SimpleNamespace

import numpy as np
import pytest

from rt2.plan.chips import CHIPS, parse_topology
from rt2.plan.roofline import bandwidth, roofline

POD = parse_topology("v4:4x4x4")


def mesh(topology):
    """Devices with the coordinates of a torus, in order."""
    places = np.ndindex(*topology.shape)
    devices = np.empty(topology.chips, object)
    devices[:] = [SimpleNamespace(coords=place) for place in places]
    return SimpleNamespace(devices=devices)


@pytest.mark.parametrize("given", ["compute", "memory", "communication"])
def test_the_longest_time_is_the_bound(given):
    chip = POD.chip
    seconds = {"compute": 1.0, "memory": 1.0, "communication": 1.0} | {given: 3.0}
    line = roofline(
        POD,
        model_flops=int(64 * chip.flops),
        flops=int(64 * chip.flops * seconds["compute"]),
        moved=int(chip.bandwidth * seconds["memory"]),
        communication=seconds["communication"],
    )
    assert (line.bound, line.seconds) == (given, pytest.approx(3.0))
    assert line.estimate > line.seconds
    assert line.model_flops_utilization == pytest.approx(1 / line.estimate)


def test_gpus_of_a_host_speak_over_nvlink_and_hosts_over_all_their_cards():
    slice_ = parse_topology("h100:4x8")
    assert bandwidth(range(8), slice_, None) == 450e9
    assert bandwidth(range(32), slice_, None) == 8 * 50e9
    assert bandwidth((0, 8, 16, 24), slice_, None) == 50e9


def test_a_torus_gives_both_ways_of_every_closed_side():
    link = CHIPS["v4"].link
    assert bandwidth(range(64), POD, mesh(POD)) == 6 * link
    assert bandwidth(range(4), POD, mesh(POD)) == 2 * link
    assert bandwidth(range(2), POD, mesh(POD)) == link
    open_ = parse_topology("v4:2x2x2")
    assert bandwidth(range(8), open_, mesh(open_)) == 3 * link
