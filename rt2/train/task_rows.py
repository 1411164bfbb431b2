"""Questions made from robot episodes, as model rows."""

from __future__ import annotations

import numpy as np

from rt2.actions import ActionCodec
from rt2.data.errors import DataError
from rt2.data.tasks import RobotTask, TaskExample
from rt2.preprocess import Preprocess
from rt2.tokenizer import EOS, PAD


class TaskRows:
    """A RobotTask as model rows: image, prefix, target.

    Raises DataError at once where the model takes fewer images than the task has.
    """

    def __init__(self, task: RobotTask, preprocess: Preprocess, codec: ActionCodec):
        if task.frames > preprocess.history:
            raise DataError(
                f"the task {task.task} has {task.frames} images, the model takes "
                f"{preprocess.history}: set --config.history={task.frames}"
            )
        self.examples, self.preprocess, self.codec = task, preprocess, codec

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        example = self.examples[i]
        return {
            "image": self.preprocess.image_stack(example.images),
            "prefix": self.preprocess.text_prefix(example.prefix),
            "target": self._target(example),
        }

    def _target(self, example: TaskExample) -> np.ndarray:
        """int32 [T]: the tokens of the words, those of the action, end, padding."""
        if example.action is None:
            return self.preprocess.text_target(example.target)
        if not example.target:
            return self.preprocess.action_target(self.codec, example.action, example.terminate)
        bins = self.codec.encode(example.action, example.terminate)
        words = self.preprocess.tokenizer.encode(example.target)
        ids = [*words, *self.preprocess.vocabulary.tokens(bins).tolist(), EOS]
        room = self.preprocess.target_length
        if len(ids) > room:
            raise DataError(
                f"{example.example_id}: {len(ids)} tokens do not fit in {room}: raise "
                f"--config.target_length, or shorten the plan {example.target!r}"
            )
        return np.array(ids + [PAD] * (room - len(ids)), np.int32)
