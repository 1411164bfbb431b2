"""BridgeData V2 in its three forms."""

import numpy as np
import pytest

OPENNESS = ((0.5, 1, 0.6, 0.4, 0), (1, 0.5, 0.02, 0.5, 0.96, 0.7), (0.06, 0.94, 0.96, 0.01))


@pytest.fixture(scope="module")
def directory(of, generate):
    cameras = [f"image_{number}" for number in range(4)]
    observation = dict.fromkeys(cameras, of.image(256, 256, encoding="jpeg"))
    scalars = {"discount": np.float32, "reward": np.float32}
    step = {
        "action": of.tensor(7),
        "language_embedding": of.tensor(512),
        "language_instruction": of.long_text,
        "observation": observation | {"state": of.tensor(7)},
        **{name: of.scalar(dtype) for name, dtype in scalars.items()},
        **{name: of.scalar(np.bool_) for name in of.flags},
    }
    metadata = {"file_path": of.long_text, "episode_id": of.scalar(np.int32)}
    metadata |= {f"has_{camera}": of.scalar(np.bool_) for camera in cameras}
    metadata |= {"has_language": of.scalar(np.bool_)}

    def action(episode, t):
        rng = np.random.default_rng(10 * episode + t)
        return np.append(rng.normal(0, 0.02, 6), OPENNESS[episode][t]).astype(np.float32)

    return generate(step, {"episode_metadata": metadata}, action=action)


def test_bridge_dataset(directory, compare):
    def oracle(metadata, steps):
        for t, step in enumerate(steps):
            if t > 0 and not step["is_last"]:
                text, state = step["language_instruction"].decode(), step["observation"]["state"]
                yield t, step["action"], t == len(steps) - 2, text, state

    compare(directory, "bridge_dataset", oracle, "image_0")


def test_bridge_orig(directory, compare, by_hand):
    def oracle(metadata, steps):
        gripper = by_hand.binary([float(step["action"][6]) for step in steps])
        for t in range(1, len(steps) - 1):
            here, there = (steps[s]["observation"]["state"] for s in (t, t + 1))
            action = [there[d] - here[d] for d in range(6)] + [gripper[t]]
            text = steps[t]["language_instruction"].decode()
            yield t, action, t == len(steps) - 2, text, here

    examples = compare(directory, "bridge_orig", oracle, "image_0")
    ends = {"first step": 3, "last step": 3}
    assert examples.dropped == {"episode too short": 0, "empty instruction": 0, **ends}


def test_bridge(of, generate, compare):
    action = {
        "open_gripper": np.bool_,
        "rotation_delta": of.tensor(3),
        "terminate_episode": np.float32,
        "world_vector": of.tensor(3),
    }
    observation = {
        "image": of.image(480, 640),
        "natural_language_embedding": of.tensor(512),
        "natural_language_instruction": of.text,
        "state": of.tensor(7),
    }
    step = {"action": action, "observation": observation, "reward": of.scalar(np.float32)}

    def oracle(metadata, steps):
        for t in range(1, len(steps) - 1):
            here, there = (steps[s]["observation"]["state"] for s in (t, t + 1))
            action = [there[d] - here[d] for d in range(6)]
            action.append(1.0 if steps[t]["action"]["open_gripper"] else 0.0)
            text = steps[t]["observation"]["natural_language_instruction"].decode()
            yield t, action, t == len(steps) - 2, text, here

    compare(generate(step | of.flags), "bridge", oracle, "image")
