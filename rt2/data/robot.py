"""Trainable steps of a robot data set, as a dataset spec describes it."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from rt2.data import finite, image, selection, splits, statistics
from rt2.data.dataset_spec import DatasetSpec
from rt2.data.errors import DataError, nearest
from rt2.data.instructions import Instructions
from rt2.data.parts import Part, PartColumns
from rt2.data.records import RobotExample
from rt2.data.rlds import RldsSteps


class RobotExamples:
    """`examples[i]` is the i-th trainable step of a split, a RobotExample. Immutable, picklable.

    `split` may name a part of its episodes, "train[:20]" or "train[90%:]".
    `history` images end with the step's own; before the first step the first image stands again.
    `cameras`: which of the spec's further cameras to decode too, into `views`. `quarantine`: the
    share of damaged records that may be left out (`index.build`).
    `dropped` counts the steps that the spec leaves out, by reason. Raises DataError where the spec
    does not fit the features, an action is not finite or an episode has no step left.
    """

    def __init__(
        self,
        directory: Path | str,
        split: str,
        spec: DatasetSpec,
        history: int = 1,
        cameras: Sequence[str] = (),
        quarantine: float = 0.0,
    ):
        if history < 1:
            raise DataError(f"history={history}: the number of images must be at least 1")
        name, self._part = splits.parse(split)
        self.steps = RldsSteps(directory, name, quarantine=quarantine)
        self.spec, self.history, self.cameras = spec, history, tuple(cameras)
        if not self.steps.index.features.episodic:
            raise DataError(f"{directory}: has no RLDS steps; read it with rt2.data.vqa")
        where = f"dataset spec {spec.name!r}"
        self._check_cameras(where)
        self._instructions = Instructions(self.steps, spec.instruction, where)
        self._actions, self._state, self._stop = self._columns(where)
        part = slice(*splits.bounds(split, self.steps.split.episodes))
        self._runs, self.dropped = selection.choose(
            self.steps, spec, part, self._instructions, self._actions
        )
        if not len(self._runs):
            raise DataError(
                f"{self.steps.index.directory}: split {name!r} has no trainable step "
                f"(dropped: {self.dropped})"
            )
        columns = (self._actions, self._state, self._stop)
        finite.check(self.steps, self._runs, [c for c in columns if c is not None])

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, i: int) -> RobotExample:
        row, last = self._runs[i]
        episode, step = self.steps.position(row)
        frames = [row - min(back, step) for back in reversed(range(self.history))]
        return RobotExample(
            images=tuple(self.image(frame) for frame in frames),
            instruction=self._instructions[row],
            action=self._actions.row(row),
            terminate=self._terminates(row, last),
            state=self.state(i),
            episode=episode,
            step=step,
            example_id=self.steps.example_id(row),
            views={camera: self.image(row, camera) for camera in self.cameras},
        )

    def row(self, i: int) -> int:
        """Which step of `steps` example `i` is."""
        return self._runs[i][0]

    def instruction(self, i: int) -> str:
        """The instruction of example `i`."""
        return self._instructions[self.row(i)]

    def state(self, i: int) -> np.ndarray | None:
        """The proprioceptive state of example `i`, float32 [S]; None where the spec has none."""
        return None if self._state is None else self._state.row(self.row(i))

    def image(self, row: int, camera: str | None = None) -> np.ndarray:
        """What a camera, the spec's own where it is None, saw at step `row` of `steps`.

        uint8 [H, W, 3].
        """
        camera = self.spec.camera if camera is None else camera
        data = self.steps.encoded(camera, row)
        return image.decode(data, f"{self.steps.example_id(row)}: {camera}")

    @property
    def content_hash(self) -> str:
        """The hash of the index that the examples are read through, and the part of the split."""
        index = self.steps.index.content_hash
        return index if self._part == ("", "") else f"{index}[{':'.join(self._part)}]"

    @property
    def quarantined(self) -> list[str]:
        """The damaged records of all splits that were left out: shard, record and reason."""
        return [entry["reason"] for entry in self.steps.index.quarantined]

    @property
    def episodes(self) -> int:
        """How many episodes have a trainable step."""
        return self._runs.episodes

    @cached_property
    def episode_starts(self) -> np.ndarray:
        """The first example of every episode that has one, and the end: int64 [`episodes` + 1]."""
        return np.append(0, self._runs.ends[self._runs.last])

    @cached_property
    def actions(self) -> np.ndarray:
        """The actions of all trainable steps, float32 [N, D], in order."""
        return self._collect(self._actions)

    @cached_property
    def states(self) -> np.ndarray | None:
        """The states of all trainable steps, float32 [N, S]; None where the spec has none."""
        return None if self._state is None else self._collect(self._state)

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
        found = statistics.warnings(self.statistics, names)
        if self._stop is not None:
            stops = self._collect(self._stop)[:, 0] > 0.5
            if stops.all() or not stops.any():
                share = "every" if stops.all() else "no"
                found.append(("terminate", f"{share} step says stop: {self._stop}"))
        return found

    @cached_property
    def instructions(self) -> tuple[str, ...]:
        """The distinct instructions of the trainable steps, sorted."""
        found: set[str] = set()
        for begin, end, _ in selection.blocks(self.steps):
            found |= self._instructions.distinct(begin, end, self._runs.mask(begin, end))
        return tuple(sorted(found))

    def _collect(self, columns: PartColumns) -> np.ndarray:
        """The columns of all trainable steps, float32 [N, width]."""
        found, filled = np.empty((len(self), columns.width), np.float32), 0
        for begin, end, first in selection.blocks(self.steps):
            chosen = self._runs.mask(begin, end)
            count = int(chosen.sum())
            if count:
                found[filled : filled + count] = columns.rows(begin, end, first)[chosen]
            filled += count
        return found

    def _check_cameras(self, where: str) -> None:
        for camera in self.cameras:
            if camera not in self.spec.cameras:
                raise DataError(f"{where}: camera {camera!r}: {nearest(camera, self.spec.cameras)}")
        for camera in (self.spec.camera, *self.cameras):
            leaf = self.steps.leaf(camera)
            if leaf.kind != "image":
                raise DataError(
                    f"{where}: {camera!r} of {self.steps.index.directory} is a {leaf.kind} "
                    f"({leaf.dtype}), expected a image"
                )

    def _columns(self, where: str) -> tuple[PartColumns, PartColumns | None, PartColumns | None]:
        """What the action, the state and the flag of the last action are made of."""
        spec, state = self.spec, None
        actions = PartColumns(self.steps, spec.action, f"{where}: action")
        if actions.width != spec.action_spec.dim:
            slots = ", ".join(slot.name for slot in spec.action_spec.continuous)
            raise DataError(
                f"{where}: the action features have {actions} values, the action "
                f"spec {spec.action_spec.dim}: {slots}"
            )
        if spec.state_parts is not None:
            state = PartColumns(self.steps, spec.state_parts, f"{where}: state")
        if not isinstance(spec.terminate, Part):
            return actions, state, None
        stop = PartColumns(self.steps, (spec.terminate,), f"{where}: terminate")
        if stop.width != 1:
            raise DataError(f"{where}: terminate has {stop} values, expected 1")
        return actions, state, stop

    def _terminates(self, row: int, last: bool) -> bool:
        if self._stop is not None:
            return bool(self._stop.row(row)[0] > 0.5)
        return last and self.spec.terminate == "last_trainable"
