"""Rows of every task through the preprocessing of training, and back."""

import dataclasses

import numpy as np
import pytest

from rt2 import prompts
from rt2.actions import ActionCodec
from rt2.data import specs
from rt2.data.errors import DataError
from rt2.data.mixture import Draw, Mixture
from rt2.data.plans import Plans
from rt2.data.proprio import state_codec
from rt2.data.robot import RobotExamples
from rt2.data.tasks import TASKS, RobotTask
from rt2.preprocess import Preprocess, PreprocessError
from rt2.tokenizer import EOS, PAD, ActionVocabulary, Tokenizer
from rt2.train.rows import TaskRow


@pytest.fixture(scope="module")
def made(data_dir):
    """(examples of two images, a function task name -> its rows, the preprocessing)."""
    spec = specs.get("tabletop")
    examples = RobotExamples(data_dir / "tabletop/1.0.0", "train", spec, history=2)
    single = [name for name in TASKS if name not in ("plan", "position")]
    tasks = {name: RobotTask(examples, name, 0) for name in single}
    tasks["position"] = RobotTask(examples, "position", 0, state_codec=state_codec(examples))
    plans = Plans("look for it, then {instruction}", examples)
    tasks["plan"] = RobotTask(examples, "plan", 0, plans=plans)
    corpus = [text for task in tasks.values() for pair in task.texts() for text in pair]
    tokenizer = Tokenizer.train(corpus * 3, 1400)
    codec = ActionCodec(spec.action_spec, *examples.bounds())
    preprocess = Preprocess(
        tokenizer=tokenizer,
        vocabulary=ActionVocabulary.integer(tokenizer, spec.action_spec),
        codecs={"tabletop": codec},
        image_size=32,
        history=2,
        prefix_length=64,
        target_length=48,
    )
    return examples, tasks, preprocess


@pytest.mark.parametrize("name", TASKS)
def test_a_row_says_what_the_task_says(made, name):
    examples, tasks, preprocess = made
    make = TaskRow(preprocess, preprocess.codec())
    assert len(tasks[name]) == len(examples)
    for i in range(0, len(examples), 7):
        example = tasks[name][i]
        row = make(example, Draw(name, i, 0))
        assert row["has_image"]
        assert row["image"].shape == (2, 32, 32, 3) and row["image"].dtype == np.uint8
        assert preprocess.tokenizer.decode(row["prefix"]) == example.prefix
        target = row["target"]
        end = int(np.flatnonzero(target == EOS)[0])
        assert (target[end + 1 :] == PAD).all() and row["target"].shape == (48,)
        slots = 0 if example.action is None else len(preprocess.codec().spec.slots)
        assert preprocess.tokenizer.decode(target[: end - slots]) == example.target
        if slots:
            bins = preprocess.vocabulary.bins(target[end - slots : end])
            wanted = preprocess.codec().encode(example.action, example.terminate)
            np.testing.assert_array_equal(bins, wanted)


def test_the_action_task_asks_for_the_action_of_the_example(made):
    examples, tasks, preprocess = made
    row = TaskRow(preprocess, preprocess.codec())(tasks["action"][11], Draw("action", 11, 0))
    example = examples[11]
    np.testing.assert_array_equal(row["prefix"], preprocess.action_prefix(example.instruction))
    wanted = preprocess.action_target(preprocess.codec(), example.action, example.terminate)
    np.testing.assert_array_equal(row["target"], wanted)


def test_a_plan_reads_as_the_paper_writes_it(made):
    _, tasks, preprocess = made
    example = tasks["plan"][3]
    row = TaskRow(preprocess, preprocess.codec())(example, Draw("plan", 3, 0))
    bins = preprocess.codec().encode(example.action, example.terminate)
    said = " ".join(preprocess.tokenizer.decode(row[key]) for key in ("prefix", "target"))
    assert said == f"{example.prefix} {example.target} {prompts.integers(bins)}"


def test_every_task_in_one_batch(made):
    _, tasks, preprocess = made
    make = TaskRow(preprocess, preprocess.codec())
    mixture = Mixture({name: (task, 2) for name, task in tasks.items()}, 12, 0, make)
    batch = mixture.batch(3)
    assert batch["image"].shape == (12, 2, 32, 32, 3) and batch["target"].shape == (12, 48)
    again = next(mixture.iterate(3, range(12), threads=2, prefetch=1))
    for key, value in batch.items():
        np.testing.assert_array_equal(value, again[key])


def test_too_long_a_plan(made):
    _, tasks, preprocess = made
    short = dataclasses.replace(preprocess, target_length=8)
    with pytest.raises(PreprocessError, match="the model takes 8: raise --config.target_length"):
        TaskRow(short, short.codec())(tasks["plan"][0], Draw("plan", 0, 0))


def test_the_tabletop_says_which_object_it_goes_for(made):
    examples, _, _ = made
    plans = Plans("go to the {episode_metadata/target}", examples)
    rows = RobotTask(examples, "plan", 0, plans=plans)
    targets = set()
    for i in examples.episode_starts[:-1]:
        target = rows[i].target.removeprefix("Plan: go to the ").removesuffix(". Action:")
        assert examples.instruction(i).endswith(target) and target
        targets.add(target)
    assert len(targets) > 2
    assert {text for _, text in rows.texts()} == {
        prompts.plan_target(plans[i]) for i in examples.episode_starts[:-1]
    }
    with pytest.raises(DataError, match="episode_metadata/targit"):
        Plans("go to the {episode_metadata/targit}", examples)
