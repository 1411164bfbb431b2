"""Guesses a dataset spec row from the features and the first look at the numbers of a data set."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt2.data import action_guess
from rt2.data.action_guess import quoted
from rt2.data.errors import DataError
from rt2.data.features import Leaf
from rt2.data.rlds import RldsSteps

STILL = 1e-2  # a number below this share of its standard deviation counts as zero
_WRIST = ("wrist", "hand", "gripper")
_LANGUAGE = ("instruction", "language", "task", "command", "goal")
_STATE = ("state", "proprio", "position", "pose", "joint")


@dataclasses.dataclass(frozen=True)
class Proposal:
    """`row`: plain values for `specs.from_config`; `reasons`: why each field has its value."""

    row: dict[str, Any]
    reasons: dict[str, str]


def propose(steps: RldsSteps) -> Proposal:
    """A row to be read over before it is used.

    Raises DataError where the set has no RGB camera, no text or no action among its step features.
    """
    leaves = steps.index.features.at("step")
    numbers = [leaf for leaf in leaves if leaf.kind == "number"]
    action = action_guess.features(numbers)
    values = action_guess.values(steps, action)
    slots, slots_why = action_guess.slots(action, values)
    names = action_guess.names(slots)
    hints = [action_guess.why(action, numbers), action_guess.gripper(names, values)]
    guesses: dict[str, tuple[Any, str]] = {
        "camera": _camera(steps),
        "instruction": _instruction(steps, leaves),
        "action": ([leaf.name for leaf in action], "; ".join(filter(None, hints))),
        "action_spec": (slots, slots_why),
        "state": _state(steps, numbers),
        "drop_first": _drop_first(steps, values),
        "drop_last": _drop_last(steps),
        "terminate": ("last_trainable", "the last step that is learnt says stop"),
        "empty_instruction": ("refuse", "none is empty"),
        "bounds": action_guess.bounds(names, values),
    }
    empty = _empty_instructions(steps, guesses["instruction"][0])
    if empty:
        guesses["empty_instruction"] = ("drop", f"{empty} of {len(steps)} steps have none")
    row = {"name": steps.index.info.name, **{k: value for k, (value, _) in guesses.items()}}
    return Proposal(row, {field: why for field, (_, why) in guesses.items()})


def missing(steps: RldsSteps, what: str) -> DataError:
    """The error of a set without a feature that every robot data set needs."""
    names = ", ".join(leaf.name for leaf in steps.index.features.at("step"))
    return DataError(f"{steps.index.directory}: no step feature is {what}: {names}")


def cameras(steps: RldsSteps) -> list[Leaf]:
    """The RGB images, those first that see the scene rather than the gripper, blank ones last."""
    leaves = steps.index.features.at("step")
    found = [leaf for leaf in leaves if leaf.kind == "image" and leaf.shape[-1] == 3]
    wrist = {leaf.name: _says(leaf, (*_WRIST, "depth")) for leaf in found}
    return sorted(found, key=lambda leaf: (blank(steps, leaf) > 0.5, wrist[leaf.name], leaf.name))


def blank(steps: RldsSteps, leaf: Leaf) -> float:
    """The share of the split's steps that have the commonest picture of a camera, by CRC32C."""
    _, counts = np.unique(steps.split.column(f"{leaf.key}.crc"), return_counts=True)
    return float(counts.max(initial=0)) / max(1, len(steps)) if len(steps) > 1 else 0.0


def _says(leaf: Leaf, words: Sequence[str]) -> bool:
    return any(word in leaf.name.lower() for word in words)


def _camera(steps: RldsSteps) -> tuple[str, str]:
    found = cameras(steps)
    if not found:
        raise missing(steps, "an RGB image")
    others = [leaf.name for leaf in found[1:]]
    return found[0].name, f"or {quoted(others)}" if others else "the only RGB camera"


def _instruction(steps: RldsSteps, leaves: Sequence[Leaf]) -> tuple[str, str]:
    texts = [leaf for leaf in leaves if leaf.kind == "text"]
    ranked = sorted(texts, key=lambda leaf: (_language_rank(leaf), leaf.name))
    if not ranked:
        raise missing(steps, "a text")
    others = [leaf.name for leaf in ranked[1:]]
    return ranked[0].name, f"or {quoted(others)}" if others else "the only text of a step"


def _language_rank(leaf: Leaf) -> int:
    found = [i for i, word in enumerate(_LANGUAGE) if word in leaf.name.lower()]
    return found[0] if found else len(_LANGUAGE)


def _empty_instructions(steps: RldsSteps, name: str) -> int:
    ids, counts = np.unique(steps.split.column(f"{steps.leaf(name).key}.id"), return_counts=True)
    pairs = zip(ids, counts, strict=True)
    return sum(int(count) for i, count in pairs if not steps.split.strings[i].strip())


def _state(steps: RldsSteps, numbers: Sequence[Leaf]) -> tuple[str | None, str]:
    found = [
        leaf
        for leaf in numbers
        if leaf.path[0] == "observation" and len(leaf.shape) == 1 and _says(leaf, _STATE)
    ]
    found.sort(key=lambda leaf: ([_says(leaf, (word,)) for word in _STATE][::-1], leaf.name))
    found.sort(key=lambda leaf: not _says(leaf, ("state", "proprio")))
    if not found:
        return None, "no vector below observation/ is called a state, a pose or a position"
    for leaf in found:
        values = steps.split.column(f"{leaf.key}.value")
        if np.isfinite(values).all():
            others = [other.name for other in found if other is not leaf]
            return leaf.name, f"{leaf.size} numbers" + (f"; or {quoted(others)}" if others else "")
    return None, f"{quoted([leaf.name for leaf in found])} have NaN or infinite values"


def _drop_first(steps: RldsSteps, values: np.ndarray) -> tuple[bool, str]:
    """Whether most numbers of the first actions are about zero, and of later ones are not."""
    starts = steps.split.column("episode.first")[:-1]
    still = np.abs(values) < STILL * values.std(axis=0)
    later = np.delete(still, starts, axis=0)
    first, rest = still[starts].mean(), later.mean() if len(later) else 0.0
    why = f"{first:.0%} of the numbers of first actions are about zero, {rest:.0%} of later ones"
    return bool(first > 0.5 and rest < 0.5), why


def _drop_last(steps: RldsSteps) -> tuple[str, str]:
    if not any(leaf.name == "is_last" for leaf in steps.index.features.at("step")):
        return "never", "there is no is_last; say 'always' if the last action is a placeholder"
    flags = steps.split.column(f"{steps.leaf('is_last').key}.value")
    episodes = steps.split.episodes
    return "flagged", f"is_last stands at the end of {int(flags.sum())} of {episodes} episodes"
