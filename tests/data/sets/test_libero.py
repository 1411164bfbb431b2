"""LIBERO's four suites: one generated set stands for all, for all have the same features."""

import numpy as np
import pytest

from rt2.data.sets import libero


@pytest.fixture(scope="module")
def directory(of, generate):
    observation = {
        "image": of.image(256, 256, encoding="jpeg"),
        "wrist_image": of.image(256, 256, encoding="jpeg"),
        "state": of.tensor(8),
        "joint_state": of.tensor(7),
    }
    step = {
        "action": of.tensor(7),
        "observation": observation,
        "language_instruction": of.long_text,
        **{name: of.scalar(np.float32) for name in ("discount", "reward")},
        **{name: of.scalar(np.bool_) for name in of.flags},
    }

    def action(episode, t):
        rng = np.random.default_rng(10 * episode + t)
        gripper = (-1, 1, 0.25, 1, -1, 1)[t]
        return np.append(rng.uniform(-1, 1, 6), gripper).astype(np.float32)

    return generate(step, {"episode_metadata": {"file_path": of.long_text}}, action=action)


@pytest.mark.parametrize("name", libero.NAMES)
def test_libero(directory, compare, name):
    def oracle(metadata, steps):
        for t, step in enumerate(steps):
            action = [*step["action"][:6], 1 - min(max(step["action"][6], 0), 1)]
            text = step["language_instruction"].decode()
            yield t, action, t == len(steps) - 1, text, step["observation"]["state"]

    examples = compare(directory, name, oracle, "image")
    assert set(examples.actions[:, 6]) == {0, 0.75, 1}
