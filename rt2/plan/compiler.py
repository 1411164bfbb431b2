"""Ahead-of-time compilation for a topology that is not there, on a CPU alone."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib import util
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from rt2.plan.chips import GPU, PlanError, Topology, nearest
from rt2.plan.programs import Program
from rt2.train import sharding

PLUGINS = {"tpu": "libtpu", "cuda": "jax_plugins.xla_cuda13"}
# Without a GPU nothing can be timed, so that no kernel is tuned.
# without a GPU nothing can be tried out, and Triton's matrix products need to be
GPU_OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program's compiled text and what its compilation took."""

    text: str
    argument_bytes: int
    output_bytes: int
    alias_bytes: int
    temporary_bytes: int
    peak_bytes: int
    seconds: float
    cpu_seconds: float
    rss_bytes: int
    rematerialized: tuple[str, ...]

    @property
    def needed_bytes(self) -> int:
        """What a chip must have: the peak that XLA states, or what it allocates if that is more.

        For TPUs the stated peak leaves out what lies unused between the allocated temporaries.
        """
        kept = self.argument_bytes + self.output_bytes - self.alias_bytes
        return max(self.peak_bytes, kept + self.temporary_bytes)


def has_compiler(topology: Topology) -> bool:
    """Whether the plugin that compiles for the chip is installed."""
    try:
        return util.find_spec(PLUGINS[topology.chip.platform]) is not None
    except ModuleNotFoundError:
        return False


def prepare_environment() -> None:
    """What the plugins read from the environment; call it before jax makes a backend."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    jax.config.update("jax_platforms", "cpu")


def make_mesh(topology: Topology, sizes: Mapping[str, int]) -> Mesh:
    """The trainer's mesh over the described devices; PlanError where no compiler is installed."""
    if not has_compiler(topology):
        raise PlanError(
            f"--topology={topology.name}: no compiler for {topology.chip.name} is installed: "
            'pip install -e ".[plan]"'
        )
    try:
        described = topologies.get_topology_desc(**_description(topology))
    except (RuntimeError, NotImplementedError, ValueError) as error:
        sides = "x".join(map(str, topology.shape))
        raise PlanError(
            f"--topology={topology.name}: the compiler for {topology.chip.name} refuses it: "
            f"{str(error)[:200]}. The nearest usual slice is "
            f"{nearest(topology.chip, sides)}; --quick counts without a compiler"
        ) from None
    return sharding.make_mesh(sizes, described.devices)


def _description(topology: Topology) -> dict[str, Any]:
    """What names the topology to its compiler."""
    chip = topology.chip
    if chip.platform == GPU:
        hosts, gpus = topology.shape
        named = {"platform": GPU, "topology_name": chip.name, "topology": f"1x{hosts}x{gpus}"}
        return named | {"target_config": TARGETS[chip.name]}
    named = {"platform": "tpu", "topology_name": topology.name}
    if topology.chips == 1:
        return named | {"chips_per_host_bounds": (1, 1, 1)}
    return named | ({"chip_config_name": "megacore"} if chip.name in ("v4", "v5p") else {})


def compile_program(program: Program, mesh: Mesh) -> Compiled:
    """Compiles `program` for the devices of `mesh`; PlanError where it cannot fit."""
    began, cpu = time.perf_counter(), time.process_time()
    with jax.set_mesh(mesh), _stderr() as said:
        options = GPU_OPTIONS if mesh.devices.flat[0].platform in ("gpu", GPU) else None
        compiled = program.function.lower(*program.arguments).compile(compiler_options=options)
    memory = compiled.memory_analysis()
    return Compiled(
        text=compiled.as_text(),
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        alias_bytes=memory.alias_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        peak_bytes=memory.peak_memory_in_bytes,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu,
        rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        rematerialized=tuple(line for line in said if "Involuntary full rematerialization" in line),
    )


def overflow_bytes(message: str) -> int:
    """What a program would need, of the TPU compiler's refusal.

    "Used 33.5G of 30.7G hbm", or "required for HLO temporaries (31.3G) exceeds available HBM".
    """
    found = re.search(r"(?:Used |temporaries \()([\d.]+)([KMG])(?: of|\) exceeds)", message)
    return int(float(found[1]) * 2 ** {"K": 10, "M": 20, "G": 30}[found[2]]) if found else 0


@contextlib.contextmanager
def _stderr() -> Iterator[list[str]]:
    """Lines that the compiler writes to standard error; they still get there, afterwards."""
    lines: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            text = file.read()
            lines += text.decode("utf-8", "replace").splitlines()
            os.write(2, text)


def _target(description: str, cores: int, memory: int, bandwidth: float, major: int):
    """A GPU as XLA's compiler describes it, in its text format."""
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {int(bandwidth)}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: {major} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
runtime_version {{ major: 13 minor: 0 }}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{description}"
"""


TARGETS = {
    "h100": _target("NVIDIA H100 80GB HBM3", 132, 84_929_347_584, 3.352e12, 9),
    "h200": _target("NVIDIA H200", 132, 150_000_000_000, 4.8e12, 9),
    "b200": _target("NVIDIA B200", 148, 190_000_000_000, 7.7e12, 10),
}
