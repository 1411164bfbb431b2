"""Sets of Open X-Embodiment in kitchens and bins; of most the gripper tells what changes."""

import numpy as np

from tests.data.sets.rt1_features import (
    at_the_end,
    changes,
    flag,
    language,
    motion,
    one_hot,
    plain_actions,
    relative,
    rows,
    rt1_actions,
)


def test_fractal(of, generate, compare, by_hand):
    attributes = ("collection_mode", "data_type", "env", "location", "objects_family")
    attributes = {name: np.int64 for name in (*attributes, "task_family")}
    attributes |= {f"{name}_name": of.text for name in attributes}
    aspects = ("already_success", "feasible", "has_aspects", "success", "undesirable")
    observation = {
        "base_pose_tool_reached": of.tensor(7),
        "gripper_closed": of.tensor(1),
        "gripper_closedness_commanded": of.tensor(1),
        "height_to_bottom": of.tensor(1),
        "image": of.image(256, 320, encoding="jpeg"),
        **language(of),
        "orientation_box": of.tensor(2, 3),
        "orientation_start": of.tensor(4),
        "robot_orientation_positions_box": of.tensor(3, 3),
        "rotation_delta_to_go": of.tensor(3),
        "src_rotation": of.tensor(4),
        "vector_to_go": of.tensor(3),
        "workspace_bounds": of.tensor(3, 3),
    }
    step = {"action": rt1_actions(of), "observation": observation, **of.flags}
    directory = generate(
        step | {"reward": of.scalar(np.float32)},
        {"aspects": dict.fromkeys(aspects, np.bool_), "attributes": attributes},
        gripper_closedness_action=changes(by_hand, (1,)),
        terminate_episode=one_hot(lambda e, t: e != 1 and at_the_end(e, t)),
    )

    @rows
    def oracle(observation, action, steps, t):
        state = [*observation["base_pose_tool_reached"], *observation["gripper_closed"]]
        return [*motion(action), relative(by_hand, steps, t)], state

    examples = compare(directory, "fractal20220817_data", oracle, "image")
    assert sum(examples[i].terminate for i in range(len(examples))) == 2  # episode 1 goes on
    assert examples.bounds()[1][3] == np.pi / 2


def test_kuka(of, generate, compare, by_hand):
    packed = {"encoding": "zlib"}
    observation = {
        "clip_function_input/base_pose_tool_reached": of.tensor(7, **packed),
        "clip_function_input/workspace_bounds": of.tensor(3, 3, **packed),
        "gripper_closed": of.tensor(1, **packed),
        "height_to_bottom": of.tensor(1, **packed),
        "image": of.image(512, 640, encoding="jpeg"),
        **language(of),
        "task_id": of.tensor(1, **packed),
    }
    directory = generate(
        {
            "action": rt1_actions(of),
            "observation": observation,
            "reward": of.scalar(np.float32),
            **of.flags,
        },
        {"success": np.bool_},
        gripper_closedness_action=changes(by_hand, (1,)),
        terminate_episode=one_hot(at_the_end),
        success=lambda episode, t: episode != 1,
    )

    def oracle(metadata, steps):
        for t, step in enumerate(steps if metadata["success"] else []):
            seen, action = step["observation"], step["action"]
            pose = seen["clip_function_input/base_pose_tool_reached"]
            state = [*pose, *seen["gripper_closed"]]
            gripper = relative(by_hand, steps, t)
            stops = action["terminate_episode"].argmax() == 0
            yield t, [*motion(action), gripper], stops, "pick anything", state

    examples = compare(directory, "kuka", oracle, "image")
    assert examples.episodes == 2 and examples.instructions == ("pick anything",)
    assert examples.dropped["episode without success = True"] == 6


def test_jaco_play(of, generate, compare, by_hand):
    observation = {
        "end_effector_cartesian_pos": of.tensor(7),
        "end_effector_cartesian_velocity": of.tensor(6),
        "image": of.image(224, 224),
        "image_wrist": of.image(224, 224),
        "joint_pos": of.tensor(8),
        **language(of),
    }
    names = ("gripper_closedness_action", "terminate_episode", "world_vector")
    action = {name: rt1_actions(of)[name] for name in names}
    directory = generate(
        {
            "action": action,
            "observation": observation,
            "reward": of.scalar(np.float32),
            **of.flags,
        },
        gripper_closedness_action=changes(by_hand, (1,)),
        terminate_episode=one_hot(at_the_end),
    )

    @rows
    def oracle(observation, action, steps, t):
        gripper = relative(by_hand, steps, t)
        state = observation["end_effector_cartesian_pos"]
        return [*action["world_vector"], 0, 0, 0, gripper], state

    compare(directory, "jaco_play", oracle, "image")


def test_berkeley_autolab_ur5(of, generate, compare, by_hand):
    observation = {
        "hand_image": of.image(480, 640),
        "image": of.image(480, 640),
        "image_with_depth": of.image(480, 640, 1, dtype=np.float32),
        **language(of),
        "robot_state": of.tensor(15),
    }
    directory = generate(
        {
            "action": plain_actions(of, {"gripper_closedness_action": np.float32}),
            "observation": observation,
            "reward": of.scalar(np.float32),
            **of.flags,
        },
        terminate_episode=flag,
        gripper_closedness_action=changes(by_hand, ()),
    )

    @rows
    def oracle(observation, action, steps, t):
        gripper = relative(by_hand, steps, t)
        return [*motion(action), gripper], observation["robot_state"][6:14]

    compare(directory, "berkeley_autolab_ur5", oracle, "image")


def test_taco_play(of, generate, compare):
    names = ("actions", "rel_actions_gripper", "rel_actions_world")
    observation = {
        "depth_gripper": of.tensor(84, 84),
        "depth_static": of.tensor(150, 200),
        **language(of),
        "rgb_gripper": of.image(84, 84),
        "rgb_static": of.image(150, 200),
        "robot_obs": of.tensor(15),
        "structured_language_instruction": of.text,
    }
    action = dict.fromkeys(names, of.tensor(7)) | {"terminate_episode": np.float32}
    directory = generate(
        {
            "action": action,
            "observation": observation,
            "reward": of.scalar(np.float32),
            **of.flags,
        },
        terminate_episode=flag,
    )

    @rows
    def oracle(observation, action, steps, t):
        world = action["rel_actions_world"]
        return [*world[:6], min(max(world[6], 0), 1)], observation["robot_obs"][:7]

    examples = compare(directory, "taco_play", oracle, "rgb_static")
    assert 0 < (examples.actions[:, 6] == 0).mean() < 1
