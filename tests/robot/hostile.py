"""Hostile policies and an arm that writes down what it is told; also used by experiments."""

import numpy as np

from rt2.robot.gate import Gate, Rules
from rt2.robot.limits import rt2_arm

LOW = np.array([-0.05] * 3 + [-0.25] * 3 + [0.0])
HIGH = np.array([0.05] * 3 + [0.25] * 3 + [1.0])
LIMITS = rt2_arm((-0.3, -0.3, 0.0), (0.3, 0.3, 0.5))
START = np.array([0.0, 0.0, 0.2, 3.0, 0.0, -3.1, 0.5])
NASTY = (np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, -5e-324, 0.0, 1e-310, 0.051, -0.051, 2.0)


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Recorder:
    """An arm: keeps every command with its time."""

    def __init__(self, clock):
        self.clock, self.commands = clock, []
        self.armed = {0: clock()}  # when the gate was armed last before a command, by its index

    def __call__(self, command) -> None:
        self.commands.append((self.clock(), command))

    @property
    def moves(self) -> list:
        return [command for _, command in self.commands if not command.hold]


def gated(rules=Rules()) -> tuple[Gate, Recorder, Clock]:  # noqa: B008
    """An armed gate, what it sends to and its clock."""
    clock = Clock()
    arm = Recorder(clock)
    gate = Gate(LIMITS, rules, LOW, HIGH, arm, clock)
    gate.arm(START)
    return gate, arm, clock


def action(rng: np.random.Generator):
    """Mostly what a policy could say, pushed to its bounds; else anything at all."""
    kind = rng.integers(8)
    good = rng.uniform(LOW, HIGH)
    if kind < 4:
        return good
    if kind == 4:
        return np.where(rng.random(7) < 0.5, LOW, HIGH)
    if kind == 5:
        good[rng.integers(7)] = NASTY[rng.integers(len(NASTY))]
        return good
    if kind == 6:
        return good.astype(rng.choice([np.float32, np.float16, np.int64]))
    shapes = ((), (0,), (6,), (8,), (1, 7), (7, 1))
    forms = (None, "1234567", ["0"] * 7, [[1], 2], good * 1j, good.astype(object), {})
    return forms[rng.integers(7)] if rng.random() < 0.5 else np.zeros(shapes[rng.integers(6)])


def sequence(seed: int, steps: int = 12) -> Recorder:
    """One hostile episode: actions, delays, stale and replayed stamps, clock jumps, re-armings."""
    rng = np.random.default_rng(seed)
    gate, arm, clock = gated(Rules(clips=1000))
    stamps = []
    for step in range(steps):
        clock.now += (0.2, 0.01, 0.0, 0.45, 3.0)[rng.choice(5, p=(0.6, 0.15, 0.1, 0.1, 0.05))]
        stamps.append(gate.observe(np.array([step]), clock.now - rng.choice([0, 0.1, 0.4])))
        clock.now += rng.choice([0.0, 0.05, 0.29, 0.31])
        chosen = stamps[-1] if rng.random() < 0.8 else stamps[rng.integers(len(stamps))]
        gate.act(action(rng), chosen, terminate=rng.random() < 0.02)
        gate.watch()
        if gate.reason and rng.random() < 0.7:
            gate.arm(arm.commands[-1][1].pose if arm.commands else START)
            arm.armed[len(arm.commands)] = clock.now
    return arm


def violations(arm: Recorder, period: float = 0.2) -> list[str]:
    """Which limits the commands broke, reckoned from poses and times alone."""
    broken = []
    place, then, speed = START, 0.0, np.zeros(7)
    for i, (now, command) in enumerate(arm.commands):
        pose = command.pose
        if not np.isfinite(pose).all():
            broken.append("not finite")
            continue
        moved = pose - place
        moved[3:6] = (moved[3:6] + np.pi) % (2 * np.pi) - np.pi
        low, high = np.array([-0.3, -0.3, 0, *[-np.pi] * 3, 0]), [0.3, 0.3, 0.5, *[np.pi] * 3, 1]
        if (pose < low - 1e-9).any() or (pose > np.array(high) + 1e-9).any():
            broken.append("workspace")
        if (np.abs(moved) > np.array([0.1] * 3 + [0.4] * 3 + [1.0]) + 1e-9).any():
            broken.append("step")
        seconds = min(period, now - max(then, arm.armed.get(i, 0.0)))
        norms = [np.linalg.norm(moved[:3]), np.linalg.norm(moved[3:6]), abs(moved[6])]
        if (np.array(norms) > np.array([0.25, 1.0, 5.0]) * seconds + 1e-9).any():
            broken.append("speed")
        gain = np.array([2.0] * 3 + [8.0] * 3 + [50.0]) * seconds
        faster = moved > np.maximum(0, speed + gain) * seconds + 1e-9
        if (faster | (moved < np.minimum(0, speed - gain) * seconds - 1e-9)).any():
            broken.append("acceleration")
        if np.abs(moved - command.change).max() > 1e-9:
            broken.append("another change than the poses say")
        if command.hold and np.abs(moved).any():
            broken.append("a hold that moves")
        speed = moved / seconds if seconds > 0 and not command.hold else np.zeros(7)
        place, then = pose, now
    return broken
