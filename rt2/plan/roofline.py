"""A bound on the time of a step, and an estimate with its assumptions, from counted figures.

Nothing here is measured: no chip of these is at hand. The bound is the larger of three times, as if
the other two hid behind it completely.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from rt2.plan.chips import GPU, Topology
from rt2.plan.collectives import Collective

OVERLAP = {"cuda": 0.8, "tpu": 0.0}
"""Part of the collectives that is assumed to hide behind products. On GPUs they are asynchronous in
the compiled text; on TPUs the gathers are and the sums are not, and none is taken to hide."""


LATENCY = {"cuda": 10e-6, "tpu": 1e-6}
"""Seconds that the shortest message takes: on TPUs of a hop, on GPUs of a collective in a host (of
one across hosts twice as much). Assumed; it counts where messages are short."""


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of one step on one chip by each resource, and what they come to."""

    compute: float
    memory: float
    communication: float
    estimate: float
    model_flops_utilization: float

    @property
    def bound(self) -> str:
        """The resource that takes longest."""
        times = {name: getattr(self, name) for name in ("compute", "memory", "communication")}
        return max(times, key=times.get)

    @property
    def seconds(self) -> float:
        """The bound: no step is faster."""
        return max(self.compute, self.memory, self.communication)


def roofline(
    topology: Topology, *, model_flops: int, flops: int, moved: int, communication: float
) -> Roofline:
    """Times for `flops` over all chips (recomputation included) and `moved` bytes on each.

    The estimate: products at the chip's assumed efficiency or memory at its full rate, whichever is
    longer, and after them the part of the communication that does not hide.
    """
    chip = topology.chip
    compute = flops / topology.chips / chip.flops
    memory = moved / chip.bandwidth
    hidden = min(OVERLAP[chip.platform] * communication, compute / chip.efficiency)
    estimate = max(compute / chip.efficiency, memory) + communication - hidden
    used = model_flops / (estimate * topology.chips * chip.flops)
    return Roofline(compute, memory, communication, estimate, used)


@dataclasses.dataclass(frozen=True)
class Action:
    """Seconds of one action on one chip by each resource, and what they come to.

    `weights`: to read every weight that it needs, those of the decoder for every token. `memory`:
    all traffic of the compiled text, which counts what a chip may keep in its caches.
    """

    compute: float
    weights: float
    memory: float
    communication: float
    latency: float
    least: float
    most: float


def action(topology: Topology, row: Mapping[str, Any], weights: int) -> Action:
    """Times of a compiled program, `row` of a plan, that reads `weights` bytes on a chip.

    Both ends take products at the assumed efficiency or memory at its full rate, whichever is
    longer, then all collectives with what their shortest message takes; nothing hides. The least
    reads the weights alone, the most all that the compiled text reads and writes.
    """
    chip, late = topology.chip, row["latency_seconds"]
    compute = row["flops"] / topology.chips / chip.flops
    read, moved = weights / chip.bandwidth, row["memory_traffic_bytes"] / chip.bandwidth
    sent = sum(row["communication_seconds"].values())
    least, most = (max(compute / chip.efficiency, x) + sent + late for x in (read, moved))
    return Action(compute, read, moved, sent, late, least, most)


def latency_seconds(found: Sequence[Collective], topology: Topology, mesh: Mesh) -> float:
    """Seconds of all collectives, one after another, as if their messages were empty."""
    hop = LATENCY[topology.chip.platform]
    return sum(one.times * hop * _hops(one, topology, mesh) for one in found)


def _hops(one: Collective, topology: Topology, mesh: Mesh) -> int:
    """Messages after one another: to the farthest chip of the group, and back for a sum."""
    if topology.chip.platform == GPU:
        return 1 if len({member // topology.shape[1] for member in one.group}) == 1 else 2
    places = [mesh.devices.reshape(-1)[member].coords for member in one.group]
    spans = [len({place[axis] for place in places}) for axis in range(len(topology.shape))]
    far = [n // 2 if wraps else n - 1 for n, wraps in zip(spans, topology.wraps, strict=True)]
    return sum(far) * (2 if one.kind == "all-reduce" else 1)


def latency_assumption(topology: Topology) -> tuple[str, str]:
    """What `LATENCY` says of a topology, in words."""
    what = "a collective in a host" if topology.chip.platform == GPU else "a hop of the torus"
    return "latency", f"{LATENCY[topology.chip.platform] * 1e6:g} us of {what}: assumed"


def communication_seconds(
    found: Sequence[Collective], topology: Topology, mesh: Mesh
) -> dict[str, float]:
    """Seconds of all collectives, one after another, by their mesh axes."""
    seconds: dict[str, float] = {}
    for one in found:
        rate = bandwidth(one.group, topology, mesh)
        seconds[one.axes] = seconds.get(one.axes, 0.0) + one.times * one.received / rate
    return seconds


def bandwidth(group: Sequence[int], topology: Topology, mesh: Mesh) -> float:
    """Bytes/s that a device of the group receives while all of the group's devices send.

    GPUs: NVLink within a host; across hosts every GPU of the group brings its network card, and the
    group's share of a host receives once what its GPUs then pass on. TPUs: both directions of every
    torus dimension that the group spans in a closed ring, one direction of an open one.
    """
    chip = topology.chip
    if chip.platform == GPU:
        hosts = {member // topology.shape[1] for member in group}
        if len(hosts) == 1:
            return chip.link
        return min(chip.link, chip.network * len(group) / len(hosts))
    devices = mesh.devices.reshape(-1)
    places = [devices[member].coords for member in group]
    rate = 0.0
    for axis, side in enumerate(topology.shape):
        spanned = len({place[axis] for place in places})
        ring = spanned == side and topology.wraps[axis]
        rate += 0.0 if spanned == 1 else chip.link * (2 if ring else 1)
    return rate or math.inf


def assumptions(topology: Topology) -> list[tuple[str, str]]:
    """Every figure that the times rest on, in words."""
    chip = topology.chip
    if chip.platform == GPU:
        network = (
            f"NVLink {chip.link / 1e9:g} GB/s one way within a host; {chip.network / 1e9:g} GB/s "
            "one way for each GPU beyond it"
        )
    else:
        network = (
            f"{chip.link / 1e9:g} GB/s one way on each link of a {chip.torus}-dimensional torus; "
            "rings use both ways"
        )
    return [
        ("peak", f"{chip.flops / 1e12:g} TFLOP/s dense bfloat16 ({chip.source})"),
        ("efficiency", f"{chip.efficiency:.0%} of the peak in matrix products: assumed"),
        ("memory", f"{chip.hbm / 1e9:.1f} GB at {chip.bandwidth / 1e12:g} TB/s"),
        ("network", network),
        ("collectives", "the bytes of a ring at full rate; no latency, no congestion"),
        ("overlap", f"{OVERLAP[chip.platform]:.0%} of the collectives hide behind products"),
        ("model FLOPs", "three times the forward pass of rt2/models/flops.py, padding included"),
        ("memory traffic", "every unfused operand once: an upper estimate"),
    ]
