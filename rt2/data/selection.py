"""Which episodes and steps of a robot data set are trained on."""

import dataclasses
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rt2.data.dataset_spec import DatasetSpec, Keep
from rt2.data.errors import DataError, nearest
from rt2.data.instructions import Instructions
from rt2.data.parts import PartColumns
from rt2.data.rlds import RldsSteps

BLOCK = 1 << 20  # steps that are looked at together


class Block(NamedTuple):
    """Whole episodes: the steps `begin` to `end`; they begin at `begin + first` [E + 1]."""

    begin: int
    end: int
    first: np.ndarray


def blocks(steps: RldsSteps) -> Iterator[Block]:
    """The episodes of a split in blocks of about BLOCK steps."""
    first = steps.split.column("episode.first")
    cuts = np.searchsorted(first, np.arange(0, steps.split.steps, BLOCK), side="right") - 1
    cuts = np.unique(np.append(cuts, steps.split.episodes))
    for begin, end in zip(cuts[:-1], cuts[1:], strict=True):
        local = np.asarray(first[begin : end + 1])
        if local[-1] > local[0]:
            yield Block(int(local[0]), int(local[-1]), local - local[0])


@dataclasses.dataclass(frozen=True)
class Runs:
    """Chosen steps as runs of neighbours in one episode: `start` to `stop`, int64 [K].

    It takes as much memory as there are runs, however long they are.
    """

    start: np.ndarray
    stop: np.ndarray
    last: np.ndarray  # bool [K]: no later run lies in the episode

    def __post_init__(self):
        object.__setattr__(self, "ends", np.cumsum(self.stop - self.start))

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, i: int) -> tuple[int, bool]:
        """The i-th chosen step, and whether it is the last one of its episode."""
        if not 0 <= i < len(self):
            raise IndexError(f"step {i} of {len(self)}")
        run = int(self.ends.searchsorted(i, side="right"))
        row = int(self.stop[run] - (self.ends[run] - i))
        return row, bool(self.last[run]) and row == self.stop[run] - 1

    @property
    def episodes(self) -> int:
        """How many episodes have a chosen step."""
        return int(self.last.sum())

    def mask(self, begin: int, end: int) -> np.ndarray:
        """Which of the steps `begin` to `end`, whole episodes, are chosen, bool."""
        runs = slice(*np.searchsorted(self.start, [begin, end]))
        change = np.zeros(end - begin + 1, np.int8)
        change[self.start[runs] - begin] += 1
        change[self.stop[runs] - begin] -= 1
        return np.cumsum(change[:-1], dtype=np.int8).astype(bool)


def choose(
    steps: RldsSteps,
    spec: DatasetSpec,
    part: slice,
    instructions: Instructions,
    actions: PartColumns,
) -> tuple[Runs, dict[str, int]]:
    """The steps to train on, and how many steps were left out, by reason.

    Only the episodes in `part` count. Raises DataError where an episode has no step left, or no
    instruction although the spec wants one.
    """
    first = steps.split.column("episode.first")
    lengths = np.diff(first)
    chosen = np.zeros(steps.split.episodes, bool)
    chosen[part] = True
    dropped: dict[str, int] = {}
    for condition in spec.keep_episodes:
        met = _meets(steps, condition)
        dropped[f"episode without {condition}"] = int(lengths[chosen & ~met].sum())
        chosen &= met
    keep, ends = _without_ends(steps, spec, chosen)
    left = np.zeros(len(lengths), np.int64)
    left[lengths > 0] = np.add.reduceat(keep, first[:-1][lengths > 0], dtype=np.int64)
    gone = chosen & (left == 0)
    if gone.any() and spec.short_episode == "refuse":
        raise episode_error(steps, int(np.flatnonzero(gone)[0]), "no step is left to train on")
    if spec.short_episode == "drop":
        dropped["episode too short"] = int(lengths[gone].sum())
        keep, ends = _without_ends(steps, spec, chosen & ~gone)
    dropped |= ends
    if spec.empty_instruction != "keep":
        _drop_without_instruction(steps, spec, instructions, keep, dropped)
    if spec.drop_idle is not None:
        dropped["idle step"] = _drop_idle(steps, spec, actions, keep)
    return _runs(keep, first), dropped


