"""Rows that are guessed: sets with features of many kinds, and the guess read back."""

import ast

import numpy as np
import pytest

from rt2.data import specs
from rt2.data.errors import DataError
from rt2.data.inspect import config_text, proposal
from rt2.data.rlds import RldsSteps
from rt2.data.robot import RobotExamples
from rt2.train.sources import dataset_spec

TENSOR = "tensorflow_datasets.core.features.tensor_feature.Tensor"
TEXT = "tensorflow_datasets.core.features.text_feature.Text"


def tensor(*shape, dtype="float32"):
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    inner = {"shape": dimensions, "dtype": dtype, "encoding": "none"}
    return {"pythonClassName": TENSOR, "tensor": inner}


@pytest.fixture
def made(tiny):
    """`made(name=(feature, kind, values), ..., gone=names)` changes the features of every step.

    Names have _ for / after their first part; values: a function (episode, step) -> list.
    """

    def change(gone=(), **added):
        tree = tiny.features["featuresDict"]["features"]
        step = tree["steps"]["sequence"]["feature"]["featuresDict"]["features"]
        for name in gone:
            step.pop(name, None)
            step["observation"]["featuresDict"]["features"].pop(name.split("/")[-1], None)
        for name, (feature, _, _) in added.items():
            *outer, last = name.split("__")
            holder = step
            for key in outer:
                empty = {"pythonClassName": step["observation"]["pythonClassName"]}
                empty["featuresDict"] = {"features": {}}
                holder = holder.setdefault(key, empty)["featuresDict"]["features"]
            holder[last] = feature
        for episodes in tiny.shards.values():
            for number, episode in enumerate(episodes):
                for name in gone:
                    del episode[f"steps/{name}"]
                for name, (_, kind, values) in added.items():
                    flat = [v for t in range(4) for v in values(number, t)]
                    episode["steps/" + name.replace("__", "/")] = (kind, flat)
        return tiny.write()

    return change


def propose(directory):
    """The proposal, and the examples that its config reads."""
    found = proposal.propose(RldsSteps(directory, "train"))
    names: dict = {}
    exec(config_text.as_python(found, directory, {"train": 6, "val": 1}), names)
    config, name = names["get_config"](), found.row["name"]
    read = config.sources[name]
    assert (read.path, read.split, read.spec) == (str(directory), "train", name)
    assert config.eval_sources[name].split == "val"
    spec = dataset_spec(config, name)
    assert spec == specs.from_config(found.row)
    return found, RobotExamples(directory, "train", spec)


def noise(number, t, count):
    return list(np.random.default_rng(10 * number + t).normal(0, 0.1, count))


