"""python -m rt2.plan --config=FILE --topology=v4:4x4x4: what a config keeps on every chip.

Parameters, gradients and optimizer state are counted from abstract shapes and the config's own
sharding rules; no array is made and no accelerator is needed. Activations are not counted.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pathlib
import sys

import jax
from absl import app, flags
from jax.sharding import AbstractMesh

from rt2.errors import ConfigError, UserError
from rt2.models import variants
from rt2.models.build import Model
from rt2.train import sharding
from rt2.train.commandline import CONFIG, parse
from rt2.train.optimizer import frozen_paths, make_optimizer
from rt2.train.step import StepSettings, init_state, split_frozen

_TOPOLOGY = flags.DEFINE_string("topology", "v4:4x4x4", "CHIP:AxBxC, or CHIP:COUNT for GPUs.")
_JSON = flags.DEFINE_string("json", None, "Write the figures here.")

HBM_GIB = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32, "h100": 80, "h200": 141, "b200": 192}
"""Memory of one chip, by the makers' data sheets."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Bytes on every chip for a config on a topology."""

    topology: str
    chips: int
    mesh: dict[str, int]
    parameters: int
    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    hbm_bytes: int

    @property
    def total_bytes(self) -> int:
        """Everything that is counted."""
        return self.parameter_bytes + self.gradient_bytes + self.optimizer_bytes

    def lines(self) -> list[str]:
        """The plan in words."""
        rows = {
            "parameters": self.parameter_bytes,
            "gradients": self.gradient_bytes,
            "optimizer": self.optimizer_bytes,
            "together": self.total_bytes,
            "left for activations": self.hbm_bytes - self.total_bytes,
        }
        fits = self.total_bytes < self.hbm_bytes
        return [
            f"{self.parameters / 1e6:.2f} M parameters on {self.topology}: {self.chips} chips, "
            f"mesh {self.mesh}",
            *(f"  {name:<22}{size / 2**30:10.3f} GiB a chip" for name, size in rows.items()),
            "fits before activations"
            if fits
            else "does NOT fit: raise --config.mesh.fsdp or --config.mesh.tensor, or use "
            "--config.optimizer.name=adafactor",
        ]


def make_plan(config, topology: str) -> Plan:
    """The plan of `config` on `topology`; raises UserError where they do not go together."""
    chip, chips = parse_topology(topology)
    sizes = sharding.mesh_sizes(config.mesh.to_dict(), chips)
    mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes))
    sharding.check_batch(config.batch_size, mesh)
    model = Model(
        variants.config(
            config.model.variant,
            vocab=config.tokenizer.vocab_size,
            dtype=config.model.dtype,
            remat=config.model.remat,
            image_size=config.model.image_size,
        )
    )
    optimizer = make_optimizer(config.optimizer, config.num_steps, model)
    settings = StepSettings(model, optimizer, 1, 0, 0, 0, frozen=frozen_paths(config, model))
    make = functools.partial(init_state, settings)
    shapes, placed = sharding.lay_out(make, model, config.sharding, mesh)
    held = bytes_per_chip(shapes.params, placed.params)
    return Plan(
        topology=topology,
        chips=chips,
        mesh=sizes,
        parameters=model.size,
        parameter_bytes=held,
        gradient_bytes=bytes_per_chip(
            *(split_frozen(settings, x)[0] for x in (shapes.params, placed.params))
        ),
        optimizer_bytes=bytes_per_chip(shapes.optimizer, placed.optimizer),
        hbm_bytes=HBM_GIB[chip] * 2**30,
    )


def parse_topology(topology: str) -> tuple[str, int]:
    """("v4", 64) of "v4:4x4x4"."""
    chip, _, shape = topology.partition(":")
    if chip not in HBM_GIB:
        raise ConfigError(f"--topology={topology}: chip {chip!r}; known: {', '.join(HBM_GIB)}")
    if not shape or not all(part.isdigit() and int(part) for part in shape.split("x")):
        raise ConfigError(f"--topology={topology}: expected a shape such as {chip}:4x4")
    return chip, math.prod(int(part) for part in shape.split("x"))


def bytes_per_chip(shapes, placed) -> int:
    """Bytes of the largest shard of every array, summed."""
    return sum(
        math.prod(where.shard_shape(shape.shape)) * shape.dtype.itemsize
        for shape, where in zip(jax.tree.leaves(shapes), jax.tree.leaves(placed), strict=True)
    )


def main(argv: list[str]) -> None:
    """Prints the plan."""
    if len(argv) > 1 or CONFIG.value is None:
        sys.exit(f"usage: {__doc__}")
    try:
        plan = make_plan(CONFIG.value, _TOPOLOGY.value)
    except UserError as error:
        sys.exit(f"rt2.plan: {error}")
    print("\n".join(plan.lines()))
    if _JSON.value:
        row = dataclasses.asdict(plan) | {"total_bytes": plan.total_bytes}
        pathlib.Path(_JSON.value).write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
