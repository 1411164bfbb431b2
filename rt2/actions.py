"""Actions as integers: a robot action is a fixed row of slots, each slot one of a few hundred bins.

RT-2 (Brohan et al. 2023, section 3.2) writes an action as eight integers,
`terminate dx dy dz droll dpitch dyaw gripper`, each continuous one in 256 uniform bins.
The bins are cells of equal width between a data set's own bounds; a value is encoded to the
nearest cell centre and decoded to that centre, so that `encode(decode(bins)) == bins` and no
value inside the bounds moves by more than half a cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from rt2.errors import UserError

CHANGES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw")  # slots in which zero moves nothing
STOP, GO_ON = 0, 1  # values of the terminate slot; the paper's mid-task examples begin with 1


class ActionError(UserError):
    """An action or a set of bounds that cannot be encoded; the message names the slot."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """One integer of an action: its name, number of bins, unit and kind."""

    name: str
    bins: int = 256
    unit: str = ""
    kind: Literal["continuous", "terminate"] = "continuous"

    @property
    def is_change(self) -> bool:
        """Whether its number is added to where the robot is (dx); if not, it is the place itself
        (gripper), or nobody has said."""
        return self.name in CHANGES


@dataclasses.dataclass(frozen=True)
class ActionSpec:
    """The grammar of an action: slots in the order in which they are written."""

    slots: tuple[Slot, ...]

    @property
    def continuous(self) -> tuple[Slot, ...]:
        """The slots that carry the D numbers of an action, in order."""
        return tuple(slot for slot in self.slots if slot.kind == "continuous")

    @property
    def dim(self) -> int:
        """D, the number of continuous values in an action."""
        return len(self.continuous)

    @property
    def bins(self) -> tuple[int, ...]:
        """Number of bins of every slot."""
        return tuple(slot.bins for slot in self.slots)


def _rt2_slots() -> tuple[Slot, ...]:
    metres = tuple(Slot(name, unit="m") for name in ("dx", "dy", "dz"))
    radians = tuple(Slot(name, unit="rad") for name in ("droll", "dpitch", "dyaw"))
    return (Slot("terminate", bins=2, kind="terminate"), *metres, *radians, Slot("gripper"))


RT2 = ActionSpec(_rt2_slots())
"""Seven end-effector dimensions after `terminate` (RT-2, section 3.2)."""

LANGUAGE_TABLE = ActionSpec((Slot("dx", bins=21, unit="m"), Slot("dy", bins=21, unit="m")))
"""Planar displacement, 21 values an axis: the paper's -10..+10 (section 4.1), shifted to 0..20."""


@dataclasses.dataclass(frozen=True)
class ActionCodec:
    """Values <-> bins for one data set.

    `low` and `high` are the outer edges of the first and the last cell of each continuous slot, in
    the data set's own units.
    """

    spec: ActionSpec
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self):
        for name, bound in (("low", self.low), ("high", self.high)):
            if len(bound) != self.spec.dim:
                names = " ".join(slot.name for slot in self.spec.continuous)
                raise ActionError(
                    f"{name} has {len(bound)} numbers, the action has {self.spec.dim}: {names}"
                )
        for slot, low, high in zip(self.spec.continuous, self.low, self.high, strict=True):
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise ActionError(
                    f"slot {slot.name!r} has bounds [{low}, {high}]: they must be finite and "
                    "low < high. A constant dimension needs explicit bounds in its dataset spec."
                )

    @property
    def cell(self) -> np.ndarray:
        """Width of a cell of every continuous slot, float64 [D]."""
        bins = np.array([slot.bins for slot in self.spec.continuous])
        return (np.array(self.high) - np.array(self.low)) / bins

    def encode(self, values: np.ndarray, terminate: np.ndarray | bool = False) -> np.ndarray:
        """Bins int32 [..., slots] of float [..., D]; `terminate` bool [...] fills its slot.

        Values outside the bounds take the outermost bin (`out_of_range` counts them).
        Raises ActionError on a wrong shape and on NaN or infinity.
        """
        values = np.asarray(values, np.float64)
        if values.shape[-1:] != (self.spec.dim,):
            raise ActionError(f"an action has {self.spec.dim} values, got shape {values.shape}")
        if not np.isfinite(values).all():
            bad = np.unique(np.nonzero(~np.isfinite(values))[-1])
            names = ", ".join(self.spec.continuous[i].name for i in bad)
            raise ActionError(f"NaN or infinite action in {names}: mend or drop the episode")
        cells = np.floor((values - self.low) / self.cell)
        last = np.array([slot.bins for slot in self.spec.continuous]) - 1
        continuous = np.clip(cells, 0, last).astype(np.int32)
        flag = np.where(np.broadcast_to(terminate, values.shape[:-1]), STOP, GO_ON)
        columns, taken = [], 0
        for slot in self.spec.slots:
            if slot.kind == "terminate":
                columns.append(flag.astype(np.int32))
            else:
                columns.append(continuous[..., taken])
                taken += 1
        return np.stack(columns, axis=-1)

    def decode(self, bins: np.ndarray) -> np.ndarray:
        """Values float32 [..., D], in the data set's units, at the centres of int [..., slots]."""
        bins = self._checked(bins)
        kept = [i for i, slot in enumerate(self.spec.slots) if slot.kind == "continuous"]
        return (self.low + (bins[..., kept] + 0.5) * self.cell).astype(np.float32)

    def terminated(self, bins: np.ndarray) -> np.ndarray:
        """Whether int [..., slots] says stop, bool [...]; False where the spec has no such slot."""
        bins = self._checked(bins)
        for i, slot in enumerate(self.spec.slots):
            if slot.kind == "terminate":
                return bins[..., i] == STOP
        return np.zeros(bins.shape[:-1], bool)

    def out_of_range(self, values: np.ndarray) -> np.ndarray:
        """How many of `values` float [N, D] lie outside the bounds, int [D]."""
        values = np.asarray(values)
        tolerance = 1e-6 * (np.array(self.high) - np.array(self.low))
        outside = (values < self.low - tolerance) | (values > self.high + tolerance)
        return outside.sum(axis=tuple(range(values.ndim - 1)))

    def _checked(self, bins: np.ndarray) -> np.ndarray:
        bins = np.asarray(bins)
        if bins.shape[-1:] != (len(self.spec.slots),) or bins.dtype.kind not in "iu":
            raise ActionError(
                f"expected integers [..., {len(self.spec.slots)}], got {bins.dtype} {bins.shape}"
            )
        if (bins < 0).any() or (bins >= self.spec.bins).any():
            raise ActionError(f"bins outside 0..{self.spec.bins} (exclusive) in {bins.tolist()}")
        return bins

    def to_json(self) -> dict[str, Any]:
        """A plain dict that `from_json` reads back."""
        slots = [dataclasses.asdict(slot) for slot in self.spec.slots]
        return {"slots": slots, "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ActionCodec:
        """The codec that `to_json` wrote."""
        spec = ActionSpec(tuple(Slot(**slot) for slot in data["slots"]))
        return cls(spec, tuple(data["low"]), tuple(data["high"]))
