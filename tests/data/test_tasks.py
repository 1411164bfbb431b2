"""Questions made from robot episodes, against a slow reading of the same episodes."""

import dataclasses
import json
import pickle
from collections import Counter

import numpy as np
import pytest

from rt2.data import specs
from rt2.data.errors import DataError
from rt2.data.plans import Plans
from rt2.data.proprio import state_codec
from rt2.data.robot import RobotExamples
from rt2.data.tasks import TASKS, RobotTask

SEED = 5


@pytest.fixture
def spec():
    return dataclasses.replace(specs.get("tabletop"), name="tiny", state="observation/state")


@pytest.fixture
def open_set(tiny, spec, wire):
    """The examples of a set whose episodes have 4 to 9 steps, and its pictures by step."""
    lengths = [4, 5, 6, 7, 8, 9]
    names = list(tiny.shards)
    tiny.shards[names[0]] = [wire.episode(n, lengths[n]) for n in range(3)]
    tiny.shards[names[1]] = [wire.episode(n, lengths[n]) for n in range(3, 6)]
    return RobotExamples(tiny.write(), "train", spec)


def task(examples, name, **arguments):
    if name == "plan":
        arguments.setdefault("plans", Plans("reach: {instruction}", examples))
    if name == "position":
        arguments.setdefault("state_codec", state_codec(examples))
    return RobotTask(examples, name, SEED, **arguments)


def steps_of(examples, i):
    """(episode, first step, step, last step) of example i, all counted over the split."""
    row = examples.row(i)
    episode, step = examples.steps.position(row)
    last = [r for r in range(len(examples.steps)) if examples.steps.position(r)[0] == episode][-1]
    return episode, row - step, row, last


def shown(examples, pictures):
    """Which steps of the split the pictures are of."""
    frames = [examples.image(row) for row in range(len(examples.steps))]
    return [
        next(row for row, frame in enumerate(frames) if np.array_equal(frame, picture))
        for picture in pictures
    ]


def test_action_is_the_example_itself(open_set):
    rows = task(open_set, "action")
    for i in (0, 3, len(rows) - 1):
        ours, theirs = rows[i], open_set[i]
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.action, theirs.action)
        asked = f"Q: what action should the robot take to {theirs.instruction}? A:"
        assert (ours.prefix, ours.target, ours.terminate) == (asked, "", theirs.terminate)
        assert ours.example_id == f"{theirs.example_id}/action"


def test_position_is_the_state_in_bins(open_set):
    rows = task(open_set, "position")
    low, high = open_set.states.min(axis=0), open_set.states.max(axis=0)
    for i in range(len(rows)):
        state = open_set[i].state
        wanted = np.minimum((state - low) / (high - low) * 256, 255).astype(int)
        assert rows[i].target == f"{wanted[0]} {wanted[1]}" and rows[i].action is None
    words = {word for i in range(len(rows)) for word in rows[i].target.split()}
    assert {"0", "255"} <= words


def test_instruction_shows_the_first_step_and_one_of_the_second_half(open_set):
    rows = task(open_set, "instruction")
    seen = Counter()
    for i in range(len(rows)):
        _, first, _, last = steps_of(open_set, i)
        start, later = shown(open_set, rows[i].images)
        assert start == first and first + (last + 1 - first) // 2 <= later <= last
        assert rows[i].target == open_set[i].instruction
        seen[later] += 1
    assert len(seen) > 10  # many different ones, not one an episode


def test_timesteps_counts_the_steps_between(open_set):
    rows = task(open_set, "timesteps")
    found = set()
    for i in range(len(rows)):
        _, first, row, last = steps_of(open_set, i)
        early, late = shown(open_set, rows[i].images)
        assert first <= early <= late <= last and row in (early, late)
        assert rows[i].target == str(late - early)
        found.add(late - early)
    assert len(found) > 4


