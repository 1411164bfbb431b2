"""Trainable steps against the data set's own description and against `rlds`."""

import dataclasses
import pickle

import fsspec
import numpy as np
import pytest

from rt2.actions import LANGUAGE_TABLE
from rt2.data import selection, specs
from rt2.data.errors import DataError
from rt2.data.robot import RobotExamples
from rt2.data.specs import FixedText, Keep, Part


@pytest.fixture
def spec():
    return dataclasses.replace(specs.get("tabletop"), name="tiny", state="observation/state")


def test_the_last_step_is_dropped_and_the_one_before_stops(tiny, spec):
    examples = RobotExamples(tiny.write(), "train", spec)
    assert len(examples) == 18 and examples.episodes == 6
    assert examples.dropped == {"last step": 6}
    rows = [examples[i] for i in range(18)]
    assert [row.step for row in rows] == [0, 1, 2] * 6
    assert [row.terminate for row in rows] == [False, False, True] * 6
    assert rows[4].instruction == "go to 1" and rows[4].example_id == "tiny/1.0.0/train/1/1"
    wanted = np.reshape(tiny.train[1]["steps/action"][1], (4, 2))[1].astype(np.float32)
    np.testing.assert_array_equal(rows[4].action, wanted)
    np.testing.assert_array_equal(examples.actions, [row.action for row in rows])
    assert rows[4].state.dtype == np.float32 and rows[4].state.shape == (2,)


def test_examples_behind_a_url(tiny, spec):
    local, memory = RobotExamples(tiny.write(), "train", spec), fsspec.filesystem("memory")
    for file in tiny.directory.glob("*.*"):
        memory.pipe_file(f"/robots/tiny/{file.name}", file.read_bytes())
    remote = RobotExamples("memory://robots/tiny", "train", spec)
    assert remote.content_hash == local.content_hash and len(remote) == len(local)
    np.testing.assert_array_equal(remote[7].images[0], local[7].images[0])
    np.testing.assert_array_equal(remote[7].action, local[7].action)


def test_drop_rules(tiny, spec):
    tiny.write()

    def steps(**changes):
        examples = RobotExamples(tiny.directory, "val", dataclasses.replace(spec, **changes))
        return [(examples[i].step, examples[i].terminate) for i in range(len(examples))]

    assert steps(drop_first=True) == [(1, False), (2, True)]
    assert steps(drop_last="flagged") == steps(drop_last="always")
    assert steps(drop_last="never") == [(0, False), (1, False), (2, False), (3, True)]
    assert steps(terminate="never") == [(0, False), (1, False), (2, False)]


def test_idle_steps_are_left_out_and_counted(tiny, spec):
    actions = np.reshape(tiny.train[1]["steps/action"][1], (4, 2)).copy()
    actions[[0, 2]] = 0.0, -1e-4
    tiny.train[1]["steps/action"] = ("float", list(actions.ravel()))
    resting = dataclasses.replace(spec, drop_idle=1e-3)
    examples = RobotExamples(tiny.write(), "train", resting)
    assert examples.dropped == {"last step": 6, "idle step": 2} and len(examples) == 16
    assert (examples[3].episode, examples[3].step, examples[3].terminate) == (1, 1, True)
    assert len(RobotExamples(tiny.directory, "train", spec)) == 18


def test_nan_is_no_rest(tiny, spec):
    tiny.train[1]["steps/action"][1][0:2] = [float("nan")] * 2
    with pytest.raises(DataError, match="NaN or infinite"):
        RobotExamples(tiny.write(), "train", dataclasses.replace(spec, drop_idle=1e-3))


def test_unflagged_last_steps_stay(tiny, spec):
    tiny.train[1]["steps/is_last"] = ("int64", [0, 0, 0, 0])
    flagged = dataclasses.replace(spec, drop_last="flagged")
    assert len(RobotExamples(tiny.write(), "train", flagged)) == 19


