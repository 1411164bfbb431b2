import numpy as np

from rt2.sim import paths

SPAN = (0.0, 1.0)
START, END = np.array([0.1, 0.5]), np.array([0.9, 0.5])


def walk(start, end, centres, radius, span=SPAN, step=0.02):
    """Follows the waypoints; returns the path [T, 2]."""
    path = [start]
    for _ in range(200):
        leg = paths.next_waypoint(path[-1], end, centres, radius, span) - path[-1]
        path.append(path[-1] + leg * min(1, step / max(np.hypot(*leg), 1e-9)))
        if np.hypot(*(path[-1] - end)) < 1e-6:
            break
    return np.array(path)


def test_a_free_way_is_straight():
    centres = np.array([[0.5, 0.9]])
    assert (paths.next_waypoint(START, END, centres, 0.2, SPAN) == END).all()
    assert (paths.next_waypoint(START, END, np.zeros((0, 2)), 0.2, SPAN) == END).all()


def test_a_disc_is_walked_round_on_the_shorter_side():
    path = walk(START, END, np.array([[0.5, 0.45]]), 0.2)
    assert np.hypot(*(path - (0.5, 0.45)).T).min() > 0.199
    assert path[:, 1].max() > 0.6  # below the disc, its centre being above the straight line
    assert np.hypot(*(path[-1] - END)) < 1e-6
    assert np.hypot(*np.diff(path, axis=0).T).sum() < 0.95


def test_the_way_stays_within_the_span():
    path = walk(START, END, np.array([[0.5, 0.45]]), 0.2, span=(0.0, 0.62))
    assert path[:, 1].max() <= 0.62
    assert np.hypot(*(path[-1] - END)) < 1e-6 or path[:, 1].min() < 0.3


def test_a_start_inside_a_disc_still_gets_out():
    path = walk(np.array([0.45, 0.5]), END, np.array([[0.5, 0.5]]), 0.1)
    assert np.hypot(*(path[-1] - END)) < 1e-6