def episode_error(steps: RldsSteps, episode: int, reason: str) -> DataError:
    """An error that names shard and record of an episode, and the remedy."""
    split = steps.split
    shard = steps.files.path(int(split.column("episode.shard")[episode]))
    record = int(split.column("episode.record")[episode])
    return DataError(
        f"{shard}: record {record} (episode {episode} of {split.split}): {reason}. Write the "
        "data set without the episode, or change the dataset spec."
    )


def _meets(steps: RldsSteps, condition: Keep) -> np.ndarray:
    """Which episodes meet a condition, bool [episodes]."""
    split = steps.split
    leaves = {leaf.name: leaf for leaf in steps.index.features.at("episode")}
    if condition.feature not in leaves:
        raise DataError(
            f"{steps.index.directory}: no episode feature {condition.feature!r}: "
            f"{nearest(condition.feature, leaves)}"
        )
    leaf = leaves[condition.feature]
    wanted = "text" if condition.matches is not None else "number"
    if leaf.kind != wanted or leaf.shape:
        raise DataError(
            f"episode filter {condition}: {leaf.name!r} of {steps.index.directory} is a "
            f"{leaf.kind} of shape {leaf.shape}, expected one {wanted}"
        )
    if wanted == "number":
        return np.asarray(split.column(f"{leaf.key}.value") == condition.equals)
    numbers, episodes = np.unique(split.column(f"{leaf.key}.id"), return_inverse=True)
    pattern = re.compile(condition.matches)
    met = [pattern.search(split.strings[int(number)]) is not None for number in numbers]
    return np.array(met, bool)[episodes]


def _without_ends(
    steps: RldsSteps, spec: DatasetSpec, chosen: np.ndarray
) -> tuple[np.ndarray, dict[str, int]]:
    """The steps of the chosen episodes that drop_first and drop_last leave, bool, and the rest."""
    first = steps.split.column("episode.first")
    filled = np.diff(first) > 0
    keep, dropped = np.repeat(chosen, np.diff(first)), {}
    if spec.drop_first:
        dropped["first step"] = _drop(keep, first[:-1][filled])
    if spec.drop_last == "always":
        dropped["last step"] = _drop(keep, first[1:][filled] - 1)
    elif spec.drop_last == "flagged":
        flags = steps.split.column(f"{steps.leaf('is_last').key}.value")
        dropped["last step"] = _drop(keep, np.flatnonzero(flags))
    return keep, dropped


def _drop_without_instruction(
    steps: RldsSteps, spec: DatasetSpec, instructions: Instructions, keep: np.ndarray, dropped: dict
) -> None:
    count = 0
    for begin, end, _ in blocks(steps):
        empty = np.flatnonzero(instructions.empty(begin, end) & keep[begin:end]) + begin
        if len(empty) and spec.empty_instruction == "refuse":
            episode, _ = steps.position(int(empty[0]))
            reason = f"{spec.instruction}: the instruction is empty"
            raise episode_error(steps, episode, reason)
        count += _drop(keep, empty)
    if spec.empty_instruction == "drop":
        dropped["empty instruction"] = count


def _drop_idle(steps: RldsSteps, spec: DatasetSpec, actions: PartColumns, keep: np.ndarray) -> int:
    """Clears `keep` where the robot rests; NaN is no rest, and is refused by `rt2.data.finite`."""
    moving = [slot.name != "gripper" for slot in spec.action_spec.continuous]
    count = 0
    for begin, end, first in blocks(steps):
        motion = actions.rows(begin, end, first)[:, moving]
        count += _drop(keep, begin + np.flatnonzero((np.abs(motion) <= spec.drop_idle).all(axis=1)))
    return count


def _drop(keep: np.ndarray, rows: np.ndarray) -> int:
    """Clears `keep` at the rows, and says how many were set."""
    count = int(keep[rows].sum())
    keep[rows] = False
    return count


def _runs(keep: np.ndarray, first: np.ndarray) -> Runs:
    edges = np.asarray(first[:-1][np.diff(first) > 0])
    begins, ends = keep.copy(), keep.copy()
    begins[1:] &= ~keep[:-1]
    begins[edges] = keep[edges]
    ends[:-1] &= ~keep[1:]
    ends[edges[1:] - 1] = keep[edges[1:] - 1]
    start, stop = np.flatnonzero(begins), np.flatnonzero(ends) + 1
    episode = np.searchsorted(first, start, side="right")
    return Runs(start, stop, np.append(episode[1:] != episode[:-1], True)[: len(start)])
