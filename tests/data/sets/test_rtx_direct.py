"""Sets of Open X-Embodiment whose grippers say where they are, and DROID."""

import numpy as np

from tests.data.sets.rt1_features import (
    flag,
    language,
    motion,
    plain_actions,
    rows,
)


def test_berkeley_cable_routing(of, generate, compare):
    cameras = ("image", "top_image", "wrist225_image", "wrist45_image")
    observation = dict.fromkeys(cameras, of.image(128, 128)) | language(of)
    directory = generate(
        {
            "action": plain_actions(of, {}),
            "observation": observation | {"robot_state": of.tensor(7)},
            "reward": of.scalar(np.float32),
            **of.flags,
        },
        terminate_episode=flag,
    )

    @rows
    def oracle(observation, action, steps, t):
        return [*motion(action), 0], observation["robot_state"]

    compare(directory, "berkeley_cable_routing", oracle, "image")


def test_roboturk(of, generate, compare):
    gripper = {"gripper_closedness_action": of.tensor(1)}
    directory = generate(
        {
            "action": plain_actions(of, gripper),
            "observation": {"front_rgb": of.image(480, 640), **language(of)},
            "reward": of.scalar(np.float32),
            **of.flags,
        },
        terminate_episode=flag,
    )

    @rows
    def oracle(observation, action, steps, t):
        closed = min(max(action["gripper_closedness_action"][0], 0), 1)
        return [*motion(action), 1 - closed], None

    compare(directory, "roboturk", oracle, "front_rgb")


def test_viola(of, generate, compare):
    observation = {
        "agentview_rgb": of.image(224, 224),
        "ee_states": of.tensor(16),
        "eye_in_hand_rgb": of.image(224, 224),
        "gripper_states": of.tensor(1),
        "joint_states": of.tensor(7),
        **language(of),
    }
    directory = generate(
        {
            "action": plain_actions(of, {"gripper_closedness_action": np.float32}),
            "observation": observation,
            "reward": of.scalar(np.float32),
            **of.flags,
        },
        terminate_episode=flag,
    )

    @rows
    def oracle(observation, action, steps, t):
        closed = min(max(action["gripper_closedness_action"], 0), 1)
        state = [*observation["joint_states"], *observation["gripper_states"]]
        return [*motion(action), 1 - closed], state

    compare(directory, "viola", oracle, "agentview_rgb")


def test_toto(of, generate, compare):
    observation = {"image": of.image(480, 640), **language(of), "state": of.tensor(7)}
    directory = generate(
        {
            "action": plain_actions(of, {"open_gripper": np.bool_}),
            "observation": observation,
            "reward": of.scalar(np.float32),
            **of.flags,
        },
        terminate_episode=flag,
    )

    @rows
    def oracle(observation, action, steps, t):
        return [*motion(action), 1.0 if action["open_gripper"] else 0.0], observation["state"]

    examples = compare(directory, "toto", oracle, "image")
    assert set(examples.actions[:, 6]) == {0, 1}


def test_bc_z(of, generate, compare):
    action = {
        "future/axis_angle_residual": of.tensor(30),
        "future/target_close": of.tensor(10, dtype=np.int64),
        "future/xyz_residual": of.tensor(30),
    }
    observation = {
        "episode_success": np.float32,
        "image": of.image(171, 213, encoding="jpeg"),
        **language(of),
        "present/autonomous": np.int64,
        "present/axis_angle": of.tensor(3),
        "present/intervention": np.int64,
        "present/sensed_close": of.tensor(1),
        "present/xyz": of.tensor(3),
        "sequence_length": np.int64,
    }
    directory = generate(
        {
            "action": action,
            "observation": observation,
            "reward": of.scalar(np.float32),
            **of.flags,
        },
    )

    def oracle(metadata, steps):
        for t, step in enumerate(steps):
            seen, action = step["observation"], step["action"]
            xyz, turn = action["future/xyz_residual"], action["future/axis_angle_residual"]
            gripper = 1 - float(action["future/target_close"][0])
            state = [*seen["present/xyz"], *seen["present/axis_angle"]]
            text = seen["natural_language_instruction"].decode()
            action = [*xyz[:3], *turn[:3], gripper]
            yield t, action, t == len(steps) - 1, text, [*state, *seen["present/sensed_close"]]

    compare(directory, "bc_z", oracle, "image")


def test_droid(of, generate, compare):
    sizes = {"cartesian_position": 6, "gripper_position": 1, "joint_position": 7}
    speeds = {"cartesian_velocity": 6, "gripper_velocity": 1, "joint_velocity": 7}
    doubles = {name: of.tensor(n, dtype=np.float64) for name, n in (sizes | speeds).items()}
    cameras = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
    observation = dict.fromkeys(cameras, of.image(180, 320, encoding="jpeg"))
    observation |= {name: doubles[name] for name in sizes}
    texts = [f"language_instruction{suffix}" for suffix in ("", "_2", "_3")]
    steps = {
        "action": of.tensor(7, dtype=np.float64),
        "action_dict": doubles,
        "discount": of.scalar(np.float32),
        "reward": of.scalar(np.float32),
        "observation": observation,
        **dict.fromkeys(texts, of.long_text),
        **of.flags,
    }
    metadata = dict.fromkeys(("file_path", "recording_folderpath"), of.text)
    paths = ("gs://r/AUTOLab/success/a.h5", "gs://r/AUTOLab/failure/b.h5", "gs://r/CLVR/success/c")

    def velocity(episode, t):
        rests = t in (1, 4)  # the last step of the first episode among them
        return np.zeros(6) if rests else np.random.default_rng(10 * episode + t).normal(0, 0.4, 6)

    directory = generate(
        steps,
        {"episode_metadata": metadata},
        file_path=lambda episode, t: paths[episode],
        language_instruction=lambda episode, t: "" if episode == 2 else "close the drawer",
        cartesian_velocity=velocity,
    )

    def oracle(metadata, steps):
        moves = [t for t, s in enumerate(steps) if any(s["action_dict"]["cartesian_velocity"])]
        for t in moves:
            step = steps[t]
            text = step["language_instruction"].decode()
            if b"success" not in metadata["episode_metadata"]["file_path"] or not text:
                continue
            seen, action = step["observation"], step["action_dict"]
            values = [*action["cartesian_velocity"], 1 - action["gripper_position"][0]]
            state = [*seen["cartesian_position"], *seen["gripper_position"]]
            yield t, values, t == moves[-1], text, state

    examples = compare(directory, "droid", oracle, "exterior_image_1_left")
    assert list(examples.dropped.values()) == [6, 4, 2]