def test_an_action_in_several_features(made):
    directory = made(
        gone=["action"],
        action__world_vector=(tensor(3), "float", lambda e, t: noise(e, t, 3)),
        action__rotation_delta=(tensor(3), "float", lambda e, t: noise(e, t + 50, 3)),
        action__gripper_closedness_action=(tensor(1), "float", lambda e, t: [[0, 1, 0, 0][t]]),
        action__base_displacement_vector=(tensor(2), "float", lambda e, t: [0, 0]),
        action__terminate_episode=(
            tensor(3, dtype="int32"),
            "int64",
            lambda e, t: [1, 0, 0] if t == 3 else [0, 1, 0],
        ),
    )
    found, examples = propose(directory)
    features = ["world_vector", "rotation_delta", "gripper_closedness_action"]
    assert found.row["action"] == [f"action/{name}" for name in features]
    assert "'action/base_displacement_vector'" in found.reasons["action"]
    assert found.row["action_spec"] == "rt2"
    assert found.row["terminate"] == {"feature": "action/terminate_episode", "columns": (0, 1)}
    assert found.row["drop_last"] == "never"
    assert [examples[i].terminate for i in range(4)] == [False, False, False, True]
    assert found.row["bounds"] == ["q01_q99"] * 6 + [(0.0, 1.0)]
    assert "gripper is a switch: 0, 1" in found.reasons["bounds"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_gripper_that_tells_changes_is_made_absolute(made, whole):
    def change(e, t):
        return [[0, 1, 0, -1][t] if e == 0 else 0]

    if whole:
        seven = (tensor(7), "float", lambda e, t: noise(e, t, 6) + change(e, t))
        directory = made(gone=["action"], action=seven)
    else:
        directory = made(
            gone=["action"],
            action__delta_pos=(tensor(3), "float", lambda e, t: noise(e, t, 3)),
            action__delta_rotation=(tensor(3), "float", lambda e, t: noise(e, t, 3)),
            action__gripper=(tensor(1), "float", change),
        )
    found, examples = propose(directory)
    assert found.row["action"][-1]["then"] == (("absolute_gripper", 0.1),)
    assert "tells changes" in found.reasons["action"]
    assert set(examples.actions[:, 6]) == {0.0, 1.0} and examples.actions.shape == (18, 7)
    assert examples.bounds()[0][6] == 0.0 and examples.bounds()[1][6] == 1.0


def test_eight_numbers_get_slots_and_a_constant_gets_bounds(made):
    directory = made(
        gone=["action"],
        action_joints=(tensor(7), "float", lambda e, t: [0.5, *noise(e, t, 6)]),
        action_gripper=(tensor(), "float", lambda e, t: [-1 if t < 2 else 1]),
    )
    found, examples = propose(directory)
    slots = examples.spec.action_spec.slots
    assert [slot.name for slot in slots][:3] == ["terminate", "action_gripper", "action_joints_0"]
    assert slots[0].kind == "terminate" and slots[1].bins == 256
    low, high = examples.bounds()
    assert (low[0], high[0]) == (-1, 1) and (low[1], high[1]) == (-0.5, 1.5)
    assert "action_joints_0 is constant at 0.5" in found.reasons["bounds"]
    assert "takes -1, 1: which one is open?" in found.reasons["action"]


def test_an_instruction_of_the_episode(made, tiny):
    metadata = tiny.features["featuresDict"]["features"]["episode_metadata"]["featuresDict"]
    text = {"pythonClassName": TEXT, "text": {}}
    metadata["features"] |= {"language_instruction": text, "file_path": text}
    for episodes in tiny.shards.values():
        for number, episode in enumerate(episodes):
            episode["episode_metadata/language_instruction"] = ("bytes", [b"lift %d" % number])
            episode["episode_metadata/file_path"] = ("bytes", [b"/a/b"])
    found, examples = propose(made(gone=["instruction"]))
    assert found.row["instruction"] == "episode_metadata/language_instruction"
    assert found.reasons["instruction"] == "a text of every episode; or 'episode_metadata/task'"
    assert examples.instructions == ("lift 0", "lift 1", "lift 2")
    assert [examples[i].instruction for i in (0, 2, 3)] == ["lift 0", "lift 0", "lift 1"]


def test_an_empty_instruction_of_the_episode_is_dropped(made, tiny):
    for episodes in tiny.shards.values():
        episodes[0]["episode_metadata/task"] = ("bytes", [b" "])
    found, examples = propose(made(gone=["instruction"]))
    assert found.row["empty_instruction"] == "drop"
    assert found.reasons["empty_instruction"] == "8 of 24 steps have none"
    assert examples.dropped["empty instruction"] == 6 and len(examples) == 12


def test_an_instruction_in_character_codes(made):
    def codes(e, t):
        return ([ord(c) for c in f"push {e}"] + [0] * 64)[:64]

    row = (tensor(64, dtype="int32"), "int64", codes)
    found, examples = propose(made(gone=["instruction"], observation__instruction=row))
    assert found.row["instruction"] == "observation/instruction"
    assert "character codes" in found.reasons["instruction"]
    assert examples.instructions == ("push 0", "push 1", "push 2")


def test_cameras(made, wire):
    tree = {"dimensions": ["16", "16", "3"]}
    rgb = {
        "pythonClassName": "tensorflow_datasets.core.features.image_feature.Image",
        "image": {"shape": tree, "dtype": "uint8", "encodingFormat": "jpeg"},
    }
    found, _ = propose(
        made(
            observation__a_black=(rgb, "bytes", lambda e, t: [wire.jpeg(1)]),
            observation__hand=(rgb, "bytes", lambda e, t: [wire.jpeg(9 * e + t)]),
        )
    )
    assert found.row["camera"] == "observation/rgb"
    assert found.row["cameras"] == ("observation/hand",)
    assert "blank: 'observation/a_black'" in found.reasons["camera"]


def test_a_state_with_nan_is_not_proposed(made):
    values = (tensor(3), "float", lambda e, t: [float("nan") if t == 2 else 0.5, 1.0, 2.0])
    found, _ = propose(made(gone=["observation/state"], observation__joint_position=values))
    assert found.row["state"] is None
    assert found.reasons["state"] == "'observation/joint_position': NaN or infinite values"


def test_the_set_has_no_action(made):
    with pytest.raises(
        DataError, match=r"tiny.*called action\*: is_first, is_last, observation/state"
    ):
        propose(made(gone=["action"]))


def test_names_that_are_no_identifiers_and_long_paths(tiny):
    found = proposal.propose(RldsSteps(tiny.write(), "train"))
    found.row["name"] = "my-robot"
    text = config_text.as_python(found, "/a" * 60, {"train": 6})
    assert 'config.dataset_specs["my-robot"] = dict(' in text
    assert max(len(line) for line in text.splitlines() if "/a/a" not in line) <= 100
    ast.parse(text)


@pytest.mark.parametrize(
    "episodes, train, held_out",
    [
        ({"train": 20}, "train[:95%]", "train[95%:]"),
        ({"train": 19}, "train", None),
        ({"train": 90, "test": 3}, "train", "test"),
    ],
)
def test_what_is_held_out(tiny, episodes, train, held_out):
    found = proposal.propose(RldsSteps(tiny.write(), "train"))
    names: dict = {}
    exec(config_text.as_python(found, tiny.directory, episodes), names)
    config = names["get_config"]()
    assert config.sources.tiny.split == train
    assert [row.split for row in config.eval_sources.values()] == ([held_out] if held_out else [])
