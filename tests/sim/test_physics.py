import numpy as np

from rt2.sim import physics

AWAY = (0.05, 0.05)


def test_the_effector_follows_its_setpoint_and_stays_in_the_workspace():
    world = physics.World(np.zeros((0, 2)), [], (0.3, 0.3))
    world.advance((0.04, -0.02))
    assert np.abs(world.effector - (0.34, 0.28)).max() < 0.002
    for _ in range(20):
        world.advance((0.04, 0.0))
    assert np.abs(world.effector - (physics.WORKSPACE_M[1], 0.28)).max() < 0.002
    world.advance((-0.04, 0.0))  # the setpoint has not run away beyond the edge
    assert world.effector[0] < physics.WORKSPACE_M[1] - 0.03


def test_pushing_moves_what_is_pushed_and_nothing_else():
    start = np.array([[0.3, 0.3], [0.3, 0.5]])
    world = physics.World(start, [0.0, 0.0], (0.18, 0.3))
    for _ in range(4):
        world.advance((0.03, 0.0))
    moved = world.positions - start
    assert 0.06 < moved[0, 0] < 0.1 and abs(moved[0, 1]) < 0.005
    assert np.abs(moved[1]).max() < 1e-9
    gap = np.hypot(*(world.positions[0] - world.effector))
    assert gap > physics.CONTACT_M - 0.003


def test_what_is_not_pushed_stops():
    world = physics.World(np.array([[0.3, 0.3]]), [0.0], (0.2, 0.3))
    world.advance((0.04, 0.0))
    for _ in range(5):
        world.advance((0.0, 0.0))
    before = world.positions
    assert 0.01 < before[0, 0] - 0.3 < 0.04  # it does not coast far
    world.advance((0.0, 0.0))
    assert np.abs(world.positions - before).max() < 1e-4


def test_objects_stay_on_the_board_and_out_of_each_other():
    rng = np.random.default_rng(0)
    start = np.array([[0.2, 0.2], [0.4, 0.2], [0.3, 0.4]])
    world = physics.World(start, [0.0] * 3, AWAY)
    for _ in range(300):
        target = world.positions[rng.integers(3)]
        world.advance(np.clip(target - world.effector, -0.04, 0.04))
        low, high = physics.OBJECT_RANGE_M
        assert low - 0.01 < world.positions.min() and world.positions.max() < high + 0.01
        gaps = np.hypot(*(world.positions[:, None] - world.positions[None]).transpose(2, 0, 1))
        assert gaps[np.triu_indices(3, 1)].min() > 2 * physics.OBJECT_RADIUS_M - 0.01


def test_an_off_centre_push_turns_the_object():
    world = physics.World(np.array([[0.3, 0.3]]), [0.0], (0.18, 0.33))
    for _ in range(5):
        world.advance((0.03, 0.0))
    assert world.positions[0, 1] < 0.299
