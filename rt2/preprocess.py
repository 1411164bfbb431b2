"""From an observation or a question to what the model reads, the same for training and serving.

A `Preprocess` travels inside every checkpoint. Shapes: n images, S image size, L prefix tokens,
T target tokens.
"""

from __future__ import annotations

import base64
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rt2 import prompts
from rt2.actions import ActionCodec
from rt2.data import image as images
from rt2.errors import ConfigError, UserError
from rt2.tokenizer import EOS, PAD, ActionVocabulary, Tokenizer, TokenizerError


class PreprocessError(UserError):
    """An observation that does not fit the model; the message names the field."""


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Everything between raw examples and token arrays.

    `codecs` holds one action codec per robot data set. `cameras`: how an observation names them; of
    the first the model reads `history` images, of each other the current one.
    `state_codecs`: of the data sets whose actions are asked with the proprioceptive state.
    `bos`: whether the tokenizer's beginning piece stands before every question, and `suffix` the
    text behind it: what the model's public weights were trained with (`config.prompt`).
    """

    tokenizer: Tokenizer
    vocabulary: ActionVocabulary
    codecs: Mapping[str, ActionCodec]
    image_size: int
    history: int
    prefix_length: int
    target_length: int
    state_codecs: Mapping[str, ActionCodec] = dataclasses.field(default_factory=dict)
    bos: bool = False
    suffix: str = ""
    cameras: tuple[str, ...] = ("image",)

    def __post_init__(self):
        if not self.cameras or len(set(self.cameras)) < len(self.cameras):
            raise ConfigError(
                f"config.cameras={self.cameras}: expected one name or more, each of its own"
            )
        if self.bos and self.tokenizer.bos < 0:
            raise TokenizerError(
                "config.prompt.bos: this tokenizer has no piece that begins a text; leave it False"
            )

    def codec(self, dataset: str | None = None) -> ActionCodec:
        """The codec of `dataset`; it may be left out where there is only one."""
        return self.codecs[self.dataset(dataset)]

    def dataset(self, dataset: str | None = None) -> str:
        """The name of a robot data set, also where it is left out as the only one."""
        if dataset is None and len(self.codecs) == 1:
            return next(iter(self.codecs))
        if dataset not in self.codecs:
            near = difflib.get_close_matches(str(dataset), self.codecs, 1)
            raise PreprocessError(
                f"no action codec for dataset {dataset!r}; known: {sorted(self.codecs)}"
                + (f". Did you mean {near[0]!r}?" if near else "")
            )
        return dataset

    @property
    def images(self) -> int:
        """How many images a row has."""
        return image_count(self.history, self.cameras)

    def frames(self, image: Any) -> list[np.ndarray]:
        """The frames of an observation's `image` in the order that `image_stack` takes.

        `image`: uint8 [h, w, 3], or a list of them oldest first, or {camera: one of these}; all of
        `cameras` where the model reads several, of which those behind the first give one frame.
        """
        views = image if isinstance(image, Mapping) else {self.cameras[0]: image}
        if len(self.cameras) == len(views) == 1:
            views = {self.cameras[0]: next(iter(views.values()))}  # its name does not matter
        if set(views) != set(self.cameras):
            raise PreprocessError(
                f"image: cameras {sorted(views)}; this model reads {list(self.cameras)}, send "
                "{camera: image} of these"
            )
        first, *others = ([*map(np.asarray, _listed(views[camera]))] for camera in self.cameras)
        if not 1 <= len(first) <= self.history:
            raise PreprocessError(f"image: {len(first)} frames, the model takes {self.history}")
        if any(len(frames) != 1 for frames in others):
            raise PreprocessError(
                f"image: of the cameras {list(self.cameras[1:])} the model takes one frame each"
            )
        return first[:1] * (self.history - len(first)) + first + sum(others, [])

    def image_stack(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [n, S, S, 3] from frames uint8 [h, w, 3], oldest first, then the other cameras'.

        Fewer frames than the model reads, as a web picture is, are filled up by repeating the
        first.
        """
        if not 1 <= len(frames) <= self.images:
            raise PreprocessError(f"image: {len(frames)} frames, the model takes {self.images}")
        for frame in frames:
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
                raise PreprocessError(
                    f"image: {frame.dtype} {frame.shape}, expected uint8 [height, width, 3]"
                )
        resized = [images.resize(frame, self.image_size) for frame in frames]
        return np.stack([resized[0]] * (self.images - len(frames)) + resized)

    def state(self, dataset: str, values: Any) -> str | None:
        """The state of a robot as the integers of its question; None where it is not asked for.

        `values`: the S numbers of the dataset spec's state, in order and in its units. They become
        float32, as the training data are; those outside of what was trained on take the outer bin.
        """
        if dataset not in self.state_codecs:
            return None
        codec = self.state_codecs[dataset]
        wanted = f"the {codec.spec.dim} numbers of the state of data set {dataset!r}"
        if values is None:
            raise PreprocessError(f"state: missing; this model reads {wanted}")
        return prompts.integers(codec.encode(_numbers(values, codec.spec.dim, wanted)))

    def action_prefix(self, instruction: str, state: str | None = None) -> np.ndarray:
        """int32 [L] of the robot question; `state` as the method of that name gives it."""
        if not instruction.strip():
            raise PreprocessError("instruction: empty, expected what the robot should do")
        return self._prefix(prompts.action_prompt(instruction, state))

    def plan_prefix(self, instruction: str, state: str | None = None) -> np.ndarray:
        """int32 [L] of the question that is answered by a plan and an action."""
        if not instruction.strip():
            raise PreprocessError("instruction: empty, expected what the robot should do")
        return self._prefix(prompts.plan_prompt(instruction, state))

    def text_prefix(self, question: str) -> np.ndarray:
        """int32 [L] of a complete web question."""
        if not question.strip():
            raise PreprocessError("question: empty")
        return self._prefix(question)

    def action_target(
        self, codec: ActionCodec, action: np.ndarray, terminate: bool, words: str = ""
    ) -> np.ndarray:
        """int32 [T]: the tokens of `words` (a plan), those of the slots, end, padding."""
        slots = self.vocabulary.tokens(codec.encode(action, terminate))
        return self.target([*self.tokenizer.encode(words), *slots])

    def text_target(self, answer: str) -> np.ndarray:
        """int32 [T]: the answer's tokens, end, padding."""
        return self.tokenizer.padded(answer, self.target_length, end=True)

    def prefix(self, tokens: Sequence[int]) -> np.ndarray:
        """int32 [L]: the beginning piece where questions have it, `tokens`, padding."""
        begin = [self.tokenizer.bos] * self.bos
        return _padded([*begin, *tokens], self.prefix_length, "a question", "prefix_length")

    def target(self, tokens: Sequence[int]) -> np.ndarray:
        """int32 [T]: `tokens`, end, padding."""
        return _padded([*tokens, EOS], self.target_length, "an answer", "target_length")

    def _prefix(self, text: str) -> np.ndarray:
        try:
            return self.tokenizer.padded(text + self.suffix, self.prefix_length, begin=self.bos)
        except TokenizerError as error:
            raise PreprocessError(f"instruction: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """A plain dict that `from_json` reads back."""
        return {
            "tokenizer": base64.b64encode(self.tokenizer.model).decode(),
            "vocabulary": {"kind": self.vocabulary.kind, "ids": list(self.vocabulary.ids)},
            "codecs": {name: codec.to_json() for name, codec in self.codecs.items()},
            "image_size": self.image_size,
            "history": self.history,
            "prefix_length": self.prefix_length,
            "target_length": self.target_length,
            "state_codecs": {name: codec.to_json() for name, codec in self.state_codecs.items()},
            "bos": self.bos,
            "suffix": self.suffix,
            "cameras": list(self.cameras),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocess:
        """The object that `to_json` wrote."""
        vocabulary = data["vocabulary"]
        return cls(
            tokenizer=Tokenizer(base64.b64decode(data["tokenizer"])),
            vocabulary=ActionVocabulary(vocabulary["kind"], tuple(vocabulary["ids"])),
            codecs={name: ActionCodec.from_json(c) for name, c in data["codecs"].items()},
            image_size=data["image_size"],
            history=data["history"],
            prefix_length=data["prefix_length"],
            target_length=data["target_length"],
            # a model of one camera that reads no state, with nothing around its questions, need not
            # say so
            state_codecs={
                name: ActionCodec.from_json(c) for name, c in data.get("state_codecs", {}).items()
            },
            bos=data.get("bos", False),
            suffix=data.get("suffix", ""),
            cameras=tuple(data.get("cameras", ("image",))),
        )


def image_count(history: int, cameras: Sequence[str]) -> int:
    """How many images a row has: `history` of the first camera, one of each other."""
    return history + len(cameras) - 1


def _listed(image: Any) -> Sequence[Any]:
    return image if isinstance(image, list | tuple) else [image]


def _numbers(values: Any, count: int, wanted: str) -> np.ndarray:
    """float32 [count]; raises PreprocessError for anything else."""
    try:
        given = np.asarray(values)
    except ValueError:
        raise PreprocessError(
            f"state: lists of different lengths; this model reads {wanted}"
        ) from None
    if given.dtype.kind not in "biuf" or given.shape != (count,):
        raise PreprocessError(
            f"state: {given.dtype} {list(given.shape)}; this model reads {wanted}"
        )
    with np.errstate(over="ignore"):
        numbers = given.astype(np.float32)
    if not np.isfinite(numbers).all():
        bad = np.flatnonzero(~np.isfinite(numbers)).tolist()
        raise PreprocessError(f"state: NaN, infinite or beyond float32 in the numbers {bad}")
    return numbers


def _padded(tokens: Sequence[int], length: int, what: str, knob: str) -> np.ndarray:
    if len(tokens) > length:
        raise PreprocessError(
            f"{what} has {len(tokens)} tokens, the model takes {length}: raise --config.{knob}"
        )
    return np.array([*tokens, *[PAD] * (length - len(tokens))], np.int32)
