"""What an arm may do: workspace, step, speed and acceleration, as sets that hold standing still.

Every limit is a convex set of changes of the pose that contains "no change". A change is cut to the
box of the limits of single axes, then shrunk towards zero until each unit's speed is kept;
shrinking leaves no set that contains zero, so all limits hold together, whatever was asked for.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from rt2.errors import UserError

TURN = 2 * np.pi


class LimitError(UserError):
    """Limits or a pose that make no sense; the message names the axis."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """One number of an action. An angle with room for a full turn has no end: it wraps."""

    name: str
    low: float  # of the pose, in `unit`
    high: float
    step: float  # largest change by one command
    acceleration: float  # largest gain of speed, per second; slowing down is not limited
    unit: str = ""  # m, rad or "" (a gripper's opening)
    relative: bool = True  # actions are added to the pose; if not, they are the pose

    @property
    def wraps(self) -> bool:
        """Whether the axis is an angle that may go round and round."""
        return self.unit == "rad" and self.high - self.low >= TURN


@dataclasses.dataclass(frozen=True)
class Limits:
    """The axes of an arm, D of them in the order of the policy's action, and its speeds."""

    axes: tuple[Axis, ...]
    # the largest Euclidean norm over the axes of a unit, per second; 0.25 m/s is the usual speed
    # beside people (ISO 10218 calls it reduced speed)
    speeds: Mapping[str, float]

    def __post_init__(self) -> None:
        for axis in self.axes:
            numbers = (axis.low, axis.high, axis.step, axis.acceleration)
            if not np.isfinite(numbers).all() or axis.low >= axis.high:
                raise LimitError(f"{axis.name}: limits {numbers}; give finite ones, low < high")
            if min(axis.step, axis.acceleration, self.speeds.get(axis.unit, 0)) <= 0:
                raise LimitError(
                    f"{axis.name}: step, acceleration and the speed of unit {axis.unit!r} must be "
                    "above 0"
                )

    @functools.cached_property
    def low(self) -> np.ndarray:
        """float64 [D], lowest pose; -inf on axes that wrap."""
        return np.array([-np.inf if axis.wraps else axis.low for axis in self.axes])

    @functools.cached_property
    def high(self) -> np.ndarray:
        """float64 [D], highest pose; inf on axes that wrap."""
        return np.array([np.inf if axis.wraps else axis.high for axis in self.axes])

    @functools.cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step and acceleration, float64 [D]; which axes wrap and which are relative, bool [D]."""
        rows = [(a.step, a.acceleration, a.wraps, a.relative) for a in self.axes]
        step, acceleration, wraps, relative = map(np.array, zip(*rows, strict=True))
        return step, acceleration, wraps, relative

    @functools.cached_property
    def _units(self) -> list[tuple[np.ndarray, float]]:
        """The axes of each unit and their speed."""
        units = np.array([axis.unit for axis in self.axes])
        return [(np.flatnonzero(units == unit), speed) for unit, speed in self.speeds.items()]

    def check(self, pose: np.ndarray) -> np.ndarray:
        """The pose as float64 [D], wrapped. Raises LimitError on any other form or place."""
        pose = np.array(pose, np.float64)
        if pose.shape != (len(self.axes),) or not np.isfinite(pose).all():
            raise LimitError(f"pose: {pose}, expected {len(self.axes)} finite numbers")
        pose = self.wrap(pose)
        for axis, value, low, high in zip(self.axes, pose, self.low, self.high, strict=True):
            if not low <= value <= high:
                raise LimitError(
                    f"{axis.name}: {value:g} is outside {low:g} .. {high:g}; move the arm into its "
                    "workspace by hand first"
                )
        return pose

    def wrap(self, angles: np.ndarray) -> np.ndarray:
        """The same pose or difference with wrapping axes in [-pi, pi)."""
        return np.where(self._columns[2], np.mod(angles + np.pi, TURN) - np.pi, angles)

    def change(self, pose: np.ndarray, action: np.ndarray) -> np.ndarray:
        """The change of the pose that an action asks for; angles go the short way round."""
        return np.where(self._columns[3], action, self.wrap(action - pose))

    def clip(
        self, pose: np.ndarray, velocity: np.ndarray, change: np.ndarray, seconds: float
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """The change that is allowed within `seconds`, and the names of the axes it was cut on.

        `velocity` is that of the command before, per second. All arrays are float64 [D].
        """
        step, acceleration, _, _ = self._columns
        gain = acceleration * seconds
        least = np.maximum(-step, np.minimum(0, velocity - gain) * seconds)
        most = np.minimum(step, np.maximum(0, velocity + gain) * seconds)
        least, most = np.maximum(least, self.low - pose), np.minimum(most, self.high - pose)
        allowed = np.minimum(np.maximum(change, least), most)
        for rows, speed in self._units:
            norm = np.linalg.norm(allowed[rows])
            if norm > speed * seconds:
                allowed[rows] *= speed * seconds / norm
        cut = np.abs(allowed - change) > 1e-9
        return allowed, tuple(a.name for a, is_cut in zip(self.axes, cut, strict=True) if is_cut)


def rt2_arm(
    low: tuple[float, float, float], high: tuple[float, float, float], speed: float = 0.25
) -> Limits:
    """Limits for RT-2's seven numbers (dx dy dz droll dpitch dyaw gripper) in a box in metres."""
    places = [
        Axis(name, a, b, 0.1, 2.0, "m")
        for name, a, b in zip(("dx", "dy", "dz"), low, high, strict=True)
    ]
    turns = [Axis(name, -np.pi, np.pi, 0.4, 8.0, "rad") for name in ("droll", "dpitch", "dyaw")]
    gripper = Axis("gripper", 0.0, 1.0, 1.0, 50.0, relative=False)
    return Limits((*places, *turns, gripper), {"m": speed, "rad": 1.0, "": 5.0})
