"""The two kinds of example that the data path hands out."""

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np

WEB_KINDS = (
    *("vqa", "caption", "where", "what", "list", "name", "detect", "text"),
    *("find", "kind", "colour", "reason"),  # of the tabletop's web: rt2/sim/questions.py
)


@dataclasses.dataclass(frozen=True)
class RobotExample:
    """One trainable step.

    `images`: uint8 [H, W, 3] each, oldest first, the step's own last. `action` float32 [D] in the
    data set's units. `terminate`: the episode ends with this action. `state` float32 [S] or None.
    `episode`, `step`: where it lies in its split. `views`: the step's images uint8 [H, W, 3] of
    the further cameras that were asked for, by feature.
    """

    images: tuple[np.ndarray, ...]
    instruction: str
    action: np.ndarray
    terminate: bool
    state: np.ndarray | None
    episode: int
    step: int
    example_id: str
    views: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class WebExample:
    """One question about one image uint8 [H, W, 3], with every accepted answer.

    `kind` is one of WEB_KINDS, `question` the full text of the prompt. An answer that several
    people gave stands in `answers` as often as it was given. Where a source keeps rows without an
    image, theirs is None; one of kind "text" has an empty question and the text as its answer.
    """

    image: np.ndarray | None
    kind: str
    language: str
    question: str
    answers: tuple[str, ...]
    example_id: str

    @property
    def counts(self) -> dict[str, int]:
        """How many people gave each answer, in the order of the answers."""
        return dict(Counter(self.answers))
