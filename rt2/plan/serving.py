"""What one action of a robot needs: the whole model spread over a slice by heads and widths.

A weight stays where it is and is read once for every token; activations are summed between chips.
Trained as its shards lie (over fsdp), the model would be gathered for every token instead.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from rt2.plan import compiler, memory, planning, roofline
from rt2.plan.chips import Topology
from rt2.plan.programs import ACTION_SLOTS, Program, Setup, decode_program, make_setup

WEIGHTS = jnp.bfloat16  # what is served; the trainer's are float32
DECODERS = ("text/decoder/", "text/layers/")
TABLES = ("text/embedding", "text/head")


def serving_plan(config: ml_collections.ConfigDict, topology: Topology) -> dict[str, Any]:
    """The plan of one action at batch 1; raises UserError where config and slice clash."""
    served = serving_config(config, topology.chips)
    mesh = compiler.make_mesh(topology, served.mesh.to_dict())
    setup = make_setup(served, mesh)
    program = serve_program(setup)
    row = planning.compile_row(program, setup, topology)
    weights = memory.bytes_per_chip(program.arguments[0])
    batch = memory.bytes_per_chip(program.arguments[1:])
    kept = memory.Held(weights, 0, 0, batch, max(row["needed_bytes"] - weights - batch, 0))
    plan = planning.common(setup, topology) | {"programs": {"serve": row}}
    plan |= {"bytes": dataclasses.asdict(kept) | {"total": kept.total}}
    room = memory.usable(topology)
    plan |= {"hbm_bytes": topology.chip.hbm, "usable_bytes": room, "fits": kept.total <= room}
    plan["advice"] = [f"a topology of {2 * topology.chips} chips"]
    if "overflow" in row:
        return plan
    plan["assumptions"] += [("weights", "bfloat16"), roofline.latency_assumption(topology)]
    action = roofline.action(topology, row, read_bytes(program.arguments[0]))
    return plan | {"action": dataclasses.asdict(action)}


def serving_config(config: ml_collections.ConfigDict, chips: int) -> ml_collections.ConfigDict:
    """`config` with one observation at a time and every chip along `tensor`."""
    served = config.copy_and_resolve_references()
    served.batch_size, served.accumulate, served.sharding = 1, 1, "fsdp+tp"
    served.mesh.update({"data": 1, "fsdp": 1, "tensor": chips})
    return served


def read_bytes(weights: dict[str, Any]) -> int:
    """Bytes of weights that a chip reads for an action: the decoder's for every token.

    Tables count nothing: few of their rows are read.
    """
    layers = {path: x for path, x in weights.items() if not path.startswith(TABLES)}
    again = {path: x for path, x in layers.items() if path.startswith(DECODERS)}
    return memory.bytes_per_chip(layers) + (ACTION_SLOTS - 1) * memory.bytes_per_chip(again)


def serve_program(setup: Setup) -> Program:
    """An action for one observation, from weights as they are served."""
    decode = decode_program(setup)
    weights = {
        path: jax.ShapeDtypeStruct(x.shape, WEIGHTS, sharding=x.sharding)
        for path, x in setup.state.params.items()
    }
    return Program("serve", decode.function, (weights, *decode.arguments[1:]))
