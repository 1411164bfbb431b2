"""Demonstrations: episodes of the oracle on boards of the objects that the robot data may show.

While it demonstrates, its actions are disturbed before they are executed and recorded undisturbed,
so that the data also shows how to recover (DART: Laskey et al., 2017). Instructions are English.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rt2 import prompts
from rt2.sim import jpeg, oracle, questions, render, scenes, tabletop

NOISE_M = 0.008  # standard deviation of the disturbance per axis and step
_ATTEMPTS = 10


class Step(NamedTuple):
    """One step as RLDS has it. rgb: JPEG bytes; action: the oracle's, float32 [2], metres."""

    rgb: bytes
    effector_position: np.ndarray
    action: np.ndarray
    reward: float


@dataclasses.dataclass(frozen=True)
class Episode:
    """A successful episode, its last step the final observation and a zero action not to be learnt.

    place: the cell "x y" of the target's centre at the start, as answers about web pictures.
    seed, num_objects: what `TabletopEnv.reset` was given; attempts: how many episodes were tried
    for this one.
    """

    episode_id: str
    task: str
    target: str
    place: str
    instruction: str
    seed: int
    num_objects: int
    attempts: int
    steps: tuple[Step, ...]


def demonstrate(
    seed: int, split: str, index: int, task: str, *, objects: Sequence[int], image_size: int
) -> Episode:
    """Returns episode `index` of a split ("train", "val"): the same for the same arguments.

    objects: how many may lie on the board; one of these numbers is drawn for the episode.

    An episode in which the disturbed oracle fails is tried again from another start; RuntimeError
    after ten failures.
    """
    env = tabletop.TabletopEnv(task=task, image_size=image_size)
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, _SPLIT_CODES[split], index, attempt])
        episode_seed = int(rng.integers(2**31))
        num_objects = int(rng.choice(objects)) if len(objects) > 1 else objects[0]
        steps = _roll(env, episode_seed, num_objects, rng)
        if steps[-2].reward > 0:
            return Episode(
                episode_id=f"{split}-{index:06d}",
                task=task,
                target=env.scene.names[env.scene.target],
                place=_place(env.scene),
                instruction=env.scene.instruction,
                seed=episode_seed,
                num_objects=num_objects,
                attempts=attempt + 1,
                steps=tuple(steps),
            )
    raise RuntimeError(
        f"the oracle failed {_ATTEMPTS} times at {task}, {split} episode {index}, seed {seed}"
    )


def _place(scene: scenes.Scene) -> str:
    where = scene.positions[scene.target] / render.BOARD_M
    return prompts.integers(questions.cell(float(fraction)) for fraction in where)


_SPLIT_CODES = {"train": 0, "val": 1}


def _roll(
    env: tabletop.TabletopEnv, seed: int, num_objects: int, rng: np.random.Generator
) -> list[Step]:
    observation, _ = env.reset(seed=seed, options={"num_objects": num_objects})
    steps, done = [], False
    while not done:
        clean = oracle.action(env.state)
        seen = jpeg.encode(observation["rgb"]), observation["effector_position"]
        observation, reward, terminated, truncated, _ = env.step(_disturbed(clean, rng))
        steps.append(Step(*seen, clean, reward))
        done = terminated or truncated
    last = jpeg.encode(observation["rgb"]), observation["effector_position"]
    return [*steps, Step(*last, np.zeros(2, np.float32), 0.0)]


def _disturbed(action: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The action with noise, which is cut off where it would leave the action space."""
    noisy = action + rng.normal(0.0, NOISE_M, 2)
    return np.clip(noisy, -tabletop.MAX_STEP_M, tabletop.MAX_STEP_M)
