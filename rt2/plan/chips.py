"""The accelerators that a plan can name, by their makers' public figures.

Units: bytes, bytes/s, FLOP/s, all of one chip (a GPU is a chip). Dense bfloat16 without sparsity.
"""

from __future__ import annotations

import dataclasses
import difflib
import math

from rt2.errors import ConfigError

GPUS_PER_HOST = 8
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator. `link` is one way: a torus link of a TPU, all of a GPU's NVLink.

    `network` is what a GPU reaches beyond its host. `efficiency` is the part of `flops` that large
    matrix products are assumed to reach; `torus` the dimensions of a TPU's network.
    """

    name: str
    platform: str
    hbm: int
    flops: float
    bandwidth: float
    link: float
    efficiency: float
    torus: int = 0
    network: float = 0.0
    source: str = ""


TPU, GPU = "tpu", "cuda"
_CLOUD, _NVIDIA = "Google Cloud TPU system architecture", "NVIDIA data sheet, SXM, dense"
# The links are those of Austin et al. 2025, "How to Scale Your Model", chapter 2.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", TPU, 32 * GIB, 275e12, 1.23e12, 45e9, 0.8, torus=3, source=_CLOUD),
        Chip("v5e", TPU, 16 * GIB, 197e12, 0.82e12, 45e9, 0.8, torus=2, source=_CLOUD),
        Chip("v5p", TPU, 95 * GIB, 459e12, 2.77e12, 90e9, 0.8, torus=3, source=_CLOUD),
        Chip("v6e", TPU, 32 * GIB, 918e12, 1.64e12, 90e9, 0.8, torus=2, source=_CLOUD),
        Chip("h100", GPU, 80 * 10**9, 989e12, 3.35e12, 450e9, 0.7, network=50e9, source=_NVIDIA),
        Chip("h200", GPU, 141 * 10**9, 989e12, 4.8e12, 450e9, 0.7, network=50e9, source=_NVIDIA),
        Chip("b200", GPU, 180 * 10**9, 2250e12, 7.7e12, 900e9, 0.7, network=50e9, source=_NVIDIA),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of one chip: `shape` is a torus of TPUs, or (hosts, GPUs of a host)."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """How many."""
        return math.prod(self.shape)

    @property
    def wraps(self) -> tuple[bool, ...]:
        """Which dimensions of a TPU's torus close to a ring.

        A slice of a 3-D torus closes where the side is a multiple of 4, one of a 2-D torus (v5e,
        v6e) only at the full side of 16.
        """
        if self.chip.torus == 2:
            return tuple(side == 16 for side in self.shape)
        return tuple(side % 4 == 0 for side in self.shape)


def parse_topology(name: str) -> Topology:
    """The topology of "v4:4x4x4", "v5e:16x16" or "h100:32x8" (hosts x GPUs of a host).

    Raises ConfigError for an unknown chip or a shape that it does not come in.
    """
    kind, _, sides = name.partition(":")
    if kind not in CHIPS:
        near = difflib.get_close_matches(kind, CHIPS, 1)
        hint = f". Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"--topology={name}: no chip {kind!r}; known: {', '.join(CHIPS)}{hint}")
    chip = CHIPS[kind]
    example = "32x8" if chip.platform == GPU else "x".join("4" * chip.torus)
    parts = sides.split("x")
    if not all(part.isdigit() and int(part) for part in parts):
        raise ConfigError(f"--topology={name}: expected a shape such as {kind}:{example}")
    shape = tuple(map(int, parts))
    if chip.platform == GPU and (len(shape) != 2 or shape[1] > GPUS_PER_HOST):
        raise ConfigError(
            f"--topology={name}: expected hosts x GPUs of a host, at most {GPUS_PER_HOST}: "
            f"{kind}:{example}"
        )
    if chip.platform == TPU and len(shape) != chip.torus:
        raise ConfigError(f"--topology={name}: a {kind} slice has {chip.torus} sides: {example}")
    return Topology(name, chip, shape)
