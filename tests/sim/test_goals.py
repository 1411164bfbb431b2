import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt2.evaluate import agents
from rt2.sim import goals, physics, scenes, tabletop

GOALS = [task for task in scenes.TASKS if task != "reach"]


def scene(task, seed, count=3):
    rng = np.random.default_rng(seed)
    return scenes.sample(rng, task, ("hammer", "fox", "crown", "key", "bell")[:count])


@pytest.mark.parametrize("task", GOALS)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 5))
def test_an_episode_begins_undone_and_its_place_is_on_the_board_and_free(task, seed, count):
    began = scene(task, seed, count)
    goal, positions = began.goal, began.positions
    assert goal.missing(positions, 0) > 0
    low, high = physics.OBJECT_RANGE_M
    if task in ("place", "beside", "shift"):
        point = goal.point(positions)
        assert (point >= low - 1e-9).all() and (point <= high + 1e-9).all()
        assert all(np.hypot(*(point - other)) > 0.12 for other in positions[1:])
        there = positions.copy()
        there[0] = point
        assert goal.missing(there, 0) <= 0


SIGNS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
SIGNS |= {"up": (0, -1), "down": (0, 1)}


def meant(words):
    """The direction of a place's words by reading them: -1, 0 or 1 a side, y down."""
    return np.sum([SIGNS[word] for word in words.split() if word in SIGNS] or [(0, 0)], axis=0)


@pytest.mark.parametrize("task, count", [("place", 9), ("beside", 8), ("shift", 16)])
def test_words_mean_their_places(task, count):
    seen = {}
    for seed in range(1500):
        began = scene(task, seed, 2)
        origin = {
            "place": np.full(2, 0.3),
            "beside": began.positions[1],
            "shift": began.positions[0],
        }[task]
        way = began.goal.point(began.positions) - origin
        assert (np.sign(np.round(way, 6)) == meant(began.goal.words)).all(), began.instruction
        assert began.goal.words in began.instruction
        seen.setdefault(began.goal.words, np.hypot(*way))
        if len(seen) == count:
            break
    assert len(seen) == count
    if task == "shift":
        assert all(seen[f"a little {w}"] < seen[w] for w in seen if not w.startswith("a little"))


@pytest.mark.parametrize("task", ["beside", "separate"])
def test_the_other_object_must_be_left_where_it_was(task):
    began = scene(task, 3)
    done = began.positions.copy()
    done[0] = began.goal.point(done) + (0 if task == "beside" else [0.0, goals.APART_M + 0.01])
    assert began.goal.missing(done, 0) <= 0
    dragged = done + [goals.KEPT_M + 0.01, 0.0]
    assert began.goal.missing(dragged, 0) > 0
    freed = dataclasses.replace(began.goal, start=None)
    assert freed.missing(dragged, 0) <= 0


@pytest.mark.parametrize("task", scenes.TASKS)
def test_moving_without_reading_is_no_oracle(task):
    """The control chooses another target or place in most episodes, and always one of the task."""
    env, same = tabletop.TabletopEnv(), 0
    for seed in range(40):
        env.reset(seed=seed, options={"task": task})
        running = agents.Running(env, seed, [])
        chosen = agents.RandomObjectAgent()._redirected(running)
        assert (chosen.goal is None) == (task == "reach")
        assert chosen.goal is None or chosen.goal.row != chosen.target
        same += chosen.target == 0 and chosen.goal == env.state.goal
    assert same < 30
