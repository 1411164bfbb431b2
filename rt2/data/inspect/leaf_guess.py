"""Guesses which features are cameras, instructions and the state, best first."""

from collections.abc import Sequence

import numpy as np

from rt2.data.format.features import Leaf
from rt2.data.rlds import RldsSteps

CODES = 32  # a vector of integers of a language name and at least this length is text in codes
BLANK = 0.5  # a camera that shows one and the same picture more often shows nothing
_WRIST = ("wrist", "hand", "gripper", "depth")
_LANGUAGE = ("instruction", "language", "task", "command", "goal")
_STATE = ("state", "proprio", "pose", "position", "joint")


def says(leaf: Leaf, words: Sequence[str]) -> bool:
    """Whether one of the words stands in the name."""
    return any(word in leaf.name.lower() for word in words)


def quoted(names: Sequence[str]) -> str:
    """The names in quotes, joined by commas."""
    return ", ".join(map(repr, names))


def cameras(steps: RldsSteps) -> list[Leaf]:
    """The RGB images, those first that see the scene rather than the gripper, blank ones last."""
    leaves = steps.index.features.at("step")
    found = [leaf for leaf in leaves if leaf.kind == "image" and leaf.shape[-1] == 3]
    ranks = {leaf: (commonest(steps, leaf) > BLANK, says(leaf, _WRIST)) for leaf in found}
    return sorted(found, key=lambda leaf: (*ranks[leaf], leaf.name))


def commonest(steps: RldsSteps, camera: Leaf) -> float:
    """The share of the split's steps that show a camera's commonest picture, by CRC32C."""
    _, counts = np.unique(steps.split.column(f"{camera.key}.crc"), return_counts=True)
    return float(counts.max()) / len(steps) if len(steps) > 1 else 0.0


def instructions(steps: RldsSteps) -> list[Leaf]:
    """Texts and character codes of the steps and texts of the episodes.

    First what is called an instruction, then other words for language; a text of the steps before
    one of the episodes. A text of the episodes without such a name is none (a file's path).
    """
    step, episode = (steps.index.features.at(level) for level in ("step", "episode"))
    found = [leaf for leaf in step if leaf.kind == "text" or _codes(leaf)]
    found += [leaf for leaf in episode if leaf.kind == "text" and says(leaf, _LANGUAGE)]
    return sorted(found, key=lambda leaf: (_language(leaf), leaf.level != "step", leaf.name))


def _language(leaf: Leaf) -> int:
    words = [i for i, word in enumerate(_LANGUAGE) if word in leaf.name.lower()]
    return words[0] if words else len(_LANGUAGE)


def _codes(leaf: Leaf) -> bool:
    integers = np.dtype(leaf.dtype).kind in "iu" if leaf.kind in ("number", "codes") else False
    return integers and len(leaf.shape) == 1 and leaf.size >= CODES and says(leaf, _LANGUAGE)


def states(numbers: Sequence[Leaf]) -> list[Leaf]:
    """Vectors below observation/ that are called a state, a pose, a position or joints."""
    found = [
        leaf
        for leaf in numbers
        if leaf.path[0] == "observation" and len(leaf.shape) == 1 and says(leaf, _STATE)
    ]
    return sorted(found, key=lambda leaf: (_state(leaf), leaf.name))


def _state(leaf: Leaf) -> int:
    return next(i for i, word in enumerate(_STATE) if word in leaf.name.lower())
