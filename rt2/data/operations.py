"""Operations that turn stored columns of a robot data set into the numbers of an action.

Each takes floats [N, d] of whole episodes, and returns floats [N, d'] without a loop over steps. Those in EPISODIC also take `first` int64 [E + 1], where the episodes begin.
"""

import numpy as np

from rt2.data.errors import DataError


def negate(values: np.ndarray) -> np.ndarray:
    """-x."""
    return -values


def invert(values: np.ndarray) -> np.ndarray:
    """1 - x: a gripper that says how closed it is becomes one that says how open it is."""
    return 1.0 - values


def scale(values: np.ndarray, factor: float) -> np.ndarray:
    """factor * x."""
    return factor * values


def clip(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """min(max(x, low), high)."""
    return np.clip(values, low, high)


def absolute_gripper(values: np.ndarray, first: np.ndarray, threshold: float) -> np.ndarray:
    """1 open, 0 closed, of a gripper that says what changes: x > threshold closes, < -threshold opens.

    A step without a change keeps the state. Before its first change an episode is in the state
    that the change leaves; one without any change is open throughout (RT-1's sets as Octo and
    OpenVLA read them).
    """
    change = np.where(values < -threshold, 1.0, np.where(values > threshold, 0.0, np.nan))
    before = _last_known(change, first)
    after = 1.0 - _next_known(change, first)
    return np.where(np.isfinite(before), before, np.where(np.isfinite(after), after, 1.0))


def binary_gripper(values: np.ndarray, first: np.ndarray, low: float, high: float) -> np.ndarray:
    """1 where x > high, 0 where x < low; between them the next step that is one of these decides.

    Where none follows, the episode's last value stands as it is (BridgeData V2 as Octo and OpenVLA
    read it).
    """
    known = np.where(values > high, 1.0, np.where(values < low, 0.0, np.nan))
    following = _next_known(known, first)
    lengths = np.diff(first)
    last = np.repeat(values[first[1:][lengths > 0] - 1], lengths[lengths > 0], axis=0)
    return np.where(np.isfinite(following), following, last)


def difference(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """x of the next step minus x: the motion that was reached. NaN at an episode's last step."""
    found = np.full_like(values, np.nan)
    found[:-1] = values[1:] - values[:-1]
    found[first[1:][np.diff(first) > 0] - 1] = np.nan
    return found


def euler_from_quaternion(values: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw (radians, about the fixed axes x, y, z) of quaternions x, y, z, w [N, 4]."""
    _check_width("euler_from_quaternion", values, 4)
    x, y, z, w = values.T
    norm = x * x + y * y + z * z + w * w
    roll = np.arctan2(2 * (w * x + y * z), w * w - x * x - y * y + z * z)
    pitch = np.arcsin(np.clip(2 * (w * y - z * x) / np.where(norm > 0, norm, 1.0), -1, 1))
    yaw = np.arctan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z)
    return np.stack([roll, pitch, yaw], axis=1)


def euler_from_axis_angle(values: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw (radians, about the fixed axes) of rotation vectors axis * angle [N, 3]."""
    _check_width("euler_from_axis_angle", values, 3)
    angle = np.linalg.norm(values, axis=1, keepdims=True)
    half = np.sinc(angle / (2 * np.pi)) / 2  # sin(angle / 2) / angle, also at 0
    return euler_from_quaternion(np.concatenate([half * values, np.cos(angle / 2)], axis=1))


def _check_width(name: str, values: np.ndarray, width: int) -> None:
    if values.shape[1] != width:
        raise DataError(f"{name} takes {width} columns, got {values.shape[1]}")


def _last_known(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The latest finite value up to each step of its episode, NaN where there is none."""
    rows = np.arange(len(values))[:, None]
    latest = np.maximum.accumulate(np.where(np.isfinite(values), rows, -1), axis=0)
    start = np.repeat(first[:-1], np.diff(first))[:, None]
    found = np.take_along_axis(values, np.maximum(latest, 0), axis=0)
    return np.where(latest >= start, found, np.nan)


def _next_known(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The earliest finite value from each step of its episode on, NaN where there is none."""
    backward = len(values) - first[::-1]
    return _last_known(values[::-1], backward)[::-1]


POINTWISE = {
    "negate": (negate, 0),
    "invert": (invert, 0),
    "scale": (scale, 1),
    "clip": (clip, 2),
    "euler_from_quaternion": (euler_from_quaternion, 0),
    "euler_from_axis_angle": (euler_from_axis_angle, 0),
}
EPISODIC = {
    "absolute_gripper": (absolute_gripper, 1),
    "binary_gripper": (binary_gripper, 2),
    "difference": (difference, 0),
}
"""name -> (function, how many numbers follow it in a row)."""
