"""Guesses which features are the action, what its numbers are, and which bounds its bins need."""

from collections.abc import Sequence

import numpy as np

from rt2.actions import LANGUAGE_TABLE, RT2
from rt2.data.errors import DataError
from rt2.data.features import Leaf
from rt2.data.rlds import RldsSteps

# RT-2 writes translation, rotation, gripper; what a name says decides where a feature goes.
_MOVES = ("world_vector", "xyz", "translation", "delta_pos", "pos_delta", "cartesian_velocity")
_TURNS = ("rotation", "rot", "rpy", "euler", "orientation")
_GRIP = "grip"
_NOT_ARM = ("terminate", "base", "mode", "discount", "reward")
SPECS = {"rt2": RT2, "language_table": LANGUAGE_TABLE}
TERMINATE = {"name": "terminate", "bins": 2, "kind": "terminate"}
FEW = 3  # a gripper with this many different values or fewer is a switch

Bound = str | tuple[float, float]


def features(numbers: Sequence[Leaf]) -> list[Leaf]:
    """The features of the action in the order of RT-2's slots.

    A feature called `action` is the whole of it; of several, those that make RT-2's seven numbers
    do, where there are such. Raises DataError where the name of none begins with "action".
    """
    found = [leaf for leaf in numbers if leaf.path[0].startswith("action")]
    if not found:
        names = ", ".join(leaf.name for leaf in numbers) or "none"
        raise DataError(f"no step feature is called action*; the numbers are: {names}")
    whole = [leaf for leaf in found if leaf.name == "action"]
    arm = [leaf for leaf in found if not _says(leaf, _NOT_ARM)]
    return whole or _rt2_parts(arm) or arm or found


def _says(leaf: Leaf, words: Sequence[str]) -> bool:
    return any(word in leaf.name.lower() for word in words)


def _rt2_parts(leaves: Sequence[Leaf]) -> list[Leaf]:
    """Three and three numbers, or six, and a gripper: the first of each; empty where one lacks."""
    moves = [leaf for leaf in leaves if _says(leaf, _MOVES)]
    turns = [leaf for leaf in leaves if _says(leaf, _TURNS) and leaf.size == 3]
    grips = [leaf for leaf in leaves if _says(leaf, (_GRIP,)) and leaf.size == 1]
    both = [leaf for leaf in moves if leaf.size == 6]
    three = [leaf for leaf in moves if leaf.size == 3]
    if both and grips:
        return [both[0], grips[0]]
    return [three[0], turns[0], grips[0]] if three and turns and grips else []


def why(action: Sequence[Leaf], numbers: Sequence[Leaf]) -> str:
    """How many numbers each feature has, and what was left out."""
    sizes = " + ".join(str(leaf.size) for leaf in action)
    out = [leaf for leaf in numbers if leaf.path[0].startswith("action") and leaf not in action]
    return f"{sizes} numbers" + (f"; left out: {quoted([leaf.name for leaf in out])}" * bool(out))


def quoted(names: Sequence[str]) -> str:
    """The names in quotes, joined by commas."""
    return ", ".join(map(repr, names))


def values(steps: RldsSteps, action: Sequence[Leaf]) -> np.ndarray:
    """The numbers of all steps of the split, float64 [N, D]."""
    split = steps.split
    columns = [split.column(f"{leaf.key}.value").reshape(split.steps, -1) for leaf in action]
    return np.concatenate([np.asarray(column, np.float64) for column in columns], axis=1)


def slots(action: Sequence[Leaf], values: np.ndarray) -> tuple[str | list[dict], str]:
    """The action spec and what it stands for."""
    dim = values.shape[1]
    if dim == RT2.dim:
        return "rt2", f"terminate {' '.join(slot.name for slot in RT2.continuous)}: see the order"
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


def gripper(names: Sequence[str], values: np.ndarray) -> str:
    """What the numbers of the gripper look like; empty where no slot is called so."""
    found = [i for i, name in enumerate(names) if _GRIP in name.lower()]
    if not found:
        return ""
    column = values[:, found[0]]
    levels = np.unique(column)
    if len(levels) > FEW:
        return f"the gripper runs from {levels[0]:.4g} to {levels[-1]:.4g}: which end is open?"
    shown = ", ".join(f"{level:.4g}" for level in levels)
    if levels[0] < 0 < levels[-1] and (column == 0).mean() > 0.5:
        return f"the gripper takes {shown}, mostly 0: it tells changes, RT-2 wants the state"
    return f"the gripper takes {shown}: which one is open?"


def bounds(names: Sequence[str], values: np.ndarray) -> tuple[str | list[Bound], str]:
    """q01..q99 for all dimensions, but for those where that would leave a bin of no width."""
    found = [_bound(values[:, i]) for i in range(values.shape[1])]
    rules = [rule for rule, _ in found]
    odd = [f"{name} {why}" for name, (_, why) in zip(names, found, strict=True) if why]
    reason = "; ".join(odd) or "1 % at either end trains as the outer bin; or min_max, (low, high)"
    return ("q01_q99" if set(rules) == {"q01_q99"} else rules), reason


def _bound(column: np.ndarray) -> tuple[Bound, str]:
    low, high = float(column.min()), float(column.max())
    if low == high:
        return (low - 1.0, high + 1.0), f"is constant at {low:.6g}"
    if len(np.unique(column)) <= FEW:
        return (low, high), f"is a switch: {', '.join(f'{v:.6g}' for v in np.unique(column))}"
    q01, q99 = np.quantile(column, [0.01, 0.99])
    return ("q01_q99", "") if q01 < q99 else ("min_max", "has q01 = q99")
