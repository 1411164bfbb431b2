"""Trainable steps of a robot data set, as a dataset spec describes it."""

import re
from functools import cached_property
from pathlib import Path

import numpy as np

from rt2.data import image, statistics
from rt2.data.errors import DataError
from rt2.data.records import RobotExample
from rt2.data.rlds import RldsSteps
from rt2.data.specs import DatasetSpec


class RobotExamples:
    """`examples[i]` is the i-th trainable step of a split, a RobotExample. Immutable, picklable.

    `split` may name a part of its episodes, "train[:20]" or "train[90%:]".
    `history` images end with the step's own; before the first step the first image stands again.
    `dropped` counts the steps that the spec leaves out, by reason. Raises DataError where the spec
    does not fit the features, an action is not finite or an episode has no step left.
    """

    def __init__(self, directory: Path | str, split: str, spec: DatasetSpec, history: int = 1):
        if history < 1:
            raise DataError(f"history={history}: the number of images must be at least 1")
        name, part = parse_split(split)
        self.steps = RldsSteps(directory, name)
        self.spec, self.history = spec, history
        self._part = part
        self.dropped: dict[str, int] = {}
        if not self.steps.index.features.episodic:
            raise DataError(f"{directory}: has no RLDS steps; read it with rt2.data.vqa")
        self._check_features()
        self._rows = self._trainable()
        self._last = self._last_of_episode()
        self._check_finite()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> RobotExample:
        row = self.row(i)
        episode, step = self.steps.position(row)
        frames = [row - min(back, step) for back in reversed(range(self.history))]
        return RobotExample(
            images=tuple(self.image(frame) for frame in frames),
            instruction=self.instruction(i),
            action=self._action(row),
            terminate=self.spec.terminate == "last_trainable" and bool(self._last[i]),
            state=self.state(i),
            episode=episode,
            step=step,
            example_id=self.steps.example_id(row),
        )

    def row(self, i: int) -> int:
        """Which step of `steps` example `i` is."""
        return int(self._rows[i])

    def instruction(self, i: int) -> str:
        """The instruction of example `i`."""
        return self.steps.value(self.spec.instruction, self.row(i)).decode()

    def state(self, i: int) -> np.ndarray | None:
        """The proprioceptive state of example `i`, float32 [S]; None where the spec has none."""
        if self.spec.state is None:
            return None
        return np.asarray(self.steps.value(self.spec.state, self.row(i)), np.float32).reshape(-1)

    def image(self, row: int) -> np.ndarray:
        """What the spec's camera saw at step `row` of `steps`, uint8 [H, W, 3]."""
        data = self.steps.encoded(self.spec.camera, row)
        return image.decode(data, f"{self.steps.example_id(row)}: {self.spec.camera}")

    @property
    def content_hash(self) -> str:
        """The hash of the index that the examples are read through, and the part of the split."""
        index = self.steps.index.content_hash
        return index if self._part == ("", "") else f"{index}[{':'.join(self._part)}]"

    @property
    def episodes(self) -> int:
        """How many episodes have a trainable step."""
        return int(self._last.sum())

    @cached_property
    def episode_starts(self) -> np.ndarray:
        """The first example of every episode that has one, and the end: int64 [`episodes` + 1]."""
        return np.concatenate([[0], np.flatnonzero(self._last) + 1])

    @cached_property
    def actions(self) -> np.ndarray:
        """The actions of all trainable steps, float32 [N, D], in order."""
        return np.concatenate([column[self._rows] for column in self._columns()], axis=1)

    @cached_property
    def states(self) -> np.ndarray:
        """The states of all trainable steps, float32 [N, S]. The spec must have one."""
        column = self.steps.split.column(f"{self.steps.leaf(self.spec.state).key}.value")
        return np.asarray(column[self._rows], np.float32).reshape(len(self), -1)

    @cached_property
    def statistics(self) -> statistics.Statistics:
        """Exact statistics of `actions`."""
        return statistics.describe(self.actions)

    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(low, high) of the action bins by the spec's rule."""
        return statistics.bounds(self.statistics, self.spec.bounds)

    def warnings(self) -> list[tuple[str, str]]:
        """(slot, what is odd) for every action dimension that would train badly."""
        names = [slot.name for slot in self.spec.action_spec.continuous]
        return statistics.warnings(self.statistics, names)

    @cached_property
    def instructions(self) -> tuple[str, ...]:
        """The distinct instructions of the trainable steps, sorted."""
        ids = np.unique(self._instruction_ids()[self._rows])
        return tuple(sorted(self.steps.split.strings[i] for i in ids))

    def _check_features(self) -> None:
        spec, steps = self.spec, self.steps
        wanted = [(spec.camera, "image"), (spec.instruction, "text")]
        wanted += [(key, "number") for key in spec.action]
        wanted += [(spec.state, "number")] if spec.state is not None else []
        for name, kind in wanted:
            leaf = steps.leaf(name)
            if leaf.kind != kind:
                raise DataError(
                    f"dataset spec {spec.name!r}: {name!r} of {steps.index.directory} is a "
                    f"{leaf.kind} ({leaf.dtype}), expected a {kind}"
                )
        sizes = {key: steps.leaf(key).size for key in spec.action}
        if sum(sizes.values()) != spec.action_spec.dim:
            slots = ", ".join(slot.name for slot in spec.action_spec.continuous)
            raise DataError(
                f"dataset spec {spec.name!r}: the action features have {sizes} values, the action "
                f"spec {spec.action_spec.dim}: {slots}"
            )

    def _columns(self) -> list[np.ndarray]:
        """The action features of all steps, float32 [steps, d] each."""
        split = self.steps.split
        keys = [self.steps.leaf(name).key for name in self.spec.action]
        return [
            np.asarray(split.column(f"{key}.value"), np.float32).reshape(split.steps, -1)
            for key in keys
        ]

    def _action(self, row: int) -> np.ndarray:
        parts = [np.ravel(self.steps.value(name, row)) for name in self.spec.action]
        return np.concatenate(parts).astype(np.float32)

    def _instruction_ids(self) -> np.ndarray:
        return self.steps.split.column(f"{self.steps.leaf(self.spec.instruction).key}.id")

    def _trainable(self) -> np.ndarray:
        """The steps to train on, int64 [N]."""
        split, spec = self.steps.split, self.spec
        first = split.column("episode.first")
        keep = np.ones(split.steps, bool)
        if spec.drop_first:
            self._drop(keep, "first step", first[:-1])
        if spec.drop_last == "always":
            self._drop(keep, "last step", first[1:] - 1)
        elif spec.drop_last == "flagged":
            flags = split.column(f"{self.steps.leaf('is_last').key}.value")
            self._drop(keep, "last step", np.flatnonzero(flags))
        chosen = self._chosen_episodes()
        gone = np.add.reduceat(keep, first[:-1]) == 0 if split.episodes else np.zeros(0, bool)
        if gone.any():
            raise self._episode_error(int(np.flatnonzero(gone)[0]), "no step is left to train on")
        keep &= chosen[split.column("step.episode")]
        self._drop_without_instruction(keep)
        return np.flatnonzero(keep)

    def _chosen_episodes(self) -> np.ndarray:
        """Which episodes the part of the split holds, bool [episodes]."""
        count = self.steps.split.episodes
        begin, end = (_boundary(text, count) for text in self._part)
        chosen = np.zeros(count, bool)
        chosen[begin:end] = True
        return chosen

    def _drop_without_instruction(self, keep: np.ndarray) -> None:
        ids = self._instruction_ids()
        texts = {int(i): self.steps.split.strings[i].strip() for i in np.unique(ids)}
        empty = np.flatnonzero(np.isin(ids, [i for i, text in texts.items() if not text]) & keep)
        if len(empty) and self.spec.empty_instruction == "refuse":
            episode, _ = self.steps.position(int(empty[0]))
            raise self._episode_error(episode, f"{self.spec.instruction}: the instruction is empty")
        if self.spec.empty_instruction == "drop":
            self._drop(keep, "empty instruction", empty)

    def _drop(self, keep: np.ndarray, reason: str, rows: np.ndarray) -> None:
        before = int(keep.sum())
        keep[rows] = False
        self.dropped[reason] = before - int(keep.sum())

    def _last_of_episode(self) -> np.ndarray:
        """Whether a trainable step is the last one of its episode, bool [N]."""
        if not len(self._rows):
            raise DataError(
                f"{self.steps.index.directory}: split {self.steps.split.split!r} has "
                f"no trainable step (dropped: {self.dropped})"
            )
        episode = self.steps.split.column("step.episode")[self._rows]
        return np.append(episode[1:] != episode[:-1], True)

    def _check_finite(self) -> None:
        names = [*self.spec.action, *([self.spec.state] if self.spec.state else [])]
        for name in names:
            values = self.steps.split.column(f"{self.steps.leaf(name).key}.value")
            finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            bad = self._rows[~finite[self._rows]]
            if len(bad):
                episode, step = self.steps.position(int(bad[0]))
                raise self._episode_error(episode, f"{name}: NaN or infinite at step {step}")

    def _episode_error(self, episode: int, reason: str) -> DataError:
        split = self.steps.split
        shard = self.steps.files.path(int(split.column("episode.shard")[episode]))
        record = int(split.column("episode.record")[episode])
        return DataError(
            f"{shard}: record {record} (episode {episode} of {split.split}): {reason}. Write the "
            "data set without the episode, or change the dataset spec."
        )


_SPLIT = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<begin>-?\d+%?)?:(?P<end>-?\d+%?)?\])?")


def parse_split(split: str) -> tuple[str, tuple[str, str]]:
    """("train", ("", "80%")) of "train[:80%]". Raises DataError for another form."""
    found = _SPLIT.fullmatch(split)
    if found is None:
        raise DataError(
            f"split {split!r}: expected a name such as train, train[:20] or train[:80%]"
        )
    return found["name"], (found["begin"] or "", found["end"] or "")


def _boundary(text: str, count: int) -> int | None:
    """An episode number of a slice; per cent are rounded to the nearest, as TFDS does."""
    if text.endswith("%"):
        return round(int(text[:-1]) * count / 100)
    return int(text) if text else None
