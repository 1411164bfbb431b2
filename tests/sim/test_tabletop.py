import gymnasium.utils.env_checker
import numpy as np
import pytest

from rt2.sim import goals, oracle, physics, scenes, splits, tabletop


@pytest.fixture(scope="module")
def env():
    return tabletop.TabletopEnv()


def play(env, policy, seed, **options):
    """Plays an episode; returns its last info and its frames."""
    observation, info = env.reset(seed=seed, options=options)
    frames, done = [observation["rgb"]], False
    while not done:
        observation, reward, terminated, truncated, info = env.step(policy(env))
        assert reward == float(terminated) == float(info["success"])
        frames.append(observation["rgb"])
        done = terminated or truncated
    return info, frames


def follow_oracle(env):
    return oracle.action(env.state)


@pytest.mark.filterwarnings("ignore")
def test_gymnasium_accepts_it(env):
    gymnasium.utils.env_checker.check_env(env, skip_render_check=True)


@pytest.mark.parametrize("task", scenes.TASKS)
def test_an_episode_repeats_bit_for_bit(env, task):
    _, frames = play(env, follow_oracle, 5, task=task)
    _, again = play(tabletop.TabletopEnv(), follow_oracle, 5, task=task)
    assert len(frames) == len(again)
    assert all((one == other).all() for one, other in zip(frames, again, strict=True))
    _, other = play(env, follow_oracle, 6, task=task)
    assert (other[0] != frames[0]).any()


def test_observation_and_info(env):
    observation, info = env.reset(seed=3)
    assert env.observation_space.contains(observation)
    assert observation["rgb"].shape == (64, 64, 3) and observation["rgb"].dtype == np.uint8
    assert info["target"] in observation["instruction"]
    assert not info["success"] and info["distance"] > 0
    assert (observation["effector_position"] == env.state.effector.astype(np.float32)).all()
    assert (env.render() == observation["rgb"]).all() and env.frame(200).shape == (200, 200, 3)


def test_scenes_keep_their_distances(env):
    for seed in range(60):
        env.reset(seed=seed, options={"task": "push" if seed % 2 else "reach"})
        positions, effector = env.state.positions, env.state.effector
        gaps = np.hypot(*(positions[:, None] - positions[None]).transpose(2, 0, 1))
        assert gaps[np.triu_indices(3, 1)].min() >= scenes.SEPARATION_M
        clearance = np.hypot(*(positions - effector).T).min()
        assert clearance >= scenes.CLEARANCE_M[3] + 0.085
        assert set(env.scene.names) <= set(splits.SEEN_BY_ROBOT)


@pytest.mark.parametrize("count", range(1, scenes.MAX_OBJECTS + 1))
def test_every_number_of_objects_finds_room(env, count):
    for seed in range(20):
        env.reset(seed=seed, options={"num_objects": count})
        assert len(env.state.positions) == count


def test_reach_succeeds_on_touching_the_target_and_no_other(env):
    names = ("hammer", "fox", "crown")
    info, _ = play(env, follow_oracle, 1, objects=names)
    assert info["success"] and info["target"] == "hammer"
    assert np.hypot(*(env.state.positions[0] - env.state.effector)) <= physics.CONTACT_M + 0.01

    def to_the_wrong_one(env):
        return np.clip(env.state.positions[1] - env.state.setpoint, -0.02, 0.02)

    failed = [play(env, to_the_wrong_one, seed, objects=names)[0]["success"] for seed in range(10)]
    assert sum(failed) <= 2  # a target that stands in the way is touched in passing


def test_push_succeeds_when_the_target_lies_beside_the_goal(env):
    info, _ = play(env, follow_oracle, 1, task="push", objects=("hammer", "fox", "crown"))
    assert info["success"] and (info["target"], info["goal"]) == ("hammer", "fox")
    state = env.state
    assert np.hypot(*(state.positions[0] - state.positions[1])) <= goals.PUSH_M
    assert np.hypot(*(state.positions[0] - env.scene.positions[0])) > 0.05


@pytest.mark.parametrize("task", scenes.TASKS)
def test_an_idle_robot_runs_out_of_steps(env, task):
    info, frames = play(env, lambda env: np.zeros(2), 2, task=task)
    assert not info["success"] and len(frames) == tabletop.MAX_STEPS[task] + 1


def test_other_languages_and_pools(env):
    options = {"objects": ("strawberry", "hammer"), "task": "push", "language": "es"}
    observation, _ = env.reset(seed=0, options=options)
    assert "fresa" in observation["instruction"] and "martillo" in observation["instruction"]
    assert env.observation_space.contains(observation)
    env.reset(seed=0, options={"pool": splits.load().web_only})
    assert set(env.scene.names) <= set(splits.load().web_only)


@pytest.mark.parametrize(
    "action, message",
    [
        ([0.041, 0.0], "out of bounds.*0.04"),
        ([np.nan, 0.0], "not finite"),
        ([0.0, 0.0, 0.0], r"shape \(2,\)"),
    ],
)
def test_a_bad_action_is_refused_and_changes_nothing(env, action, message):
    env.reset(seed=0)
    before = env.state.effector
    with pytest.raises(ValueError, match=message):
        env.step(np.array(action))
    assert (env.state.effector == before).all()
    env.step(env.action_space.high)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"taks": "reach"}, "did you mean 'task'"),
        ({"task": "rech"}, "reach, push"),
        ({"objects": ("hamer",)}, "hammer"),
        ({"objects": ("hammer", "hammer")}, "once"),
        ({"objects": ()}, "1 to 5"),
        ({"objects": ("hammer",), "task": "push"}, "2 to 5"),
        ({"num_objects": 6}, "1 to 5"),
        ({"num_objects": 0}, "num_objects 0"),
        ({"pool": ("hammer",)}, "pool of 1"),
        ({"language": "it"}, "en, es, fr, de"),
        ({"background": "wood"}, "board, plain, patterned"),
    ],
)
def test_bad_options_are_refused(env, options, message):
    with pytest.raises(ValueError, match=message):
        env.reset(seed=0, options=options)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="at least 32"):
        tabletop.TabletopEnv(image_size=8)
    with pytest.raises(ValueError, match="rgb_array"):
        tabletop.TabletopEnv(render_mode="human")
    with pytest.raises(RuntimeError, match="reset"):
        tabletop.TabletopEnv().step(np.zeros(2))
