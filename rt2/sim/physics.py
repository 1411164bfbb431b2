"""The tabletop's mechanics: round bodies on a board, and a disc that moves among them.

Metres and seconds, x to the right, y down; the board's corner is the origin. Gravity points into
the board, so its whole effect is the damping that stops what is not pushed.
"""

import math
from collections.abc import Sequence

import numpy as np
import pymunk

from rt2.sim import render

EFFECTOR_RADIUS_M = 0.015
OBJECT_RADIUS_M = 0.06  # solid part; the drawn one is larger (render.OBJECT_DIAMETER_M)
CONTACT_M = EFFECTOR_RADIUS_M + OBJECT_RADIUS_M
WORKSPACE_M = (0.015, render.BOARD_M - 0.015)  # where the effector's centre may be, both axes
OBJECT_RANGE_M = (0.105, render.BOARD_M - 0.105)  # and an object's: the effector fits behind it
CONTROL_PERIOD_S = 0.1

_SUBSTEPS = 20
_KEPT_PER_SECOND = 1e-10  # share of its speed that a free body keeps after a second
_EFFECTOR_FORCE_N = 40.0  # it stalls against a pile at the wall instead of crushing it
_OBJECT_KG = 0.1
_EFFECTOR_KG = 1.0
_FRICTION = 0.4
_WALL = pymunk.ShapeFilter(categories=0b01)
_EFFECTOR = pymunk.ShapeFilter(categories=0b10, mask=pymunk.ShapeFilter.ALL_MASKS() ^ 0b01)


class World:
    """Objects and the effector; `advance` moves its setpoint and lets a control period pass."""

    def __init__(
        self, positions: np.ndarray, angles: Sequence[float], effector: Sequence[float]
    ) -> None:
        """positions: [N, 2] metres; angles: [N] radians; effector: (x, y) metres."""
        self._space = pymunk.Space()
        self._space.damping = _KEPT_PER_SECOND
        self._space.iterations = 20
        self._add_walls()
        self._objects = [self._add_object(*place) for place in zip(positions, angles, strict=True)]
        self._hand = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        self._effector = self._add_effector(effector)
        self._setpoint = np.asarray(effector, np.float64)

    @property
    def effector(self) -> np.ndarray:
        """The effector's centre: float64 [2], metres."""
        return np.array(self._effector.position)

    @property
    def setpoint(self) -> np.ndarray:
        """Where the effector is bound: float64 [2], metres."""
        return self._setpoint.copy()

    @property
    def positions(self) -> np.ndarray:
        """The objects' centres: float64 [N, 2], metres."""
        return np.array([body.position for body in self._objects]).reshape(-1, 2)

    @property
    def angles(self) -> np.ndarray:
        """The objects' rotations since upright: float64 [N], radians."""
        return np.array([body.angle for body in self._objects])

    def advance(self, displacement: Sequence[float]) -> None:
        """Moves the setpoint by (dx, dy) metres, within the workspace, for CONTROL_PERIOD_S."""
        self._setpoint = np.clip(
            self._setpoint + np.asarray(displacement, np.float64), *WORKSPACE_M
        )
        travel = self._setpoint - np.array(self._hand.position)
        self._hand.velocity = tuple(travel / CONTROL_PERIOD_S)
        for _ in range(_SUBSTEPS):
            self._space.step(CONTROL_PERIOD_S / _SUBSTEPS)
        self._hand.velocity = (0.0, 0.0)
        self._hand.position = tuple(self._setpoint)

    def _add_walls(self) -> None:
        low, high = (OBJECT_RANGE_M[0] - OBJECT_RADIUS_M, OBJECT_RANGE_M[1] + OBJECT_RADIUS_M)
        corners = ((low, low), (high, low), (high, high), (low, high))
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            wall = pymunk.Segment(self._space.static_body, start, end, 0.0)
            wall.filter = _WALL
            wall.friction = _FRICTION
            self._space.add(wall)

    def _add_object(self, position: np.ndarray, angle: float) -> pymunk.Body:
        body = pymunk.Body(_OBJECT_KG, pymunk.moment_for_circle(_OBJECT_KG, 0, OBJECT_RADIUS_M))
        body.position, body.angle = tuple(position), float(angle)
        shape = pymunk.Circle(body, OBJECT_RADIUS_M)
        shape.friction = _FRICTION
        self._space.add(body, shape)
        return body

    def _add_effector(self, position: Sequence[float]) -> pymunk.Body:
        """A disc that a limited force draws to a hand, which follows the setpoint exactly."""
        body = pymunk.Body(_EFFECTOR_KG, math.inf)
        body.position = self._hand.position = (float(position[0]), float(position[1]))
        shape = pymunk.Circle(body, EFFECTOR_RADIUS_M)
        shape.filter, shape.friction = _EFFECTOR, 0.0
        pull = pymunk.PivotJoint(self._hand, body, (0, 0), (0, 0))
        pull.max_force, pull.error_bias = _EFFECTOR_FORCE_N, (1 - 0.4) ** 60
        self._space.add(body, shape, self._hand, pull)
        return body
