"""The gate: what is let through, what is held, what latches."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt2.robot.gate import Gate, Rules
from rt2.robot.limits import Axis, LimitError, Limits
from tests.robot import hostile
from tests.robot.hostile import HIGH, LIMITS, LOW, START, gated

STILL = np.array([0, 0, 0, 0, 0, 0, 0.5])


def frame(number: int) -> np.ndarray:
    return np.full((4, 4, 3), number, np.int64)


def step(gate, clock, action=STILL, number=None, **options):
    """One tick of a loop: 0.2 s, a new frame, an action."""
    clock.now += 0.2
    stamp = gate.observe(frame(number if number is not None else int(clock.now * 5) % 251))
    return gate.act(action, stamp, **options)


def test_a_good_action_moves_the_arm_by_what_it_says():
    gate, arm, clock = gated()
    wanted = np.array([0.02, -0.01, 0.01, 0.05, 0.0, -0.05, 0.9])
    command = step(gate, clock, wanted)
    np.testing.assert_allclose(command.pose[:3], START[:3] + wanted[:3])
    np.testing.assert_allclose(command.pose[3:6], [3.05, 0.0, -3.15 + 2 * np.pi])  # wrapped
    assert command.pose[6] == 0.9 and not command.hold and command.clipped == ()
    assert [c for _, c in arm.commands] == [command]


BAD = {
    "NaN": STILL + np.array([np.nan, 0, 0, 0, 0, 0, 0]),
    "infinite": STILL + np.array([0, 0, 0, 0, 0, 0, np.inf]),
    "huge": STILL + np.array([0, 1e300, 0, 0, 0, 0, 0]),
    "beyond the bounds": STILL + np.array([0, 0.0501, 0, 0, 0, 0, 0]),
    "below the bounds": STILL + np.array([0, 0, -0.0501, 0, 0, 0, 0]),
    "short": STILL[:6],
    "long": np.append(STILL, 0),
    "a chunk": STILL[None],
    "text": ["0"] * 7,
    "objects": STILL.astype(object),
    "complex": STILL * 1j,
    "ragged": [[1], 2],
    "nothing": None,
}


@pytest.mark.parametrize("action", BAD.values(), ids=BAD)
def test_what_is_no_action_holds_and_latches(action):
    gate, arm, clock = gated()
    step(gate, clock, np.where(STILL == 0.5, 0.7, 0.01))
    pose = arm.commands[-1][1].pose
    command = step(gate, clock, action)
    assert command.hold and "action" in command.reason and gate.reason == command.reason
    np.testing.assert_array_equal(command.pose, pose)  # the gripper does not let go either
    assert not command.change.any()
    sent = len(arm.commands)
    assert step(gate, clock).hold and len(arm.commands) == sent  # latched: silence
    gate.arm(pose)
    assert not step(gate, clock).hold


def test_an_old_observation_moves_nothing_and_a_newer_one_does():
    gate, arm, clock = gated()
    clock.now += 0.2
    old = gate.observe(frame(1))
    clock.now += 0.31
    assert gate.act(STILL, old).reason.startswith("observation older")
    assert not step(gate, clock).hold


def test_the_tail_of_a_chunk_is_dropped():
    gate, arm, clock = gated()
    clock.now += 0.2
    stamp = gate.observe(frame(1))
    held = []
    for row in range(5):
        command = gate.act(STILL, type(stamp)(stamp.epoch, stamp.seq, stamp.taken, row))
        held.append(command.hold)
        clock.now += 0.2
    assert held == [False, False, True, True, True]


def test_a_reply_is_obeyed_once_and_in_order():
    gate, arm, clock = gated()
    clock.now += 0.2
    first, second = gate.observe(frame(1)), gate.observe(frame(2))
    assert not gate.act(STILL, second).hold
    assert gate.act(STILL, second).reason == "replayed"
    assert gate.act(STILL, first).reason == "replayed"


def test_a_camera_that_repeats_itself_latches():
    gate, arm, clock = gated()
    assert [step(gate, clock, number=1).hold for _ in range(3)] == [False, False, True]
    assert gate.reason.startswith("camera: 3 equal frames")


@pytest.mark.parametrize("lag", [-0.01, np.nan])
def test_a_frame_from_the_future_latches(lag):
    gate, arm, clock = gated()
    gate.observe(frame(1), clock.now - lag)
    assert gate.reason.startswith("camera")


def test_silence_latches_and_only_good_actions_break_it():
    gate, arm, clock = gated()
    clock.now += 0.4
    old = gate.observe(frame(1), clock.now - 0.35)
    gate.act(STILL, old)  # held: too old
    gate.watch()
    assert not gate.reason
    clock.now += 0.11
    gate.watch()
    assert gate.reason == "no good action for 0.5 s"


def test_limits_that_cut_again_and_again_latch():
    gate, arm, clock = gated(Rules(clips=3))
    up = np.array([0, 0, 0.05, 0, 0, 0, 0.5])
    up[:2] = 0.05
    replies = [step(gate, clock, up) for _ in range(3)]
    assert [r.hold for r in replies] == [False, False, True]
    assert set(replies[0].clipped) == {"dx", "dy", "dz"}


def test_terminate_stops():
    gate, arm, clock = gated()
    command = step(gate, clock, HIGH, terminate=True)
    assert command.hold and "ended" in gate.reason and not arm.moves


def test_a_request_from_before_the_arming_is_void():
    gate, arm, clock = gated()
    clock.now += 0.2
    stamp = gate.observe(frame(1))
    gate.stop()
    gate.arm(START)
    assert "before the gate was armed" in gate.act(STILL, stamp).reason and not arm.moves


def test_nothing_is_sent_before_the_first_arming():
    sent = []
    gate = Gate(LIMITS, Rules(), LOW, HIGH, sent.append)
    gate.act(STILL, gate.observe(frame(1)))
    gate.stop()
    gate.watch()
    assert sent == [] and gate.reason == "not armed yet"


@pytest.mark.parametrize("pose", [START * np.nan, START[:6], START + 1], ids=["NaN", "6", "out"])
def test_it_is_not_armed_at_an_impossible_pose(pose):
    gate, arm, clock = gated()
    gate.stop()
    with pytest.raises(LimitError):
        gate.arm(pose)
    assert gate.reason


def test_a_broken_arm_latches():
    def broken(command):
        raise OSError("unplugged")

    gate, _, clock = gated()
    gate._send = broken
    step(gate, clock)
    assert gate.reason == "arm: OSError: unplugged"


def test_nothing_moves_after_a_stop_from_another_thread():
    for _ in range(50):
        gate, arm, clock = gated(Rules(clips=1000, silence=1e9, max_age=1e9))
        running, stopped = threading.Event(), []

        def act(gate=gate, running=running):
            for number in range(1, 300):
                gate.act(STILL, gate.observe(frame(number)))
                running.set()

        loop = threading.Thread(target=act)
        loop.start()
        running.wait(10)
        gate.stop()
        stopped = len(arm.commands)
        loop.join(10)
        assert arm.commands[-1][1].hold and len(arm.commands) == stopped


def test_the_same_commands_at_any_time_of_day():
    runs = []
    for start in (1000.0, 1e7):
        gate, arm, clock = gated()
        clock.now = start
        gate.arm(START)
        rng = np.random.default_rng(0)
        for number in range(6):
            clock.now += 0.25
            gate.act(rng.uniform(LOW, HIGH), gate.observe(frame(number)))
        runs.append([command.pose for _, command in arm.commands])
    np.testing.assert_allclose(*runs, atol=1e-8)


@pytest.mark.parametrize("start", range(5))
def test_hostile_episodes_break_no_limit(start):
    moved = 0
    for seed in range(100 * start, 100 * start + 100):
        arm = hostile.sequence(seed)
        assert hostile.violations(arm) == [], seed
        moved += len(arm.moves)
    assert moved > 200  # what is good does get through


@pytest.mark.faults
def test_100000_hostile_episodes_break_no_limit():
    for seed in range(100_000):
        assert hostile.violations(hostile.sequence(seed)) == [], seed


@settings(max_examples=200)
@given(
    actions=st.lists(
        hnp.arrays(np.float64, 7, elements=st.floats(allow_nan=True, width=64)), max_size=6
    ),
    waits=st.lists(st.floats(0, 2), min_size=6, max_size=6),
)
def test_no_sequence_of_numbers_breaks_a_limit(actions, waits):
    gate, arm, clock = gated(Rules(max_age=3))
    for number, (action, wait) in enumerate(zip(actions, waits, strict=False)):
        stamp = gate.observe(frame(number))
        clock.now += wait
        gate.act(action, stamp)
        if gate.reason:
            gate.arm(arm.commands[-1][1].pose)
            arm.armed[len(arm.commands)] = clock.now
    assert hostile.violations(arm) == []


def boxes():
    return hnp.arrays(np.float64, 7, elements=st.floats(-1, 1))


@given(boxes(), boxes(), st.floats(0.001, 0.2))
def test_shrinking_keeps_every_limit_and_asking_for_nothing_gives_nothing(wanted, velocity, time):
    velocity = velocity * np.array([0.1] * 3 + [0.5] * 3 + [5])
    change, clipped = LIMITS.clip(START, velocity, wanted, time)
    assert (np.sign(change) * np.sign(wanted) >= 0).all()
    assert (np.abs(change) <= np.abs(wanted) + 1e-12).all()
    still, names = LIMITS.clip(START, velocity, np.zeros(7), time)
    assert not still.any() and names == ()


def test_senseless_limits_are_refused():
    for axis in (Axis("x", 1, 0, 1, 1), Axis("x", 0, np.nan, 1, 1), Axis("x", 0, 1, 0, 1)):
        with pytest.raises(LimitError, match="x"):
            Limits((axis,), {"": 1.0})
    with pytest.raises(LimitError, match="speed of unit 'm'"):
        Limits((Axis("x", 0, 1, 1, 1, "m"),), {"": 1.0})
