"""Scripted policies that solve the tasks from the true state: the demonstrators."""

import math

import numpy as np

from rt2.sim import goals, paths, physics, tabletop

_SKIRT_M = 0.008  # how far beyond contact the effector passes by an object
_REACH_GAP_M = 0.004  # reach ends this far beyond contact, inside tabletop.REACH_M
_BEHIND_M = physics.CONTACT_M + 0.012  # where a push begins, from the object's centre
_PUSH_CONE_RAD = math.radians(28)  # behind the object within this angle: push; else walk round
_NUDGE_M = 0.01  # the least step of a push, and how far past its bound one ends
_COMPASS = np.arange(16) * math.pi / 8
_SWERVE_GAIN = 2.0  # how strongly the pushing effector returns to the line behind the object


def action(state: tabletop.State) -> np.ndarray:
    """Returns the oracle's action: float32 [2], metres, of length at most MAX_STEP_M."""
    move = _reach(state) if state.goal is None else _push(state)
    return _limited(move).astype(np.float32)


def _reach(state: tabletop.State) -> np.ndarray:
    target = state.positions[state.target]
    others = np.delete(state.positions, state.target, axis=0)
    way = _way(state.effector, target, others)
    if way is target:
        way = _short_of(state.effector, target, physics.CONTACT_M + _REACH_GAP_M)
    return way - state.setpoint


def _push(state: tabletop.State) -> np.ndarray:
    """Walks behind the target, then pushes it along the shortest way for it to its goal."""
    target, point = state.positions[state.target], _place(state)
    line = _direction(target, _object_waypoint(state, point))
    offset = target - state.effector
    distance, along = math.hypot(*offset), float(offset @ line)
    if distance < _BEHIND_M + 0.02 and along > distance * math.cos(_PUSH_CONE_RAD):
        sideways = offset - along * line
        speed = min(tabletop.MAX_STEP_M, math.hypot(*(point - target)) + _NUDGE_M)
        return speed * _direction(np.zeros(2), line + _SWERVE_GAIN * sideways / distance)
    behind = np.clip(target - _BEHIND_M * line, *physics.WORKSPACE_M)
    return _way(state.effector, behind, state.positions) - state.setpoint


def _place(state: tabletop.State) -> np.ndarray:
    """Where the pushed object is to go: float [2], metres."""
    if state.goal.within is not None:
        return state.goal.point(state.positions)
    return _away(state)


def _away(state: tabletop.State) -> np.ndarray:
    """The nearest place apart from the goal's object that the effector can push the target to."""
    target, other = state.positions[state.target], state.goal.point(state.positions)
    others = np.delete(state.positions, state.target, axis=0)
    ways = np.stack([np.cos(_COMPASS), np.sin(_COMPASS)], axis=-1)
    # where the line from the target leaves the circle about the other object
    along = ways @ (target - other)
    reach = (goals.APART_M + _NUDGE_M) ** 2 - math.hypot(*(target - other)) ** 2
    lengths = -along + np.sqrt(along**2 + max(reach, 0.0))
    ends, behind = target + lengths[:, None] * ways, target - _BEHIND_M * ways
    room = _gaps(behind, others) - physics.CONTACT_M
    crowd = _gaps(ends, others) - 2 * physics.OBJECT_RADIUS_M
    off = np.abs(ends - np.clip(ends, *physics.OBJECT_RANGE_M)).max(axis=-1)
    cost = lengths - 10 * np.minimum(room, 0) - 10 * np.minimum(crowd, 0) + 50 * off
    return ends[cost.argmin()]


def _gaps(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Metres from each point [P, 2] to the nearest of the others [N, 2]: float [P]."""
    return np.hypot(*(points[:, None] - others[None]).transpose(2, 0, 1)).min(axis=1)


def _object_waypoint(state: tabletop.State, point: np.ndarray) -> np.ndarray:
    """Where the pushed object should head next, the other objects standing in its way."""
    joined = [state.target, state.goal.row] if state.task == "push" else [state.target]
    others = np.delete(state.positions, joined, axis=0)
    gap = 2 * physics.OBJECT_RADIUS_M + _SKIRT_M
    target = state.positions[state.target]
    return paths.next_waypoint(target, point, others, gap, physics.OBJECT_RANGE_M)


def _way(start: np.ndarray, end: np.ndarray, obstacles: np.ndarray) -> np.ndarray:
    return paths.next_waypoint(
        start, end, obstacles, physics.CONTACT_M + _SKIRT_M, physics.WORKSPACE_M
    )


def _short_of(start: np.ndarray, end: np.ndarray, gap: float) -> np.ndarray:
    """Returns the point on the way from start to end that is `gap` before the end."""
    return end - gap * _direction(start, end)


def _direction(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    leg = end - start
    return leg / max(math.hypot(*leg), 1e-9)


def _limited(move: np.ndarray) -> np.ndarray:
    return move * min(1.0, tabletop.MAX_STEP_M / max(math.hypot(*move), 1e-9))
