"""Puts a plan together: compiles a config's programs and gathers what they need."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import time
from typing import Any

import jax
import ml_collections
from jax.sharding import AbstractMesh

from rt2.models import flops as formulas
from rt2.plan import collectives, compiler, flops, hlo, memory, roofline, traffic
from rt2.plan.chips import PlanError, Topology
from rt2.plan.programs import PROGRAMS, Program, Setup, make_setup
from rt2.preprocess import image_count
from rt2.train import sharding

GATHERED_SHARE = 0.5  # of the parameters' bytes that collectives outside loops may move at most

log = logging.getLogger(__name__)


def quick_plan(config: ml_collections.ConfigDict, topology: Topology) -> dict[str, Any]:
    """What abstract shapes alone tell: no compiler, no activations."""
    sizes = sharding.mesh_sizes(config.mesh.to_dict(), topology.chips)
    setup = make_setup(config, AbstractMesh(tuple(sizes.values()), tuple(sizes)))
    return common(setup, topology) | _fit(setup, topology, memory.held(setup))


def full_plan(
    config: ml_collections.ConfigDict, topology: Topology, programs: tuple[str, ...]
) -> dict[str, Any]:
    """The plan with every named program compiled; raises UserError where config and slice clash."""
    for name in programs:
        if name not in PROGRAMS:
            near = difflib.get_close_matches(name, PROGRAMS, 1)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise PlanError(f"--programs={name}: known: {', '.join(PROGRAMS)}{hint}")
    mesh = compiler.make_mesh(topology, config.mesh.to_dict())
    setup = make_setup(config, mesh)
    plan = common(setup, topology)
    for name in programs:
        log.info("compiling %s for %s", name, topology.name)
        plan["programs"][name] = compile_row(PROGRAMS[name](setup), setup, topology)
    peak = None
    if "train" in programs:
        plan |= _step(setup, topology, plan["programs"]["train"])
        peak = plan["programs"]["train"]["needed_bytes"]
    return plan | _fit(setup, topology, memory.held(setup, peak))


def compile_row(program: Program, setup: Setup, topology: Topology) -> dict[str, Any]:
    """Figures of one compiled program; one that overflows a TPU's memory has `overflow` alone."""
    began = time.perf_counter()
    try:
        compiled = compiler.compile_program(program, setup.mesh)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = max(compiler.overflow_bytes(str(error)), memory.usable(topology) + 1)
        seconds = time.perf_counter() - began
        return {"overflow": str(error)[:400], "needed_bytes": needed, "seconds": seconds}
    if compiled.rematerialized:
        raise PlanError(
            f"{program.name} on {topology.name}: the partitioner copies an array whole to every "
            f"device to lay it out anew: {compiled.rematerialized[0][:300]}"
        )
    text = hlo.parse(compiled.text)
    found = collectives.find(text, setup.mesh.shape)
    with jax.set_mesh(setup.mesh):
        counted = flops.counted(program.function, *program.arguments)
    row = {k: v for k, v in dataclasses.asdict(compiled).items() if k not in _TEXTS}
    return row | {
        "needed_bytes": compiled.needed_bytes,
        "flops": counted,
        "memory_traffic_bytes": traffic.memory_bytes(text),
        "collectives": collectives.summary(found),
        "received_bytes": int(sum(one.times * one.received for one in found)),
        "received_outside_loops": int(sum(one.received for one in found if one.times == 1)),
        "communication_seconds": roofline.communication_seconds(found, topology, setup.mesh),
        "latency_seconds": roofline.latency_seconds(found, topology, setup.mesh),
    }


_TEXTS = ("text", "rematerialized")


def common(setup: Setup, topology: Topology) -> dict[str, Any]:
    """What every plan tells of its config and slice."""
    config, model = setup.config, setup.model
    return {
        "topology": topology.name,
        "chips": topology.chips,
        "mesh": dict(setup.mesh.shape),
        "variant": config.model.variant,
        "remat": config.model.remat,
        "sharding": config.sharding,
        "batch_size": config.batch_size,
        "parameters": model.size,
        "model_flops": model_flops(setup),
        "assumptions": roofline.assumptions(topology),
        "programs": {},
    }


def _step(setup: Setup, topology: Topology, train: dict[str, Any]) -> dict[str, Any]:
    if "overflow" in train:
        return {}
    line = roofline.roofline(
        topology,
        model_flops=model_flops(setup),
        flops=train["flops"],
        moved=train["memory_traffic_bytes"],
        communication=sum(train["communication_seconds"].values()),
    )
    whole = 4 * setup.model.size
    share = train["received_outside_loops"] / whole
    return {
        "roofline": dataclasses.asdict(line) | {"bound": line.bound, "seconds": line.seconds},
        "regathered_share": share,
        "regathers_the_model": share > GATHERED_SHARE,
    }


def model_flops(setup: Setup) -> int:
    """What a step's batch needs: three times the forward pass, none for recomputation."""
    config = setup.config
    images = image_count(config.history, config.cameras)
    lengths = images, config.prefix_length, config.target_length
    return 3 * config.batch_size * formulas.forward(setup.model, *lengths)


def _fit(setup: Setup, topology: Topology, kept: memory.Held) -> dict[str, Any]:
    room = memory.usable(topology)
    state = kept.total - (kept.temporaries or 0)
    return {
        "bytes": dataclasses.asdict(kept) | {"total": kept.total},
        "hbm_bytes": topology.chip.hbm,
        "usable_bytes": room,
        "fits": kept.total <= room,
        "advice": memory.advice(setup, topology, kept.total, state),
    }
