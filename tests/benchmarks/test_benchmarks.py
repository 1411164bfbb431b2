"""The contract of every adapter, with fakes of the simulators."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rt2.benchmarks import __main__ as command
from rt2.benchmarks import language_table, libero, simpler, suite
from rt2.data import specs
from rt2.robot.client import NoReplyError
from tests.benchmarks import fakes


class Policy:
    """Gives its replies in turn, the last one for ever."""

    def __init__(self, *replies):
        self.replies, self.seen, self.resets = list(replies), [], 0

    def infer(self, observation):
        self.seen.append(observation)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def reset(self):
        self.resets += 1


def action(*values, **more):
    return {"actions": np.array([values], np.float32), "terminate": False} | more


@pytest.fixture
def table(monkeypatch):
    fakes.language_table(monkeypatch)
    return language_table.LanguageTable()


@pytest.fixture
def kitchen(monkeypatch):
    fakes.libero(monkeypatch)
    return libero.Libero("goal")


@pytest.mark.parametrize("name", ["table", "kitchen"])
def test_every_adapter_keeps_the_contract(name, request):
    found = request.getfixturevalue(name)
    assert found.episodes == 50
    spec = specs.get(found.dataset)
    assert found.idle.shape == (len(spec.action_spec.continuous),)
    for task in found.tasks:
        for episode in range(2):
            seen = found.begin(task, episode)
            for _ in range(3):
                assert seen["image"].dtype == np.uint8 and seen["image"].ndim == 3
                assert isinstance(seen["instruction"], str) and seen["instruction"]
                assert seen["state"].dtype == np.float32 and np.isfinite(seen["state"]).all()
                seen, success, over = found.step(found.idle)
                assert (success, over) == (False, False)


def test_language_table_follows_its_own_script(table):
    policy = Policy(action(0.1, 0.0))
    played = list(suite.play(table, policy, episodes=3))
    assert len(played) == 15 and policy.resets == 15
    assert {one.task for one in played} == set(language_table.REWARDS)
    assert all(one.success and one.steps == 5 for one in played)
    assert [env.how for env in fakes.Table.made] == [
        ("BLOCK_8", reward, 0) for _, reward in language_table.REWARDS.values()
    ]
    assert all(env.resets == 4 for env in fakes.Table.made)  # the third start had no plan
    assert len({env.random for env in fakes.Table.made}) == 1  # numpy's own generator too
    assert policy.seen[0]["instruction"] == "push the réd moon"
    assert policy.seen[0]["dataset"] == "language_table"


def test_language_table_ends_after_201_steps_and_clips_as_the_environment_would(table):
    [played, *_] = suite.play(table, Policy(action(0.0, 5.0)), episodes=1)
    assert not played.success and played.steps == 201
    assert fakes.Table.made[0].actions[0][1] == np.float32(0.1)


def test_language_table_episodes_come_in_order(table):
    table.begin("separate", 0)
    with pytest.raises(ValueError, match="in order"):
        table.begin("separate", 2)
    with pytest.raises(ValueError, match="in order"):
        table.begin("blocktoblock", 1)


def test_libero_settles_turns_and_flips(kitchen):
    opened = action(0.1, 0, 0, 0, 0, 0, 0.9)
    policy = Policy(opened, opened, action(0.1, 0, 0, 0, 0, 0, 0.2))
    [first, second] = suite.play(kitchen, policy, episodes=1)
    assert first.success and first.steps == 3 and first.instruction == "open the drawer"
    one, other = fakes.Kitchen.made
    assert one.closed and one.seeded == 0 and one.size == (256, 256)
    assert one.file == "/assets/bddl_files/folder/open_the_drawer.bddl"
    assert (one.state, other.state) == ((0, 0), (1, 0))
    assert one.actions[:10] == [[0.0] * 6 + [-1.0]] * 10  # open, as in LIBERO's own dummy action
    assert [a[6] for a in one.actions[10:]] == [-1.0, -1.0, 1.0]
    assert (policy.seen[0]["image"][-1, -1] == 255).all() and policy.seen[0]["image"].sum() == 765
    np.testing.assert_allclose(policy.seen[0]["state"], [0.1, 0.2, 0.3, 0, 0, 0.5, 0.04, -0.04])


@pytest.mark.parametrize("name, steps", libero.STEPS.items())
def test_libero_ends_where_openvla_does(monkeypatch, name, steps):
    fakes.libero(monkeypatch)
    [played, _] = suite.play(libero.Libero(name), Policy(action(*[0.0] * 6, 1.0)), episodes=1)
    assert (played.success, played.steps) == (False, steps)


@pytest.mark.parametrize(
    "reply, invalid",
    [
        ({}, 1),
        (action(np.nan, 0.0), 1),
        (action(0.1), 1),
        (action(0.1, 0.0, hold=True), 0),
        ({"actions": "x"}, 1),
    ],
)
def test_what_cannot_be_carried_out_idles(table, reply, invalid):
    policy = Policy(reply, action(0.1, 0.0))
    [played, *_] = suite.play(table, policy, episodes=1)
    assert played.success and played.steps == 6 and played.invalid == invalid
    assert (fakes.Table.made[0].actions[0] == 0).all()


def test_a_connection_that_was_lost_while_the_simulator_began_is_made_again(table, monkeypatch):
    monkeypatch.setattr(suite, "WAITS", (0.0, 0.0))

    class Lost(Policy):
        def reset(self):
            super().reset()
            if self.resets % 3:
                raise NoReplyError("the connection was lost")

    policy = Lost(action(0.1, 0.0))
    assert len(list(suite.play(table, policy, episodes=2))) == 10 and policy.resets == 30
    monkeypatch.setattr(suite, "WAITS", (0.0,))
    with pytest.raises(NoReplyError):
        list(suite.play(table, policy, episodes=1))


def test_a_policy_that_ends_the_episode_has_not_done_the_task(table):
    policy = Policy(action(0.1, 0.0), action(0.1, 0.0, terminate=True))
    [played, *_] = suite.play(table, policy, episodes=1)
    assert (played.success, played.steps) == (False, 1)


@pytest.mark.parametrize(
    "make, remedy", [(language_table.LanguageTable, "README"), (lambda: libero.Libero("10"), "pip")]
)
def test_a_missing_simulator_is_named_with_its_remedy(monkeypatch, make, remedy):
    for name in ("language_table", "libero"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Exception, match=remedy):
        make()


def test_simpler_gets_axis_angle_and_the_google_robots_sticky_gripper():
    rolls = (0.1, -0.2, 0.3)
    replies = [action(1, 2, 3, *rolls, opened) for opened in (1.0, 1.0, 0.0, 1.0)]
    policy = simpler.SimplerPolicy(Policy(*replies).infer, "google_robot")
    policy.reset("pick coke can")
    made = [policy.step(np.zeros((4, 4, 3), np.uint8)) for _ in range(20)]
    raw, first = made[0]
    np.testing.assert_allclose(raw["rotation_delta"], rolls, rtol=1e-6)
    turned = Rotation.from_rotvec(first["rot_axangle"]).as_matrix()
    x, y, z = (
        Rotation.from_rotvec(angle * axis) for angle, axis in zip(rolls, np.eye(3), strict=True)
    )
    np.testing.assert_allclose(turned, (z * y * x).as_matrix(), atol=1e-6)
    grips = [float(one["gripper"][0]) for _, one in made]
    # closing goes on for 15 steps, whatever comes after it
    assert grips == [0.0, 0.0] + [1.0] * 15 + [0.0] * 3
    assert set(first) == {"world_vector", "rot_axangle", "gripper", "terminate_episode"}


def test_simpler_widowx_terminates_and_begins_anew_with_another_task():
    asked = Policy(action(*[0.0] * 6, 0.2), action(*[0.0] * 6, 0.8, terminate=True))
    policy = simpler.SimplerPolicy(asked.infer, "widowx_bridge")
    image = np.zeros((4, 4, 3), np.uint8)
    _, one = policy.step(image, "put carrot on plate", np.zeros(6))
    _, other = policy.step(image, "stack the cubes")
    assert (one["gripper"], other["gripper"]) == ([-1.0], [1.0])
    assert (one["terminate_episode"], other["terminate_episode"]) == ([0.0], [1.0])
    assert [seen["instruction"] for seen in asked.seen] == [
        "put carrot on plate",
        "stack the cubes",
    ]
    assert {seen["dataset"] for seen in asked.seen} == {"bridge_orig"}
    with pytest.raises(simpler.NoActionError):
        simpler.SimplerPolicy(Policy({}).infer, "widowx_bridge").step(image, "x")
    with pytest.raises(Exception, match="widowx_bridge"):
        simpler.SimplerPolicy(asked.infer, "panda")


def test_the_command_writes_a_card(monkeypatch, tmp_path, capsys):
    fakes.language_table(monkeypatch)

    class Client(Policy):
        def __init__(self, *_, **__):
            super().__init__(action(0.1, 0.0))

        def connect(self):
            return {"model": "sha256:abc", "step": 7, "tokenizer": "sha256:def"}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(command, "Client", Client)
    card = tmp_path / "card.json"
    command.main(["--suite=language_table", "--episodes=2", f"--json={card}"])
    told = capsys.readouterr().out
    assert "100.0 % (10/10, 95 % CI 72.2-100.0)" in told and "invalid actions 0 of 50 steps" in told
    found = json.loads(card.read_text())
    assert found["model"]["step"] == 7 and len(found["episodes"]) == 10


def test_no_jax_is_needed():
    code = "import sys, rt2.benchmarks.__main__ as m; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
