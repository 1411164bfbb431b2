"""From examples to model rows: image, has_image, prefix and target of fixed shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from rt2.actions import ActionCodec
from rt2.data.mixture import Draw
from rt2.data.records import WebExample
from rt2.data.tasks import TaskExample
from rt2.data.web import answers
from rt2.data.web.corruption import SpanCorruption
from rt2.preprocess import Preprocess

Row = dict[str, Any]
"""image uint8 [n, S, S, 3]; has_image bool []; prefix int32 [L]; target int32 [T]."""


class TaskRow:
    """Makes the row of a question about robot episodes."""

    def __init__(self, preprocess: Preprocess, codec: ActionCodec):
        self.preprocess, self.codec = preprocess, codec

    def __call__(self, example: TaskExample, draw: Draw) -> Row:
        preprocess = self.preprocess
        if example.action is None:
            target = preprocess.text_target(example.target)
        else:
            action = example.action, example.terminate
            target = preprocess.action_target(self.codec, *action, words=example.target)
        return {
            "image": preprocess.image_stack(example.images),
            "has_image": np.bool_(True),
            "prefix": preprocess.text_prefix(example.prefix),
            "target": target,
        }


class WebRow:
    """Makes the row of an image-text example; `answer` is a rule of `rt2.data.web.answers`.

    Text without an image is corrupted. `seed` is that of the source.
    """

    def __init__(
        self, preprocess: Preprocess, answer: str, corruption: SpanCorruption | None, seed: int
    ):
        self.preprocess, self.corruption, self.seed = preprocess, corruption, seed
        self.answer = answers.check_rule(answer)

    def __call__(self, example: WebExample, draw: Draw) -> Row:
        preprocess = self.preprocess
        drawn = {"seed": self.seed, "epoch": draw.epoch, "example": draw.index}
        if example.image is None:
            return self._corrupted(example.answers[0], drawn)
        answer = answers.choose(example.answers, self.answer, **drawn)
        return {
            "image": preprocess.image_stack([example.image]),
            "has_image": np.bool_(True),
            "prefix": preprocess.text_prefix(example.question),
            "target": preprocess.text_target(answer),
        }

    def _corrupted(self, text: str, drawn: dict[str, int]) -> Row:
        preprocess = self.preprocess
        # a beginning may stand before it, an end follows
        lengths = preprocess.prefix_length - preprocess.bos, preprocess.target_length - 1
        given, hidden = self.corruption.row(preprocess.tokenizer.encode(text), *lengths, **drawn)
        size = preprocess.image_size
        return {
            "image": np.zeros((preprocess.images, size, size, 3), np.uint8),  # never looked at
            "has_image": np.bool_(False),
            "prefix": preprocess.prefix(given),
            "target": preprocess.target(hidden),
        }