def test_history_repeats_the_first_image_and_stays_in_the_episode(tiny, spec):
    examples = RobotExamples(tiny.write(), "train", spec, history=3)
    alone = RobotExamples(tiny.directory, "train", spec)
    frames = [alone[i].images[0] for i in range(6)]

    def wanted(i):
        return [frames[j] for j in ((0, 0, 0), (0, 0, 1), (0, 1, 2), (3, 3, 3), (3, 3, 4))[i]]

    for i in range(5):
        np.testing.assert_array_equal(examples[i].images, wanted(i))


def test_empty_instructions(tiny, spec):
    tiny.train[1]["steps/instruction"] = ("bytes", [b" "] * 4)
    tiny.write()
    with pytest.raises(DataError, match="record 1 .*instruction is empty"):
        RobotExamples(tiny.directory, "train", spec)
    dropping = RobotExamples(
        tiny.directory, "train", dataclasses.replace(spec, empty_instruction="drop")
    )
    assert len(dropping) == 15 and dropping.dropped["empty instruction"] == 3


def test_an_episode_of_one_step_has_nothing_to_learn(tiny, wire, spec):
    tiny.train[2] = wire.episode(2, steps=1)
    with pytest.raises(DataError, match="00000-of-00002: record 2 .*no step is left"):
        RobotExamples(tiny.write(), "train", spec)
    RobotExamples(tiny.directory, "train[3:]", spec)
    tiny.train[1] = wire.episode(1, steps=2)
    tiny.directory = tiny.directory.with_name("1.0.1")
    spec = dataclasses.replace(spec, drop_first=True, short_episode="drop")
    examples = RobotExamples(tiny.write(), "train", spec)
    assert sorted({examples[i].episode for i in range(len(examples))}) == [0, 3, 4, 5]
    assert examples.dropped == {"episode too short": 3, "first step": 4, "last step": 4}


def test_a_state_that_is_not_finite(tiny, spec):
    values = [0.0] * 8
    values[3] = float("nan")
    tiny.train[1]["steps/observation/state"] = ("float", values)
    tiny.write()
    with pytest.raises(DataError, match="record 1 .*observation/state: NaN or infinite at step 1"):
        RobotExamples(tiny.directory, "train", spec)
    RobotExamples(tiny.directory, "train", dataclasses.replace(spec, state=None))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camera": "observation/rbg"}, "did you mean 'observation/rgb'"),
        ({"camera": "action"}, "'action' .* is a number .*expected a image"),
        ({"action": ("action", "observation/state")}, "'observation/state': 2.* spec 2: dx, dy"),
    ],
)
def test_a_spec_that_does_not_fit(tiny, spec, changes, words):
    with pytest.raises(DataError, match=words):
        RobotExamples(tiny.write(), "train", dataclasses.replace(spec, **changes))


def test_bounds_of_the_spec(tiny, spec):
    examples = RobotExamples(tiny.write(), "train", dataclasses.replace(spec, bounds="min_max"))
    low, high = examples.bounds()
    np.testing.assert_array_equal(low, examples.actions.min(0))
    np.testing.assert_array_equal(high, examples.actions.max(0))
    assert examples.spec.action_spec is LANGUAGE_TABLE


def test_statistics_equal_rlds(tiny, spec):
    """Mean and deviation of the trainable actions as `rlds` computes them (SAR alignment)."""
    tfds = pytest.importorskip("tensorflow_datasets")
    rlds = pytest.importorskip("rlds")
    examples = RobotExamples(tiny.write(), "train", spec)

    def action(step):
        return {rlds.ACTION: step["action"]}, {rlds.ACTION: ~step[rlds.IS_LAST]}

    episodes = tfds.builder_from_directory(tiny.directory).as_dataset("train")
    mean, std = rlds.transformations.mean_and_std(episodes, action, optimization_batch_size=1)
    np.testing.assert_allclose(examples.statistics.mean, mean[rlds.ACTION], rtol=1e-6, atol=1e-9)
    of_sample = std[rlds.ACTION] * np.sqrt(17 / 18)  # rlds divides by n - 1
    np.testing.assert_allclose(examples.statistics.std, of_sample, rtol=1e-6)


