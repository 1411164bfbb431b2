"""Guesses which features are the action, what its numbers are, and which bounds its bins need."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rt2.actions import LANGUAGE_TABLE, RT2
from rt2.data.errors import DataError
from rt2.data.format.features import Leaf
from rt2.data.inspect.leaf_guess import quoted, says
from rt2.data.rlds import RldsSteps

# RT-2 writes translation, rotation, gripper; what a name says decides where a feature goes.
_MOVES = ("world_vector", "xyz", "translation", "delta_pos", "pos_delta", "cartesian_velocity")
_TURNS = ("rotation", "rot", "rpy", "euler", "orientation")
_GRIP = "grip"
_NOT_ARM = ("terminate", "base", "mode", "discount", "reward")
SPECS = {"rt2": RT2, "language_table": LANGUAGE_TABLE}
TERMINATE = {"name": "terminate", "bins": 2, "kind": "terminate"}
FEW = 3  # a dimension with this many different values or fewer is a switch
CHANGE = 0.1  # what a gripper must say at least to be told to close (RT-1's sets)

Bound = str | tuple[float, float]


def features(steps: RldsSteps, numbers: Sequence[Leaf]) -> list[Leaf]:
    """The features of the action in the order of RT-2's slots.

    A feature called `action` is the whole of it; of several, those that make RT-2's seven numbers
    do, where there are such. Raises DataError where the name of none begins with "action".
    """
    found = [leaf for leaf in numbers if leaf.path[0].startswith("action")]
    if not found:
        names = ", ".join(leaf.name for leaf in numbers) or "none"
        raise DataError(
            f"{steps.index.directory}: no step feature of numbers is called action*: {names}"
        )
    whole = [leaf for leaf in found if leaf.name == "action"]
    arm = [leaf for leaf in found if not says(leaf, _NOT_ARM)]
    return whole or _rt2_features(arm) or arm or found


def _rt2_features(leaves: Sequence[Leaf]) -> list[Leaf]:
    """Three and three numbers, or six, and a gripper: the first of each; empty where one lacks."""
    moves = [leaf for leaf in leaves if says(leaf, _MOVES)]
    turns = [leaf for leaf in leaves if says(leaf, _TURNS) and leaf.size == 3]
    grips = [leaf for leaf in leaves if says(leaf, (_GRIP,)) and leaf.size == 1]
    both = [leaf for leaf in moves if leaf.size == 6]
    three = [leaf for leaf in moves if leaf.size == 3]
    if both and grips:
        return [both[0], grips[0]]
    return [three[0], turns[0], grips[0]] if three and turns and grips else []


def values(steps: RldsSteps, action: Sequence[Leaf]) -> np.ndarray:
    """The numbers of all steps of the split, float64 [N, D]."""
    split = steps.split
    columns = [split.column(f"{leaf.key}.value").reshape(split.steps, -1) for leaf in action]
    return np.concatenate([np.asarray(column, np.float64) for column in columns], axis=1)


def slots(action: Sequence[Leaf], dim: int) -> tuple[str | list[dict], str]:
    """The action spec and what it stands for."""
    if dim == RT2.dim:
        order = " ".join(slot.name for slot in RT2.continuous)
        return "rt2", f"terminate, then {order}: is that the order?"
    if dim == LANGUAGE_TABLE.dim:
        return "language_table", "a planar step: dx dy, 21 bins each"
    numbers = [{"name": name} for leaf in action for name in _slot_names(leaf)]
    return [TERMINATE, *numbers], f"{dim} numbers, 256 bins each: give them their names"


def _slot_names(leaf: Leaf) -> list[str]:
    last = leaf.path[-1]
    return [last] if leaf.size == 1 else [f"{last}_{i}" for i in range(leaf.size)]


def names(action_spec: str | list[dict]) -> list[str]:
    """The names of the continuous slots."""
    if isinstance(action_spec, str):
        return [slot.name for slot in SPECS[action_spec].continuous]
    return [slot["name"] for slot in action_spec if slot["name"] != TERMINATE["name"]]


def parts(
    action: Sequence[Leaf], numbers: Sequence[Leaf], names: Sequence[str], values: np.ndarray
) -> tuple[list[Any], str]:
    """What the action is made of; a gripper that tells changes is made to tell its state."""
    found: list[Any] = [leaf.name for leaf in action]
    hints = [" + ".join(str(leaf.size) for leaf in action) + " numbers"]
    unused = [leaf for leaf in numbers if leaf.path[0].startswith("action")]
    unused = [leaf.name for leaf in unused if leaf not in action]
    hints += [f"left out: {quoted(unused)}"] if unused else []
    grips = [i for i, name in enumerate(names) if _GRIP in name.lower()]
    if grips:
        hints.append(_gripper(values[:, grips[0]]))
    if grips and _tells_changes(values[:, grips[0]]) and grips[0] == values.shape[1] - 1:
        last, width = action[-1], action[-1].size
        absolute = {"feature": last.name, "then": (("absolute_gripper", CHANGE),)}
        if width > 1:
            found.insert(-1, {"feature": last.name, "columns": (0, width - 1)})
            absolute["columns"] = (width - 1, width)
        found[-1] = absolute
    return found, "; ".join(hints)


def _tells_changes(column: np.ndarray) -> bool:
    return bool(column.min() < 0 < column.max() and (column == 0).mean() > 0.5)


def _gripper(column: np.ndarray) -> str:
    levels = np.unique(column)
    if _tells_changes(column):
        return "the gripper is mostly 0: it tells changes, made absolute here if > 0 closes it"
    if len(levels) > FEW:
        return f"the gripper runs from {levels[0]:.4g} to {levels[-1]:.4g}: which end is open?"
    return f"the gripper takes {', '.join(f'{v:.4g}' for v in levels)}: which one is open?"


def bounds(names: Sequence[str], values: np.ndarray) -> tuple[str | list[Bound], str]:
    """q01..q99 for all dimensions, but for those where that would leave bins of no width."""
    found = [_bound(name, values[:, i]) for i, name in enumerate(names)]
    rules = [rule for rule, _ in found]
    odd = [f"{name} {why}" for name, (_, why) in zip(names, found, strict=True) if why]
    reason = "; ".join(odd) or "the outer 1 % at either end share a bin; or min_max, (low, high)"
    return ("q01_q99" if set(rules) == {"q01_q99"} else rules), reason


def _bound(name: str, column: np.ndarray) -> tuple[Bound, str]:
    low, high = float(column.min()), float(column.max())
    if _GRIP in name.lower() and _tells_changes(column):
        return (0.0, 1.0), "is 0 or 1 once it is absolute"
    if low == high:
        return (low - 1.0, high + 1.0), f"is constant at {low:.6g}"
    levels = np.unique(column)
    if len(levels) <= FEW:
        return (low, high), f"is a switch: {', '.join(f'{v:.6g}' for v in levels)}"
    q01, q99 = np.quantile(column, [0.01, 0.99])
    return ("q01_q99", "") if q01 < q99 else ("min_max", "has q01 = q99")
