"""Guesses a dataset spec row from the features and the numbers of a data set."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt2.data.errors import DataError
from rt2.data.format.features import Leaf
from rt2.data.inspect import action_guess, leaf_guess
from rt2.data.inspect.leaf_guess import quoted
from rt2.data.instructions import Instructions
from rt2.data.rlds import RldsSteps
from rt2.data.selection import blocks

STILL = 1e-2  # a number below this share of its standard deviation counts as zero
Guess = tuple[Any, str]  # the value of a field, and why


@dataclasses.dataclass(frozen=True)
class Proposal:
    """`row`: plain values for `specs.from_config`; `reasons`: why each field has its value."""

    row: dict[str, Any]
    reasons: dict[str, str]


def propose(steps: RldsSteps) -> Proposal:
    """A row to be read over before it is used.

    Raises DataError where the set has no RGB camera, no instruction or no action.
    """
    numbers = [leaf for leaf in steps.index.features.at("step") if leaf.kind == "number"]
    action = action_guess.features(steps, numbers)
    values = action_guess.values(steps, action)
    slots = action_guess.slots(action, values.shape[1])
    names = action_guess.names(slots[0])
    terminate = _terminate(steps, numbers)
    guesses: dict[str, Guess] = {
        **_cameras(steps),
        **_instruction(steps),
        "action": action_guess.parts(action, numbers, names, values),
        "action_spec": slots,
        "state": _state(steps, numbers),
        "drop_first": _drop_first(steps, values),
        "drop_last": _drop_last(steps, terminate[0]),
        "terminate": terminate,
        "bounds": action_guess.bounds(names, values),
    }
    row = {"name": steps.index.info.name, **{field: value for field, (value, _) in guesses.items()}}
    return Proposal(row, {field: why for field, (_, why) in guesses.items()})


def _cameras(steps: RldsSteps) -> dict[str, Guess]:
    found = leaf_guess.cameras(steps)
    if not found:
        raise _missing(steps, "an RGB image")
    shares = {leaf.name: leaf_guess.commonest(steps, leaf) for leaf in found}
    seen = [name for name, share in shares.items() if share <= leaf_guess.BLANK]
    blank = [name for name in shares if name not in seen]
    others = tuple(seen[1:])
    why = f"what the policy sees; or {quoted(others)}" if others else "the only RGB camera"
    why += f"; blank: {quoted(blank)}" if blank and seen else ""
    guesses: dict[str, Guess] = {"camera": (found[0].name, why)}
    if others:
        guesses["cameras"] = (others, "the others")
    return guesses


def _instruction(steps: RldsSteps) -> dict[str, Guess]:
    found = leaf_guess.instructions(steps)
    if not found:
        raise _missing(steps, "a text, nor is there an instruction among the episodes' features")
    leaf, others = found[0], [leaf.name for leaf in found[1:]]
    what = "character codes" if leaf.kind != "text" else f"a text of every {leaf.level}"
    why = what + (f"; or {quoted(others)}" if others else "")
    texts = Instructions(steps, leaf.name, "the proposed row")
    empty = sum(int(texts.empty(begin, end).sum()) for begin, end, _ in blocks(steps))
    rule = (
        ("drop", f"{empty} of {len(steps)} steps have none")
        if empty
        else ("refuse", "no instruction is empty")
    )
    return {"instruction": (leaf.name, why), "empty_instruction": rule}


def _missing(steps: RldsSteps, what: str) -> DataError:
    names = ", ".join(leaf.name for leaf in steps.index.features.at("step"))
    return DataError(f"{steps.index.directory}: no step feature is {what}: {names}")


def _state(steps: RldsSteps, numbers: Sequence[Leaf]) -> Guess:
    found = leaf_guess.states(numbers)
    if not found:
        return None, "no vector below observation/ is called a state, a pose or a position"
    for leaf in found:
        if np.isfinite(steps.split.column(f"{leaf.key}.value")).all():
            others = [other.name for other in found if other is not leaf]
            return leaf.name, f"{leaf.size} numbers" + (f"; or {quoted(others)}" if others else "")
    return None, f"{quoted([leaf.name for leaf in found])}: NaN or infinite values"


def _drop_first(steps: RldsSteps, values: np.ndarray) -> Guess:
    """Whether most numbers of the first actions are about zero, and of later ones are not."""
    starts = steps.split.column("episode.first")[:-1]
    still = np.abs(values) < STILL * values.std(axis=0)
    later = np.delete(still, starts, axis=0)
    first, rest = still[starts].mean(), later.mean() if len(later) else 0.0
    why = f"{first:.0%} of the numbers of first actions are about zero, {rest:.0%} of later ones"
    return bool(first > 0.5 and rest < 0.5), why


def _terminate(steps: RldsSteps, numbers: Sequence[Leaf]) -> Guess:
    """A flag (or the first of three modes) that most last steps have and few others."""
    ends = steps.split.column("episode.first")[1:] - 1
    for leaf in numbers:
        if "terminate" in leaf.name and leaf.size in (1, 3):
            values = steps.split.column(f"{leaf.key}.value").reshape(len(steps), -1)[:, 0] > 0.5
            if values[ends].mean() > 0.5 and values.mean() < 0.5:
                part = {"feature": leaf.name}
                part |= {"columns": (0, 1)} if leaf.size == 3 else {}
                return part, f"it stops {int(values.sum())} times in {len(ends)} episodes"
    return "last_trainable", "the last step that is learnt says stop"


def _drop_last(steps: RldsSteps, terminate: Any) -> Guess:
    if terminate != "last_trainable":
        return "never", "the last action is the one that stops"
    if not any(leaf.name == "is_last" for leaf in steps.index.features.at("step")):
        return "never", "there is no is_last; say 'always' if the last action is a placeholder"
    flags = int(steps.split.column(f"{steps.leaf('is_last').key}.value").sum())
    why = f"is_last stands at the end of {flags} of {steps.split.episodes} episodes"
    return "flagged", why
