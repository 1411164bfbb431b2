"""Where a pushed object is to end up: the families of Language-Table (Lynch et al. 2022).

    push      block to block: the target lies beside another object
    place     block to absolute location: at one of nine points of the board
    beside    block to block, relative location: on a named side of another object, left where it is
    shift     block to relative location: so far from where it began, in one of eight directions
    separate  separate blocks: away from an object that it began close to

Their thresholds are for blocks a quarter as wide as these objects; here they are for objects of
OBJECT_DIAMETER_M on a board of BOARD_M.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from rt2.sim import physics, render

PUSH_M = render.OBJECT_DIAMETER_M + 0.03  # target's to goal's centre
PLACE_M = 0.08  # target's centre to the point of the board
BESIDE_M = 0.06  # and to the point BESIDE_OFFSET_M from the other object's centre
BESIDE_OFFSET_M = 0.19
SHIFT_M = 0.06  # and to the point so far from its start
SHIFTS_M = {"a little ": 0.12, "": 0.20}
APART_M = 0.25  # least distance of two separated objects' centres
KEPT_M = 0.05  # the other object may be moved so far from its start

_ROOM_M = 2 * physics.OBJECT_RADIUS_M + 0.01  # from a place to every object that stands there
_LEAST_WAY_M = 0.05  # beyond a success's bound at the start
# The eight sides, clockwise from the left, and the ways towards them.
_SIDES = {
    "left": "to the left",
    "top left": "up and to the left",
    "top": "up",
    "top right": "up and to the right",
    "right": "to the right",
    "bottom right": "down and to the right",
    "bottom": "down",
    "bottom left": "down and to the left",
}
_COLUMNS = {"left": 0.15, "": render.BOARD_M / 2, "right": 0.45}
_ROWS = {"top": 0.15, "": render.BOARD_M / 2, "bottom": 0.45}


@dataclasses.dataclass(frozen=True)
class Goal:
    """What of an object's place is asked.

    words: how an instruction names it, "" where the other object's name says all.
    row: the object it refers to, None for a point of the board. offset: (x, y) metres from that
    object's centre or the board's corner. within: metres from there that are near enough; None
    where the target is to be APART_M from the object instead. start: (x, y) metres, where the
    object began if it must stay, else None.
    """

    words: str = ""
    row: int | None = None
    offset: tuple[float, float] = (0.0, 0.0)
    within: float | None = None
    start: tuple[float, float] | None = None

    def point(self, positions: np.ndarray) -> np.ndarray:
        """Returns the place that is meant, float [2] metres, for objects at `positions` [N, 2]."""
        origin = np.zeros(2) if self.row is None else positions[self.row]
        return origin + self.offset

    def missing(self, positions: np.ndarray, target: int) -> float:
        """Returns the metres missing to success: negative or zero once the target lies there."""
        distance = math.hypot(*(positions[target] - self.point(positions)))
        left = APART_M - distance if self.within is None else distance - self.within
        if self.start is None:
            return left
        return max(left, math.hypot(*(positions[self.row] - self.start)) - KEPT_M)


def draw(
    rng: np.random.Generator, task: str, positions: np.ndarray, target: int, other: int | None
) -> Goal | None:
    """Returns a random goal of `task` for positions[target]; None where no one has room.

    positions: [N, 2] metres; other: the row of the object that the goal may refer to.
    """
    if task == "push":
        return Goal(row=other, within=PUSH_M)
    if task == "separate":
        return Goal(row=other, start=tuple(positions[other]))
    fitting = [
        goal for goal in _all(task, positions, target, other) if _fits(goal, positions, target)
    ]
    return fitting[rng.integers(len(fitting))] if fitting else None


def _all(task: str, positions: np.ndarray, target: int, other: int | None) -> Iterator[Goal]:
    if task == "place":
        for top, y in _ROWS.items():
            for left, x in _COLUMNS.items():
                yield Goal(f"{top} {left}".strip() or "centre", None, (x, y), PLACE_M)
    for side, way in _ways():
        if task == "beside":
            offset = tuple(BESIDE_OFFSET_M * way)
            yield Goal(side, other, offset, BESIDE_M, tuple(positions[other]))
        elif task == "shift":
            for far, metres in SHIFTS_M.items():
                yield Goal(
                    f"{far}{_SIDES[side]}", None, tuple(positions[target] + metres * way), SHIFT_M
                )


def _ways() -> Iterator[tuple[str, np.ndarray]]:
    """The eight sides with their unit vectors, y down."""
    for i, side in enumerate(_SIDES):
        angle = math.pi - i * math.pi / 4
        yield side, np.array([math.cos(angle), -math.sin(angle)])


def _fits(goal: Goal, positions: np.ndarray, target: int) -> bool:
    """Whether the place is on the board, free, and not where the target already lies."""
    point, (low, high) = goal.point(positions), physics.OBJECT_RANGE_M
    others = np.delete(positions, target, axis=0)
    free = all(math.hypot(*(point - other)) >= _ROOM_M for other in others)
    inside = (point >= low).all() and (point <= high).all()
    return inside and free and goal.missing(positions, target) >= _LEAST_WAY_M
