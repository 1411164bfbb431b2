"""Bytes that a chip keeps, by kind, and which knob makes a step fit."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax

from rt2.plan.chips import GPU, Topology
from rt2.plan.programs import Setup
from rt2.train.step import split_frozen

USABLE = {"cuda": 0.92, "tpu": 0.96}
"""Part of the memory that a program can have; the rest is the runtime's (context, NCCL, libtpu)."""


@dataclasses.dataclass(frozen=True)
class Held:
    """Bytes on the fullest chip. `temporaries` are activations and everything else that a step
    makes and drops; None where nothing was compiled."""

    parameters: int
    optimizer: int
    gradients: int
    batch: int
    temporaries: int | None = None

    @property
    def total(self) -> int:
        """Everything that is counted."""
        return sum(value or 0 for value in dataclasses.astuple(self))


def held(setup: Setup, peak: int | None = None) -> Held:
    """Bytes by kind from the abstract state, and the rest of the compiled step's `peak`."""
    trained, _ = split_frozen(setup.settings, setup.state.params)
    known = Held(
        parameters=bytes_per_chip(setup.state.params),
        optimizer=bytes_per_chip(setup.state.optimizer),
        gradients=bytes_per_chip(trained),
        batch=bytes_per_chip(setup.batch),
    )
    if peak is None:
        return known
    return dataclasses.replace(known, temporaries=max(peak - known.total, 0))


def bytes_per_chip(tree: Any) -> int:
    """Bytes of the largest shard of every array, summed."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def usable(topology: Topology) -> int:
    """Bytes that a step may take on a chip."""
    return int(topology.chip.hbm * USABLE[topology.chip.platform])


def advice(setup: Setup, topology: Topology, total: int, state: int) -> list[str]:
    """Knobs that make a step of `total` bytes fit, of which `state` are not activations."""
    room, config, mesh = usable(topology), setup.config, setup.mesh.shape
    if total <= room:
        return []
    knobs = []
    spread = mesh["fsdp"] * mesh["tensor"]
    if config.optimizer.name != "adafactor":
        knobs.append("--config.optimizer.name=adafactor (factored moments)")
    if mesh["data"] > 1 and state > 0.3 * room:
        knobs.append(
            f"--config.mesh.fsdp={mesh['fsdp'] * mesh['data']} --config.mesh.data=1 (each chip "
            f"then holds 1/{spread * mesh['data']} of the state)"
        )
    if total - state > 0.3 * room:
        if config.model.remat == "none":
            knobs.append("--config.model.remat (layers are recomputed in the backward pass)")
        fraction = max((room - state) / max(total - state, 1), 0.0)
        rows = int(config.batch_size * fraction) // spread * spread
        if rows:
            knobs.append(f"--config.batch_size={rows}, about")
    factor = 2 ** math.ceil(math.log2(total / room))
    shape = "hosts" if topology.chip.platform == GPU else "chips"
    knobs.append(f"a topology of {topology.chips * factor} chips: {factor} times the {shape}")
    return knobs