def test_bridge(bridge):
    """A Bridge episode's first action is about zero and is not learnt; this copy has no ends."""
    examples = RobotExamples(bridge, "train", specs.get("bridge_dataset"))
    assert len(examples) == 225 and examples.dropped["first step"] == 25
    first = examples.steps.split.column("steps/action.value")[::10, :6]
    assert np.abs(first).max() < 1e-4 < np.abs(examples.actions[:, :6]).max(1).min()
    assert [examples[i].terminate for i in range(9)] == [False] * 8 + [True]
    low, high = examples.bounds()
    assert (low[6], high[6]) == (0.0, 1.0) and examples.warnings() == []


@pytest.mark.parametrize(
    "split, episodes", [("train[:2]", [0, 1]), ("train[4:]", [4, 5]), ("train[:34%]", [0, 1])]
)
def test_a_part_of_a_split_holds_whole_episodes(tiny, spec, split, episodes):
    directory = tiny.write()
    examples = RobotExamples(directory, split, spec)
    assert sorted({examples[i].episode for i in range(len(examples))}) == episodes
    assert examples.content_hash != RobotExamples(directory, "train", spec).content_hash


def test_a_split_of_another_form_is_refused(tiny, spec):
    with pytest.raises(DataError, match="train\\[:20\\]"):
        RobotExamples(tiny.write(), "train[20]", spec)


def test_episodes_are_kept_by_what_their_metadata_say(tiny, spec):
    for number, episode in enumerate(tiny.train):
        episode["episode_metadata/task"] = ("bytes", [b"reach" if number else b"push"])
    tiny.write()

    def kept(*conditions, split="train"):
        chosen = dataclasses.replace(spec, keep_episodes=conditions)
        examples = RobotExamples(tiny.directory, split, chosen)
        return {examples[i].episode for i in range(len(examples))}, examples.dropped

    reaching = Keep("episode_metadata/task", matches="^rea")
    episodes, dropped = kept(reaching)
    assert episodes == {1, 2, 3, 4, 5}
    assert dropped == {f"episode without {reaching}": 4, "last step": 5}
    assert kept(reaching, Keep("episode_metadata/seed", equals=-4))[0] == {4}
    assert kept(reaching, split="train[:2]") == ({1}, dropped | {"last step": 1})
    with pytest.raises(DataError, match="no trainable step .*'last step': 0"):
        kept(Keep("episode_metadata/seed", equals=7))
    with pytest.raises(DataError, match="did you mean 'episode_metadata/task'"):
        kept(Keep("episode_metadata/tusk", matches="x"))
    with pytest.raises(DataError, match="is a text .*expected one number"):
        kept(Keep("episode_metadata/task", equals=1))


def test_further_cameras_are_decoded_where_they_are_asked_for(tiny, spec):
    spec = dataclasses.replace(spec, cameras=("observation/rgb",))
    examples = RobotExamples(tiny.write(), "train", spec, cameras=["observation/rgb"])
    alone = RobotExamples(tiny.directory, "train", spec)
    assert alone[1].views == {} and list(examples[1].views) == ["observation/rgb"]
    np.testing.assert_array_equal(examples[1].views["observation/rgb"], alone[1].images[0])
    with pytest.raises(DataError, match="did you mean 'observation/rgb'"):
        RobotExamples(tiny.directory, "train", spec, cameras=["observation/rbg"])


def test_parts_of_action_and_state(tiny, spec):
    spec = dataclasses.replace(
        spec,
        action=(Part("action", (1, 2), ("negate",)), Part(constant=(0.5,))),
        state=(Part("observation/state", (0, 1)), "action", "is_first"),
        instruction=FixedText("do it"),
    )
    examples = RobotExamples(tiny.write(), "train", spec)
    stored = np.reshape(tiny.train[1]["steps/action"][1], (4, 2)).astype(np.float32)
    seen = np.reshape(tiny.train[1]["steps/observation/state"][1], (4, 2)).astype(np.float32)
    np.testing.assert_array_equal(examples[4].action, [-stored[1, 1], 0.5])
    np.testing.assert_array_equal(examples[4].state, [seen[1, 0], *stored[1], 0])
    assert examples[3].state[3] == 1 and examples.instructions == ("do it",)


