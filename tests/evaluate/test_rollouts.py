from types import SimpleNamespace

import numpy as np
import pytest

from rt2.evaluate import rollouts
from rt2.evaluate.agents import CheckpointAgent, OracleAgent, RandomAgent, RandomObjectAgent
from rt2.sim.tabletop import MAX_STEP_M, MAX_STEPS

INVALID = {
    "no actions": {"terminate": False},
    "nan": {"actions": np.array([[np.nan, 0.0]]), "terminate": False},
    "out of the box": {"actions": np.array([[2 * MAX_STEP_M, 0.0]]), "terminate": False},
    "three numbers": {"actions": np.zeros((1, 3)), "terminate": False},
    "two actions": {"actions": np.zeros((2, 2)), "terminate": False},
    "no row": {"actions": np.zeros((0, 2)), "terminate": False},
    "text": {"actions": "left", "terminate": False},
}


class Fixed:
    """A policy that gives every row one reply, and records how it was asked."""

    def __init__(self, reply, history=1):
        self.reply, self.requests = reply, []
        self.preprocess = SimpleNamespace(history=history)

    def infer_batch(self, observations):
        self.requests.append(observations)
        return [self.reply] * len(observations)


def play(agent, episodes=4, tasks=("reach",), names=("seen",), batch=3, seed=0):
    queue = rollouts.trials(tasks, names, episodes, seed)
    return list(rollouts.play(agent, queue, batch, image_size=32))


def test_the_oracle_succeeds_and_no_action_of_it_is_invalid():
    (row,) = rollouts.summarise(play(OracleAgent(), episodes=10))
    assert (row["success"].hits, row["success"].n, row["invalid"]) == (10, 10, 0)
    assert row["steps"].n == 10 and row["actions"] == 10 * row["steps"].value


def test_going_to_a_random_object_succeeds_about_one_time_in_three():
    (row,) = rollouts.summarise(play(RandomObjectAgent(), episodes=60, batch=20))
    assert 8 <= row["success"].hits <= 32  # 20 expected of 60 with 3 objects


@pytest.mark.parametrize("reply", INVALID.values(), ids=INVALID)
def test_an_invalid_action_is_counted_and_the_arm_holds(reply):
    agent = CheckpointAgent(Fixed(reply), batch=2)
    (episode,) = play(agent, episodes=1)
    assert episode.invalid == episode.replies == MAX_STEPS["reach"]
    assert not np.any(episode.actions) and not episode.success


def test_a_valid_action_is_carried_out_as_it_is():
    action = np.array([[0.02, -0.03]], np.float32)
    reply = {"actions": action, "terminate": False}
    (episode, *_) = play(CheckpointAgent(Fixed(reply), batch=4))
    assert episode.invalid == 0
    np.testing.assert_array_equal(episode.actions[0], action[0])


def test_terminate_ends_an_episode_that_is_not_done_as_a_failure():
    reply = {"actions": np.zeros((1, 2)), "terminate": True}
    (episode,) = play(CheckpointAgent(Fixed(reply), batch=1), episodes=1)
    assert (episode.success, episode.replies, len(episode.actions)) == (False, 1, 0)


def test_requests_always_have_the_full_batch_with_pictures_of_the_asked_size():
    policy = Fixed({"actions": np.zeros((1, 2)), "terminate": False})
    episodes = play(CheckpointAgent(policy, batch=3), episodes=4)
    assert len(episodes) == 4
    assert {len(request) for request in policy.requests} == {3}
    first = policy.requests[0][0]
    assert [picture.shape for picture in first["image"]] == [(32, 32, 3)]
    assert isinstance(first["instruction"], str) and first["dataset"] == "tabletop"
    states = [tuple(request[0]["state"]) for request in policy.requests]
    assert len(states[0]) == 2 and len(set(states)) > 1  # of each episode its own


def test_a_policy_with_history_sees_the_last_pictures_oldest_first():
    move = {"actions": np.array([[-0.03, 0.0]]), "terminate": False}
    policy = Fixed(move, history=2)
    play(CheckpointAgent(policy, batch=1), episodes=1)
    seen = [request[0]["image"] for request in policy.requests[:3]]
    assert [len(pictures) for pictures in seen] == [1, 2, 2]
    np.testing.assert_array_equal(seen[2][0], seen[1][1])
    assert not np.array_equal(seen[2][0], seen[2][1])


def test_results_depend_on_the_seed_and_not_on_the_batch():
    def outcome(batch, seed=0):
        episodes = play(RandomAgent(), episodes=6, batch=batch, seed=seed)
        return sorted((e.trial.seed, e.instruction, e.success, np.sum(e.actions)) for e in episodes)

    assert outcome(1) == outcome(4)
    assert outcome(4, seed=1) != outcome(4)


def test_unknown_splits_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'sen'.*seen, web_only, held_out"):
        rollouts.trials(("reach",), ("sen",), 1, 0)


def test_films_show_the_first_outcomes_in_order_and_end_as_the_episode_did():
    episodes = play(OracleAgent(), episodes=3) + play(RandomAgent(), episodes=3)
    films = rollouts.videos(episodes, each=2)
    outcomes = [film.success for film in films]
    assert outcomes == sorted(outcomes)  # failures first
    assert outcomes.count(True) == 2 and outcomes.count(False) == 2
    for film in films:
        assert len(film.frames) == film.steps + 1
        assert film.frames[0].shape == (rollouts.VIDEO_SIZE, rollouts.VIDEO_SIZE, 3)
        assert not np.array_equal(film.frames[0], film.frames[-1])
