"""Checks that no trainable step of a robot data set rests on NaN or infinity."""

from collections.abc import Sequence

import numpy as np

from rt2.data.parts import Part, PartColumns
from rt2.data.rlds import RldsSteps
from rt2.data.selection import Block, Runs, blocks, episode_error


def check(steps: RldsSteps, runs: Runs, columns: Sequence[PartColumns]) -> None:
    """Raises DataError, naming the first such step, its episode and shard.

    Encoded and large features are checked when they are read (`PartColumns.stored`).
    """
    sources = [
        (column, part, leaf)
        for column in columns
        for part, leaf in column.features
        if leaf.kind == "number" and np.dtype(leaf.dtype).kind == "f"
    ]
    for block in blocks(steps):
        for column, part, leaf in sources:
            values = column.stored(leaf, block.begin, block.end)
            bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if bad.any():
                _refuse_used(steps, runs, part, bad, block)


def _refuse_used(steps: RldsSteps, runs: Runs, part: Part, bad: np.ndarray, block: Block) -> None:
    used = runs.mask(block.begin, block.end)
    if part.episodic:  # a step may rest on any step of its episode
        episodes = np.repeat(np.arange(len(block.first) - 1), np.diff(block.first))
        used = np.isin(episodes, episodes[used])
    found = np.flatnonzero(bad & used)
    if len(found):
        episode, step = steps.position(block.begin + int(found[0]))
        reason = f"{part.feature}: NaN or infinite at step {step}"
        raise episode_error(steps, episode, reason)