def test_motion_that_was_reached(tiny, spec):
    moved = Part("observation/state", then=("difference", ("scale", 10)))
    spec = dataclasses.replace(spec, action=(moved,))
    examples = RobotExamples(tiny.write(), "train", spec)
    seen = np.reshape(tiny.train[1]["steps/observation/state"][1], (4, 2)).astype(np.float32)
    np.testing.assert_allclose(examples[4].action, 10 * (seen[2] - seen[1]), rtol=1e-6)
    np.testing.assert_array_equal(examples.actions, [examples[i].action for i in range(18)])
    values = list(tiny.train[1]["steps/observation/state"][1])
    values[6] = float("nan")  # the last step's: dropped, but the one before moves towards it
    tiny.train[1]["steps/observation/state"] = ("float", values)
    tiny.directory = tiny.directory.with_name("1.0.1")
    tiny.write()
    spec = dataclasses.replace(spec, state=None)
    with pytest.raises(DataError, match="record 1 .*state: NaN or infinite at step 3"):
        RobotExamples(tiny.directory, "train", spec)


def test_a_flag_says_stop(tiny, spec):
    flag = Part("is_last")
    spec = dataclasses.replace(spec, drop_last="never", terminate=flag, bounds="min_max")
    tiny.train[1]["steps/is_last"] = ("int64", [0, 1, 0, 0])
    examples = RobotExamples(tiny.write(), "train", spec)
    stops = [(examples[i].episode, examples[i].step) for i in range(24) if examples[i].terminate]
    assert stops == [(0, 3), (1, 1), (2, 3), (3, 3), (4, 3), (5, 3)]
    assert not [w for w in examples.warnings() if w[0] == "terminate"]
    never = dataclasses.replace(spec, terminate=Part("is_last", then=(("scale", 0.5),)))
    warned = RobotExamples(tiny.directory, "train", never).warnings()
    assert ("terminate", "no step says stop: 'is_last': 1") in warned
    with pytest.raises(DataError, match="terminate has 'action': 2 values, expected 1"):
        RobotExamples(tiny.directory, "train", dataclasses.replace(spec, terminate=Part("action")))


def test_the_size_of_blocks_changes_nothing(tiny, spec, monkeypatch):
    tiny.train[1]["steps/instruction"] = ("bytes", [b"a", b" ", b"b", b"c"])
    spec = dataclasses.replace(spec, empty_instruction="drop")
    whole = RobotExamples(tiny.write(), "train", spec)
    monkeypatch.setattr(selection, "BLOCK", 3)
    parts = pickle.loads(pickle.dumps(RobotExamples(tiny.directory, "train", spec)))
    assert len(parts) == len(whole) == 17 and parts.dropped == whole.dropped
    assert parts.instructions == whole.instructions
    np.testing.assert_array_equal(parts.actions, whole.actions)
    rows = [whole[i] for i in range(17)]
    np.testing.assert_array_equal(parts.states, [row.state for row in rows])
    starts = parts.episode_starts
    assert [rows[i].step for i in starts[:-1]] == [0] * 6 and starts[-1] == 17
    assert [rows[i - 1].terminate for i in starts[1:]] == [True] * 6
    assert whole.instruction(3) == "a" and whole.row(4) == 6
    with pytest.raises(IndexError):
        whole[17]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Part("action", (1, 3)), "action: columns=.1, 3. of 'action', which has 2"),
        (Part("instruction"), "'instruction' .* is a text .*expected numbers"),
        (Part("action", then=("euler_from_quaternion",)), "takes 4 columns, got 2"),
        (Part("actoin"), "did you mean 'action'"),
    ],
)
def test_a_part_that_does_not_fit(tiny, spec, part, words):
    with pytest.raises(DataError, match=words):
        RobotExamples(tiny.write(), "train", dataclasses.replace(spec, action=(part,)))