def test_success_is_half_yes_and_its_noes_are_of_two_kinds(open_set):
    rows, kinds = task(open_set, "success"), Counter()
    for i in range(len(rows)):
        _, first, _, last = steps_of(open_set, i)
        own = open_set[i].instruction
        start, end = shown(open_set, rows[i].images)
        named = rows[i].prefix == f"Q: does the robot succeed to {own}? A:"
        kind = (rows[i].target, named, end == last)
        assert start == first
        assert kind in {("yes", True, True), ("no", False, True), ("no", True, False)}
        if not named:
            other = rows[i].prefix.removeprefix("Q: does the robot succeed to ")[: -len("? A:")]
            assert other in set(open_set.instructions) - {own}
        if end != last:
            assert end < first + (last + 1 - first + 1) // 2
        kinds[kind] += 1
    count = len(rows)
    assert kinds["yes", True, True] == -(-count // 2)
    assert abs(kinds["no", False, True] - kinds["no", True, False]) <= 1


def test_another_instruction_is_never_the_own_one(open_set):
    asked = Counter()
    for seed in range(20):
        rows = RobotTask(open_set, "success", seed)
        for i in range(3, len(rows), 4):
            own = f"Q: does the robot succeed to {open_set.instruction(i)}? A:"
            assert rows[i].prefix != own
            asked[own, rows[i].prefix] += 1
    assert len(asked) == 3 * 2  # every other one is asked


def test_success_where_only_one_negative_is_possible(tiny, spec, wire):
    one = dataclasses.replace(spec, drop_last="never")
    for number, episode in enumerate(tiny.train):
        episode["steps/instruction"] = ("bytes", [b"go"] * 4)
        tiny.shards["tiny-train.tfrecord-00001-of-00002"][number] = episode
    rows = task(RobotExamples(tiny.write(), "train", one), "success")
    assert {rows[i].prefix for i in range(len(rows))} == {"Q: does the robot succeed to go? A:"}
    assert [rows[i].target for i in range(4)] == ["yes", "no", "yes", "no"]


def test_success_of_single_steps_under_one_instruction_is_refused(tiny, spec, wire):
    one = dataclasses.replace(spec, drop_last="never")
    tiny.shards["tiny-val.tfrecord-00000-of-00001"] = [wire.episode(6, steps=1)]
    with pytest.raises(DataError, match="to show what is no success"):
        task(RobotExamples(tiny.write(), "val", one), "success")


def test_plan_says_the_plan_and_then_acts(open_set):
    row, theirs = task(open_set, "plan")[4], open_set[4]
    assert row.prefix == f"Instruction: {theirs.instruction}."
    assert row.target == f"Plan: reach: {theirs.instruction}. Action:"
    np.testing.assert_array_equal(row.action, theirs.action)


def test_the_state_in_the_question(open_set):
    codec = state_codec(open_set)
    rows = task(open_set, "action", state_codec=codec)
    answers = task(open_set, "position")
    for i in range(0, len(rows), 5):
        assert rows[i].prefix.endswith(f"? State: {answers[i].target}. A:")
    assert " State: " in task(open_set, "plan", state_codec=codec)[0].prefix


@pytest.mark.parametrize("name", TASKS)
def test_a_row_depends_on_seed_task_and_number_alone(open_set, name):
    rows, again = task(open_set, name), pickle.loads(pickle.dumps(task(open_set, name)))
    forward = [rows[i] for i in range(len(rows))]
    for i in reversed(range(len(again))):
        ours, theirs = forward[i], again[i]
        np.testing.assert_array_equal(ours.images, theirs.images)
        assert (ours.prefix, ours.target, ours.example_id) == (
            theirs.prefix,
            theirs.target,
            theirs.example_id,
        )
        assert len(ours.images) == rows.frames and ours.kind == name
    assert len({row.example_id for row in forward}) == len(rows)
    if name in ("instruction", "timesteps"):
        other = RobotTask(open_set, name, SEED + 1)
        pairs = [(a.images[0].sum(), a.images[1].sum()) for a in forward]
        changed = [other[i].images for i in range(len(other))]
        assert pairs != [(a.sum(), b.sum()) for a, b in changed]


@pytest.mark.parametrize("name", TASKS)
def test_texts_are_the_questions_of_the_rows(open_set, name):
    rows = task(open_set, name)
    known = set(rows.texts())
    for i in range(len(rows)):
        row = rows[i]
        if name in ("position", "timesteps"):
            ((prefix, widest),) = known
            assert row.prefix == prefix and len(row.target) <= len(widest)
        elif name == "success":
            assert (row.prefix, row.target) in known
        else:
            assert (row.prefix, row.target) in known


def test_a_number_that_never_changes_is_the_middle_bin(tiny, spec):
    for episodes in tiny.shards.values():
        for episode in episodes:
            values = np.reshape(episode["steps/observation/state"][1], (4, 2)).copy()
            values[:, 1] = 7
            episode["steps/observation/state"] = ("float", list(values.ravel()))
    codec = state_codec(RobotExamples(tiny.write(), "train", spec))
    assert codec.encode(np.array([codec.low[0], 7.0])).tolist() == [0, 128]


def test_what_a_task_lacks_is_said(open_set, tiny, spec):
    stateless = RobotExamples(tiny.directory, "train", dataclasses.replace(spec, state=None))
    for arguments, words in (
        ((open_set, "succes", 0), "did you mean 'success'"),
        ((open_set, "plan", 0), "plans belong to the task plan"),
        ((open_set, "position", 0), "needs the codec of the state"),
    ):
        with pytest.raises(DataError, match=words):
            RobotTask(*arguments)
    with pytest.raises(DataError, match="'tiny' has no state"):
        state_codec(stateless)


def test_plans_from_annotations(tmp_path, open_set):
    path = tmp_path / "plans.json"
    texts = open_set.instructions
    path.write_text(json.dumps({text: f"walk, {text}" for text in texts} | {"stop": "wait"}))
    plans = Plans(str(path), open_set)
    assert plans[3] == f"walk, {open_set.instruction(3)}"
    assert dict(plans.distinct()) == {text: f"walk, {text}" for text in texts}
    path.write_text(json.dumps({text: "go" for text in texts[1:]}))
    with pytest.raises(
        DataError, match=f"no plan for 1 of {len(texts)} instructions: {texts[0]!r}"
    ):
        Plans(str(path), open_set)
    with pytest.raises(DataError, match="neither a template with {instruction} nor a JSON file"):
        Plans("nowhere.json", open_set)
    path.write_text("[1]")
    with pytest.raises(DataError, match="expected an object of texts"):
        Plans(str(path), open_set)
    path.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        Plans(str(path), open_set)
