"""Trainable steps against the data set's own description and against `rlds`."""

import dataclasses

import numpy as np
import pytest

from rt2.actions import LANGUAGE_TABLE
from rt2.data import specs
from rt2.data.errors import DataError
from rt2.data.robot import RobotExamples


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


def test_drop_rules(tiny, spec):
    tiny.write()

    def steps(**changes):
        examples = RobotExamples(tiny.directory, "val", dataclasses.replace(spec, **changes))
        return [(examples[i].step, examples[i].terminate) for i in range(len(examples))]

    assert steps(drop_first=True) == [(1, False), (2, True)]
    assert steps(drop_last="flagged") == steps(drop_last="always")
    assert steps(drop_last="never") == [(0, False), (1, False), (2, False), (3, True)]
    assert steps(terminate="never") == [(0, False), (1, False), (2, False)]


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
