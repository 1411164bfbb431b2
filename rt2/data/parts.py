"""Parts: what some slots of an action, or of a proprioceptive state, are made of."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rt2.data import plain
from rt2.data.errors import DataError, nearest
from rt2.data.format.features import Leaf
from rt2.data.operations import EPISODIC, POINTWISE
from rt2.data.rlds import RldsSteps


@dataclasses.dataclass(frozen=True)
class Part:
    """Columns of one step feature and what is done to them, or constants.

    feature: a step feature; booleans count as 0 and 1, a matrix as its rows one after another.
    columns: (begin, end), the values to take; all of them where it is None.
    then: operations of `rt2.data.operations` in order, each a name or (name, numbers ...).
    constant: instead of a feature, the same values at every step.
    Raises DataError where a part is neither or names an unknown operation.
    """

    feature: str = ""
    columns: tuple[int, int] | None = None
    then: tuple[str | tuple[Any, ...], ...] = ()
    constant: tuple[float, ...] = ()

    def __post_init__(self):
        if bool(self.feature) == bool(self.constant):
            raise DataError(f"a part needs either a feature or a constant: {self}")
        if self.columns is not None and not 0 <= self.columns[0] < self.columns[1]:
            raise DataError(f"columns={self.columns} of {self.feature!r}: 0 <= begin < end")
        for name, *numbers in self.operations:
            known = POINTWISE | EPISODIC
            if name not in known:
                raise DataError(f"unknown operation {name!r}: {nearest(str(name), known)}")
            if len(numbers) != known[name][1]:
                raise DataError(f"{name} takes {known[name][1]} numbers, got {numbers}")

    @property
    def operations(self) -> tuple[tuple[Any, ...], ...]:
        """The operations as (name, numbers ...)."""
        return tuple((step,) if isinstance(step, str) else tuple(step) for step in self.then)

    @property
    def episodic(self) -> bool:
        """Whether a step's value depends on the other steps of its episode."""
        return any(name in EPISODIC for name, *_ in self.operations)

    def apply(self, values: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Floats [N, d'] of the feature's values [N, d] of whole episodes (see `operations`).

        float32 is computed in float32, as it was published: a threshold falls on the same side.
        Where the part is not `episodic`, `first` is not looked at.
        """
        values = values.reshape(len(values), -1)
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float64)
        if self.columns is not None:
            values = values[:, slice(*self.columns)]
        for name, *numbers in self.operations:
            if name in EPISODIC:
                values = EPISODIC[name][0](values, first, *numbers)
            else:
                values = POINTWISE[name][0](values, *numbers)
        return values


Parts = tuple[str | Part, ...]


def parse(value: Any) -> str | Part:
    """The part that a config's plain value describes: a feature's name, or fields of Part."""
    return value if isinstance(value, str) else plain.read(Part, value)


def parse_all(value: Any) -> Parts:
    """The parts of a plain value: one of them, or a sequence."""
    if isinstance(value, str | Part | Mapping):
        return (parse(value),)
    return tuple(parse(part) for part in value)


class PartColumns:
    """The values that parts make of the steps of a data set, computed when they are asked for.

    Nothing is kept: at any size of set only the memory-mapped columns of the index are behind it.
    `where` begins the error messages. Raises DataError where a part does not fit the features.
    """

    def __init__(self, steps: RldsSteps, parts: Sequence[str | Part], where: str):
        self._rlds, self._where = steps, where
        self.parts = tuple(p if isinstance(p, Part) else Part(p) for p in parts)
        self._leaves = [self._leaf(part) if part.feature else None for part in self.parts]
        self._widths = [self._width(i) for i in range(len(self.parts))]
        self.width = sum(self._widths)
        self.episodic = any(part.episodic for part in self.parts)

    def __str__(self) -> str:
        pairs = zip(self.parts, self._widths, strict=True)
        return ", ".join(f"{part.feature or part.constant!r}: {width}" for part, width in pairs)

    @property
    def features(self) -> list[tuple[Part, Leaf]]:
        """Every part with a feature, and its leaf."""
        pairs = zip(self.parts, self._leaves, strict=True)
        return [(part, leaf) for part, leaf in pairs if leaf is not None]

    def row(self, row: int) -> np.ndarray:
        """float32 [width] of step `row`."""
        if not self.episodic:
            return self.rows(row, row + 1, np.array([0, 1]))[0]
        split = self._rlds.split
        episode = int(split.column("step.episode")[row])
        begin, end = map(int, split.column("episode.first")[episode : episode + 2])
        return self.rows(begin, end, np.array([0, end - begin]))[row - begin]

    def rows(self, begin: int, end: int, first: np.ndarray) -> np.ndarray:
        """float32 [end - begin, width] of whole episodes, which begin at `begin + first`."""
        found = [self._values(i, begin, end, first) for i in range(len(self.parts))]
        return np.concatenate(found, axis=1).astype(np.float32)

    def _values(self, i: int, begin: int, end: int, first: np.ndarray) -> np.ndarray:
        part, leaf = self.parts[i], self._leaves[i]
        if leaf is None:
            return np.broadcast_to(np.array(part.constant), (end - begin, len(part.constant)))
        return part.apply(self.stored(leaf, begin, end), first)

    def stored(self, leaf: Leaf, begin: int, end: int) -> np.ndarray:
        """The values of a feature as they are stored, of the steps `begin` to `end`.

        One that is encoded or large lies in the shards and is read step by step; raises DataError
        where it is not finite.
        """
        if leaf.kind == "number":
            return self._rlds.split.column(f"{leaf.key}.value")[begin:end]
        values = np.stack([self._rlds.value(leaf.name, row) for row in range(begin, end)])
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            example = self._rlds.example_id(begin + int(np.flatnonzero(bad)[0]))
            raise DataError(
                f"{self._where}: {leaf.name}: NaN or infinite at {example}. Write the data set "
                "without the episode, or change the dataset spec."
            )
        return values

    def _leaf(self, part: Part) -> Leaf:
        leaf = self._rlds.leaf(part.feature)
        if leaf.kind not in ("number", "tensor"):
            raise DataError(
                f"{self._where}: {part.feature!r} of {self._rlds.index.directory} is a {leaf.kind} "
                f"({leaf.dtype}), expected numbers"
            )
        if part.columns is not None and part.columns[1] > leaf.size:
            raise DataError(
                f"{self._where}: columns={part.columns} of {part.feature!r}, which has {leaf.size}"
            )
        return leaf

    def _width(self, i: int) -> int:
        part, leaf = self.parts[i], self._leaves[i]
        if leaf is None:
            return len(part.constant)
        try:
            return part.apply(np.zeros((1, leaf.size)), np.array([0, 1])).shape[1]
        except DataError as error:
            raise DataError(f"{self._where}: {part.feature!r}: {error}") from None
