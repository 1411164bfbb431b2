"""The accelerators that a plan can name, by their makers' public figures.

Units: bytes, bytes/s, FLOP/s, all of one chip (a GPU is a chip). Dense bfloat16 without sparsity.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math

from rt2.errors import UserError

GPUS_PER_HOST = 8
TYPICAL = 64  # chips of a slice
GIB = 2**30


class PlanError(UserError):
    """A topology that cannot be compiled for; the message carries the remedy."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator. `link` is one way: a torus link of a TPU, all of a GPU's NVLink.

    `network` is what a GPU reaches beyond its host. `efficiency` is the part of `flops` that large
    matrix products are assumed to reach; `pod` the sides of the largest torus of a TPU.
    """

    name: str
    platform: str
    hbm: int
    flops: float
    bandwidth: float
    link: float
    efficiency: float
    pod: tuple[int, ...] = ()
    network: float = 0.0
    source: str = ""

    @property
    def torus(self) -> int:
        """Dimensions of a TPU's network."""
        return len(self.pod)


TPU, GPU = "tpu", "cuda"
_CLOUD, _NVIDIA = "Google Cloud TPU system architecture", "NVIDIA data sheet, SXM, dense"
# The links are those of Austin et al. 2025, "How to Scale Your Model", chapter 2.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", TPU, 32 * GIB, 275e12, 1.23e12, 45e9, 0.8, pod=(16, 16, 16), source=_CLOUD),
        Chip("v5e", TPU, 16 * GIB, 197e12, 0.82e12, 45e9, 0.8, pod=(16, 16), source=_CLOUD),
        Chip("v5p", TPU, 95 * GIB, 459e12, 2.77e12, 90e9, 0.8, pod=(16, 20, 28), source=_CLOUD),
        Chip("v6e", TPU, 32 * GIB, 918e12, 1.64e12, 90e9, 0.8, pod=(16, 16), source=_CLOUD),
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

    Raises PlanError, with the nearest one that there is, for an unknown chip or a shape that it
    does not come in.
    """
    kind, _, sides = name.partition(":")
    if kind not in CHIPS:
        near = difflib.get_close_matches(kind.lower(), CHIPS, 1)
        hint = f". Did you mean {nearest(CHIPS[near[0]], sides)!r}?" if near else ""
        raise PlanError(f"--topology={name}: no chip {kind!r}; known: {', '.join(CHIPS)}{hint}")
    chip = CHIPS[kind]
    shape = _sides(sides)
    if problem := _problem(chip, shape):
        raise PlanError(f"--topology={name}: {problem}. The nearest is {nearest(chip, sides)}")
    return Topology(name, chip, shape)


def nearest(chip: Chip, sides: str) -> str:
    """The slice of `chip` whose number of chips is nearest to what "AxBxC" asks for.

    One of about `TYPICAL` chips where `sides` says nothing that can be read.
    """
    wanted = math.log(math.prod(_sides(sides)) or TYPICAL)
    shapes = _slices(chip)
    near = min(shapes, key=lambda shape: (abs(math.log(math.prod(shape)) - wanted), sum(shape)))
    return f"{chip.name}:{'x'.join(map(str, near))}"


def _sides(text: str) -> tuple[int, ...]:
    """The numbers of "AxBxC"; (0,) where it is no such text."""
    parts = text.split("x")
    readable = all(part.isascii() and part.isdigit() for part in parts)
    return tuple(map(int, parts)) if readable else (0,)


def _problem(chip: Chip, shape: tuple[int, ...]) -> str:
    """Why the chip does not come in `shape`; empty where it does."""
    if chip.platform == GPU:
        if len(shape) != 2 or not all(shape) or shape[1] > GPUS_PER_HOST:
            return f"expected hosts x GPUs of a host, at most {GPUS_PER_HOST}"
        return ""
    if len(shape) != chip.torus or not all(shape):
        return f"a {chip.name} slice has {chip.torus} sides"
    if any(side > most for side, most in zip(sorted(shape), chip.pod, strict=True)):
        return f"a {chip.name} pod is {'x'.join(map(str, chip.pod))}"
    if (shape[0] % 2 or shape[1] % 2) and shape != (1, 1):
        return "hosts of 2x2 chips do not fill its first two sides"
    return ""


def _slices(chip: Chip) -> list[tuple[int, ...]]:
    """Shapes that slices have, the sides in ascending order; GPUs by whole hosts."""
    if chip.platform == GPU:
        return [(hosts, GPUS_PER_HOST) for hosts in range(1, 1025)]
    if chip.torus == 2:
        return [(1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)]
    cubes = itertools.product(*(range(4, most + 1, 4) for most in chip.pod))
    ascending = [cube for cube in cubes if cube == tuple(sorted(cube))]
    return [(2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), *ascending]
