"""The operations against loops over single steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rt2.data import operations
from rt2.data.errors import DataError

# near the thresholds more often than not
NUMBERS = st.sampled_from([-1.0, -0.11, -0.1, -0.04, 0.0, 0.04, 0.05, 0.1, 0.11, 0.5, 0.95, 0.96, 1.0])
EPISODES = st.lists(st.lists(NUMBERS, max_size=6), min_size=1, max_size=5)


def joined(episodes, width=1):
    """All values [N, width] float32, and where the episodes begin."""
    lengths = [len(episode) for episode in episodes]
    values = np.array([v for episode in episodes for v in episode], np.float32)
    return np.repeat(values[:, None], width, axis=1), np.concatenate([[0], np.cumsum(lengths)])


def each(episodes, function):
    found = [function([np.float32(v) for v in episode]) for episode in episodes]
    return np.array([v for episode in found for v in episode], float)


def absolute(changes):
    found = []
    for t in range(len(changes)):
        state = None
        for change in reversed(changes[: t + 1]):
            if state is None and abs(change) > np.float32(0.1):
                state = 0.0 if change > 0 else 1.0
        for change in changes:
            if state is None and abs(change) > np.float32(0.1):
                state = 1.0 if change > 0 else 0.0
        found.append(1.0 if state is None else state)
    return found


def binary(values):
    found = []
    for t in range(len(values)):
        state = None
        for value in values[t:]:
            if state is None and value > np.float32(0.95):
                state = 1.0
            if state is None and value < np.float32(0.05):
                state = 0.0
        found.append(values[-1] if state is None else state)
    return found


def difference(values):
    return [b - a for a, b in zip(values[:-1], values[1:], strict=True)] + [np.nan] * bool(values)


@given(EPISODES)
@settings(deadline=None)
def test_operations_on_episodes_equal_loops(episodes):
    values, first = joined(episodes, width=2)
    for found, wanted in (
        (operations.absolute_gripper(values, first, 0.1), each(episodes, absolute)),
        (operations.binary_gripper(values, first, 0.05, 0.95), each(episodes, binary)),
        (operations.difference(values, first), each(episodes, difference)),
    ):
        assert found.shape == values.shape
        np.testing.assert_array_equal(found[:, 0], wanted)
        np.testing.assert_array_equal(found[:, 1], wanted)


def rotation(axis, angle):
    """A rotation matrix by Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def of_euler(roll, pitch, yaw):
    axes = np.eye(3)
    turns = ((axes[2], yaw), (axes[1], pitch), (axes[0], roll))
    return np.linalg.multi_dot([rotation(*turn) for turn in turns])


@given(arrays.arrays(float, 3, elements=st.floats(-1, 1)), st.floats(-3.1, 3.1))
@settings(deadline=None)
def test_rotations_keep_what_they_turn(axis, angle):
    length = np.linalg.norm(axis)
    if length < 1e-3:
        axis, length = np.array([0.0, 0.0, 1.0]), 1.0
    axis = axis / length
    quaternion = np.append(np.sin(angle / 2) * axis, np.cos(angle / 2))
    wanted = rotation(axis, angle)
    for scale in (1.0, -2.0):  # the sign and the length of a quaternion do not matter
        euler = operations.euler_from_quaternion(scale * quaternion[None])[0]
        np.testing.assert_allclose(of_euler(*euler), wanted, atol=1e-6)
    euler = operations.euler_from_axis_angle((axis * angle)[None])[0]
    np.testing.assert_allclose(of_euler(*euler), wanted, atol=1e-6)


def test_no_rotation_at_all():
    np.testing.assert_array_equal(operations.euler_from_axis_angle(np.zeros((2, 3))), 0)
    with pytest.raises(DataError, match="takes 4 columns, got 3"):
        operations.euler_from_quaternion(np.zeros((2, 3)))


def test_pointwise():
    values = np.array([[-1.0, 0.25, 3.0]], np.float32)
    np.testing.assert_array_equal(operations.negate(values), [[1, -0.25, -3]])
    np.testing.assert_array_equal(operations.invert(values), [[2, 0.75, -2]])
    np.testing.assert_array_equal(operations.scale(values, 2), [[-2, 0.5, 6]])
    np.testing.assert_array_equal(operations.clip(values, 0, 1), [[0, 0.25, 1]])
    assert operations.scale(values, 2.0).dtype == np.float32
