"""Features that many sets of Open X-Embodiment share with RT-1's, and oracles of their steps."""

import numpy as np


def one_hot(stops):
    """terminate_episode of three modes: 0 in the last step (where `stops`), 1 before."""
    return lambda episode, t: np.array([1, 0, 0] if stops(episode, t) else [0, 1, 0], np.int32)


def at_the_end(episode, t):
    return t == (4, 5, 3)[episode]


def flag(episode, t):
    return np.float32(at_the_end(episode, t))


def changes(by_hand, shape):
    def value(episode, t):
        return np.full(shape, by_hand.CHANGES[episode][t], np.float32)

    return value


def rt1_actions(of):
    return {
        "base_displacement_vector": of.tensor(2),
        "base_displacement_vertical_rotation": of.tensor(1),
        "gripper_closedness_action": of.tensor(1),
        "rotation_delta": of.tensor(3),
        "terminate_episode": of.tensor(3, dtype=np.int32),
        "world_vector": of.tensor(3),
    }


def language(of):
    return {
        "natural_language_embedding": of.tensor(512),
        "natural_language_instruction": of.text,
    }


def plain_actions(of, gripper, **more):
    motion = {"rotation_delta": of.tensor(3), "world_vector": of.tensor(3)}
    return gripper | motion | {"terminate_episode": np.float32} | more


def rows(oracle):
    """An oracle of all steps, from a function (observation, action, steps) -> action, state."""

    def episode(metadata, steps):
        for t, step in enumerate(steps):
            action, state = oracle(step["observation"], step["action"], steps, t)
            stop = step["action"]["terminate_episode"]
            stops = stop.argmax() == 0 if np.ndim(stop) else stop == 1
            text = step["observation"]["natural_language_instruction"].decode()
            yield t, action, stops, text, state

    return episode


def motion(action):
    return [*action["world_vector"], *action["rotation_delta"]]


def relative(by_hand, steps, t):
    return by_hand.absolute(
        [np.ravel(step["action"]["gripper_closedness_action"])[0] for step in steps]
    )[t]
