"""The instruction of every step of a robot data set, wherever the set keeps it."""

import numpy as np

from rt2.data.dataset_spec import FixedText
from rt2.data.errors import DataError
from rt2.data.format.features import Leaf
from rt2.data.rlds import RldsSteps


class Instructions:
    """The instructions of a split.

    `source` is a text feature of the steps or of the episodes; a step feature of integers [n] that
    holds Unicode code points, padded with zeros (Language-Table); or a FixedText. Raises DataError,
    beginning with `where`, for another feature.
    """

    def __init__(self, steps: RldsSteps, source: str | FixedText, where: str):
        self._steps, self._source = steps, source
        self._leaf = None if isinstance(source, FixedText) else _leaf(steps, source)
        if self._leaf is None or self._leaf.kind == "text" or _holds_codes(self._leaf):
            return
        raise DataError(
            f"{where}: {source!r} of {steps.index.directory} is a {self._leaf.kind} "
            f"({self._leaf.dtype}), expected a text"
        )

    def __getitem__(self, row: int) -> str:
        """The instruction of step `row`."""
        if self._leaf is None:
            return self._source.text
        if self._leaf.kind == "text":
            return self._steps.split.strings[self._ids(row, row + 1)[0]]
        return _decoded(self._steps.value(self._leaf.name, row))

    def empty(self, begin: int, end: int) -> np.ndarray:
        """Whether the instruction is blank, bool [end - begin], of the steps `begin` to `end`."""
        if self._leaf is None:
            return np.full(end - begin, not self._source.text.strip())
        first, numbers = self._numbered(begin, end)
        blank = np.zeros(len(first), bool)
        for number in np.flatnonzero(first >= 0):
            blank[number] = not self[begin + int(first[number])].strip()
        return blank[numbers]

    def distinct(self, begin: int, end: int, keep: np.ndarray) -> set[str]:
        """The instructions of those of the steps `begin` to `end` that `keep` bool holds."""
        if self._leaf is None:
            return {self._source.text} if keep.any() else set()
        first, numbers = self._numbered(begin, end)
        present = np.unique(numbers[keep])
        return {self[begin + int(first[number])] for number in present}

    def _numbered(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """The first step of every number (-1: none), and a number for every step.

        Steps with the same number have the same text.
        """
        key, split = self._leaf.key, self._steps.split
        if f"{key}.id" not in split:
            codes = split.column(f"{key}.value")[begin:end]
            _, first, numbers = np.unique(codes, axis=0, return_index=True, return_inverse=True)
            return first, numbers.reshape(-1)
        numbers = self._ids(begin, end)
        first = np.full(int(numbers.max(initial=0)) + 1, -1, np.int64)
        first[numbers[::-1]] = np.arange(end - begin)[::-1]
        return first, numbers

    def _ids(self, begin: int, end: int) -> np.ndarray:
        """Which texts of the index the steps `begin` to `end` have."""
        split = self._steps.split
        ids = split.column(f"{self._leaf.key}.id")
        rows = slice(begin, end)
        if self._leaf.level == "episode":
            rows = split.column("step.episode")[begin:end]
        return np.asarray(ids[rows])


def _leaf(steps: RldsSteps, source: str) -> Leaf:
    """The step feature of that name, or else the text of that name among the episodes'."""
    leaves = steps.index.features
    texts = [leaf for leaf in leaves.at("episode") if leaf.kind == "text" and leaf.name == source]
    if texts and not any(leaf.name == source for leaf in leaves.at("step")):
        return texts[0]
    return steps.leaf(source)


def _holds_codes(leaf: Leaf) -> bool:
    if leaf.kind not in ("number", "codes") or len(leaf.shape) != 1:
        return False
    return np.dtype(leaf.dtype).kind in "iu"


def _decoded(codes: np.ndarray) -> str:
    ends = np.flatnonzero(codes == 0)
    return "".join(map(chr, codes[: ends[0]] if len(ends) else codes))
