"""Language-Table's sets: one generated set stands for all, for all have the same features."""

import numpy as np
import pytest

from rt2.actions import ActionCodec
from rt2.data.robot import RobotExamples
from rt2.data.sets import language_table
from rt2.data.specs import get

SENTENCES = ("push the red moon", "schiebe den grünen Stern ☆ 🟩", "x" * 512)


def code_points(episode, t):
    codes = np.zeros(512, np.int32)
    codes[: len(SENTENCES[episode])] = [ord(c) for c in SENTENCES[episode]]
    return codes


@pytest.fixture(scope="module")
def directory(of, generate):
    observation = {
        "effector_target_translation": of.tensor(2),
        "effector_translation": of.tensor(2),
        "instruction": of.tensor(512, dtype=np.int32),
        "rgb": of.image(360, 640, encoding="jpeg"),
    }
    step = {"action": of.tensor(2), "observation": observation, "reward": of.scalar(np.float32)}
    return generate(step | of.flags, {"episode_id": of.text}, instruction=code_points)


@pytest.mark.parametrize("name", language_table.NAMES)
def test_language_table(directory, compare, name):
    def oracle(metadata, steps):
        for t, step in enumerate(steps):
            if step["is_last"]:
                continue
            text = ""
            for code in step["observation"]["instruction"]:
                if code == 0:
                    break
                text += chr(code)
            state = step["observation"]["effector_translation"]
            yield t, step["action"], t == len(steps) - 2, text, state

    examples = compare(directory, name, oracle, "rgb")
    assert examples.instructions == tuple(sorted(SENTENCES))


def test_its_bins_are_whole_centimetres(directory):
    examples = RobotExamples(directory, "train", get("language_table"))
    codec = ActionCodec(examples.spec.action_spec, *examples.bounds())
    bins = np.stack([np.arange(21)] * 2, axis=1)
    np.testing.assert_allclose(codec.decode(bins)[:, 0], np.arange(-10, 11) / 100, atol=1e-8)
