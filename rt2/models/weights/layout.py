"""A checkpoint layout as a table: which of their tensors, with which axes, is which of ours.

A row `Row("text/encoder/attention/query/kernel", "encoder.block.{}.q.weight", "(h k) d -> d h k")`
reads: the tensor of each layer, whose first axis holds heads and head dim, becomes one slice of our
stack. Left of the arrow stand the axes of their tensor, right those of ours; brackets join axes,
and a number takes that one index of an axis. Where their tensor is itself a stack, its name has no
`{}` and the layers are an axis: "l d f -> l d f".
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

Reshape = Callable[..., np.ndarray]
"""(shape of ours, *their tensors) -> the same as ours."""


class ShapeError(ValueError):
    """A tensor that a pattern does not fit."""


@dataclasses.dataclass(frozen=True)
class Row:
    """`ours` is made of the tensor(s) `theirs`; `how` is a pattern or a function of them."""

    ours: str
    theirs: str | tuple[str, ...]
    how: str | Reshape

    def names(self, layer: int | str = 0) -> tuple[str, ...]:
        """Their names for one layer of a stack."""
        names = (self.theirs,) if isinstance(self.theirs, str) else self.theirs
        return tuple(name.replace("{}", str(layer)) for name in names)

    @property
    def stacked(self) -> bool:
        """Whether every layer is a tensor of its own."""
        return "{}" in self.names("{}")[0]

    def view(self, shape: tuple[int, ...], *tensors: np.ndarray) -> np.ndarray:
        """Their tensors in our axes, as a view where that is possible; `shape` is ours."""
        if callable(self.how):
            return self.how(shape, *tensors)
        return rearrange(self.how, shape, *tensors)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The rows of one kind of file, and what else may stand in it.

    `renames` are beginnings of names that other writers of the same layout use, replaced in this
    order. `same` are tensors that must equal another one. `dropped` are patterns of names that no
    part of ours reads, with the reason.
    """

    name: str
    rows: tuple[Row, ...]
    renames: tuple[tuple[str, str], ...] = ()
    same: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dropped: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def renamed(self, name: str) -> str:
        """`name` as the rows write it."""
        for old, new in self.renames:
            if name.startswith(old):
                name = new + name[len(old) :]
        return name

    def drops(self, name: str) -> str | None:
        """Why `name` is left out, None where it must be used."""
        reasons = (why for pattern, why in self.dropped.items() if re.fullmatch(pattern, name))
        return next(reasons, None)

    def likeness(self, names: Iterable[str]) -> float:
        """Names, layers apart, that the layout and a file share, of those that either has."""
        renamed = (self.renamed(name) for name in names)
        there = {_kind(name) for name in renamed if not self.drops(name) and name not in self.same}
        wanted = {_kind(name) for row in self.rows for name in row.names()}
        return len(wanted & there) / len(wanted | there)


def rearrange(pattern: str, shape: tuple[int, ...], tensor: np.ndarray) -> np.ndarray:
    """`tensor` in the axes that `pattern` gives it, as a view where possible.

    Sizes come from the tensor, those of joined axes from `shape`, the sizes of the result.
    """
    left, right = (_axes(side) for side in pattern.split("->"))
    if len(left) != tensor.ndim:
        raise ShapeError(f"{len(left)} axes expected ({pattern})")
    fixed = tuple(int(g[0]) if g[0].isdigit() else slice(None) for g in left)
    for group, size in zip(left, tensor.shape, strict=True):
        if group[0].isdigit() and int(group[0]) >= size:
            raise ShapeError(f"no index {group[0]} ({pattern})")
    left = [group for group in left if not group[0].isdigit()]
    tensor = tensor[fixed]
    sizes = {g[0]: n for g, n in zip(right, shape, strict=True) if len(g) == 1}
    sizes |= {g[0]: n for g, n in zip(left, tensor.shape, strict=True) if len(g) == 1}
    for group, size in zip(left, tensor.shape, strict=True):
        if math.prod(sizes[axis] for axis in group) != size:
            joined = " x ".join(f"{axis} = {sizes[axis]}" for axis in group)
            raise ShapeError(f"an axis of {size} is not {joined} ({pattern})")
    flat = [axis for group in left for axis in group]
    order = [flat.index(axis) for group in right for axis in group]
    split = tensor.reshape([sizes[axis] for axis in flat]).transpose(order)
    return split.reshape([math.prod(sizes[axis] for axis in group) for group in right])


def _kind(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _axes(side: str) -> list[list[str]]:
    return [group.strip("()").split() for group in re.findall(r"\([^)]*\)|\S+", side)]
