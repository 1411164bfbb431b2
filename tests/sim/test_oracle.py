import dataclasses

import numpy as np
import pytest

from rt2.sim import oracle, scenes, tabletop


def rate(policy, task, seeds):
    """Returns the share of episodes in which the policy succeeds."""
    env, wins = tabletop.TabletopEnv(), 0
    for seed in seeds:
        env.reset(seed=seed, options={"task": task})
        rng, terminated, truncated = np.random.default_rng(seed), False, False
        choice = rng.integers(len(env.state.positions))
        while not (terminated or truncated):
            _, _, terminated, truncated, _ = env.step(policy(env.state, rng, choice))
        wins += terminated
    return wins / len(seeds)


def scripted(state, rng, choice):
    return oracle.action(state)


def at_random(state, rng, choice):
    return rng.uniform(-tabletop.MAX_STEP_M, tabletop.MAX_STEP_M, 2)


def to_any_object(state, rng, choice):
    return oracle.action(dataclasses.replace(state, target=choice, goal=None))


@pytest.mark.parametrize("task", scenes.TASKS)
def test_the_oracle_solves_its_task(task):
    assert rate(scripted, task, range(60)) >= (0.99 if task == "reach" else 0.95)


def test_chance_does_not():
    assert rate(at_random, "reach", range(100)) <= 0.12
    assert 0.2 < rate(to_any_object, "reach", range(100)) < 0.46


def test_its_actions_are_actions():
    env = tabletop.TabletopEnv()
    for seed in range(10):
        env.reset(seed=seed, options={"task": "push"})
        action = oracle.action(env.state)
        assert action.dtype == np.float32 and action.shape == (2,)
        assert np.hypot(*action) <= tabletop.MAX_STEP_M + 1e-6
        assert env.action_space.contains(action)


def test_reach_walks_round_what_stands_between():
    env = tabletop.TabletopEnv()
    for seed in range(100):
        env.reset(seed=seed)
        before = env.state.positions[1:]
        done = False
        while not done:
            _, _, terminated, truncated, _ = env.step(oracle.action(env.state))
            done = terminated or truncated
        assert np.abs(env.state.positions[1:] - before).max() < 0.02
