"""Statistics files of four projects: as they write them, as we do, and from the index alone."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from rt2.data import index, specs, statistics
from rt2.data.errors import DataError
from rt2.data.robot import RobotExamples
from rt2.data.statistics_files import LAYOUTS, DatasetStatistics, of, read, write

ROW = {
    "name": "tiny",
    "camera": "observation/rgb",
    "instruction": "instruction",
    "action": "action",
    "action_spec": "language_table",
    "state": "observation/state",
    "drop_first": False,
    "drop_last": "flagged",
    "terminate": "last_trainable",
    "empty_instruction": "refuse",
    "bounds": ["q01_q99", [-0.04, 0.04]],
}


@pytest.fixture
def found():
    rng = np.random.default_rng(0)
    action, state = (statistics.describe(rng.normal(size=(50, n))) for n in (3, 5))
    return DatasetStatistics(action, state, (True, True, False), 4)


# What each project's own code writes, as its sources show it, in small.
THEIRS = {
    "openvla": {"bridge_orig": {
        "action": {"mean": [0.1, 0.5], "std": [1.0, 0.4], "max": [3.0, 1.0], "min": [-3.0, 0.0],
                   "q01": [-2.0, 0.0], "q99": [2.0, 1.0], "mask": [True, False]},
        "proprio": {"mean": [9.0], "std": [1.0], "max": [9.5], "min": [8.5], "q01": [8.6],
                    "q99": [9.4]},
        "num_transitions": 20, "num_trajectories": 2}},
    "octo": {"bridge_orig": {
        "action": {"mean": [0.1, 0.5], "std": [1.0, 0.4], "max": [3.0, 1.0], "min": [-3.0, 0.0],
                   "p99": [2.0, 1.0], "p01": [-2.0, 0.0], "mask": [True, False]},
        "proprio": {"mean": [9.0], "std": [1.0], "max": [9.5], "min": [8.5], "p01": [8.6],
                    "p99": [9.4]},
        "num_transitions": 20, "num_trajectories": 2}},
    "openpi": {"norm_stats": {
        "state": {"mean": [9.0], "std": [1.0], "q01": [8.6], "q99": [9.4]},
        "actions": {"mean": [0.1, 0.5], "std": [1.0, 0.4], "q01": [-2.0, 0.0],
                    "q99": [2.0, 1.0]}}},
    "lerobot": {
        "action": {"min": [-3.0, 0.0], "max": [3.0, 1.0], "mean": [0.1, 0.5], "std": [1.0, 0.4],
                   "count": [20]},
        "observation.state": {"min": [8.5], "max": [9.5], "mean": [9.0], "std": [1.0],
                              "count": [20]},
        "observation.images.top": {"min": [[[0.0]]], "max": [[[1.0]]], "mean": [[[0.5]]],
                                   "std": [[[0.1]]], "count": [7]}},
}  # fmt: skip
THEIRS["octo_single"] = THEIRS["octo"]["bridge_orig"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_their_files_are_read(layout, tmp_path):
    path = tmp_path / "stats.json"
    path.write_text(json.dumps(THEIRS[layout]))
    read_back = read(path, "bridge_orig")
    action, state = read_back.action, read_back.state
    assert (action.mean, action.std) == ((0.1, 0.5), (1.0, 0.4)) and state.mean == (9.0,)
    has_quantiles, has_range = layout != "lerobot", layout != "openpi"
    assert (action.q01, action.q99) == (((-2.0, 0.0), (2.0, 1.0)) if has_quantiles else (None,) * 2)
    assert (action.min, action.max) == (((-3.0, 0.0), (3.0, 1.0)) if has_range else (None,) * 2)
    assert action.count == (20 if layout != "openpi" else None)
    tells_masks = layout in ("openvla", "octo", "octo_single")
    assert read_back.mask == ((True, False) if tells_masks else None)
    assert read_back.episodes == (2 if tells_masks else None)


def test_openvla_statistics_inside_a_model_config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "openvla", "norm_stats": THEIRS["openvla"]}))
    assert read(path, "bridge_orig").action.q01 == (-2.0, 0.0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("with_state", [True, False])
def test_what_is_written_has_their_keys_and_reads_back(layout, with_state, found, tmp_path):
    if not with_state:
        found = dataclasses.replace(found, state=None)
    path = tmp_path / "stats.json"
    write(path, layout, "mine", found)
    assert _keys(json.loads(path.read_text())) >= {
        key.replace("bridge_orig", "mine")
        for key in _keys(THEIRS[layout])
        if "images" not in key and (with_state or "proprio" not in key and "state." not in key)
    } - {"norm_stats.state", "observation.state", "mine.proprio", "proprio"}
    again = read(path, "mine")
    if layout == "openpi":
        bare = {"count": None, "min": None, "max": None}
        found = DatasetStatistics(
            dataclasses.replace(found.action, **bare),
            found.state and dataclasses.replace(found.state, **bare),
            None,
            None,
        )
    elif layout == "lerobot":
        found = dataclasses.replace(found, mask=None, episodes=None)
    assert again == found


def _keys(tree, prefix=""):
    if not isinstance(tree, dict):
        return set()
    return {f"{prefix}{k}" for k in tree} | set().union(
        *(_keys(part, f"{prefix}{k}.") for k, part in tree.items())
    )


@pytest.mark.parametrize(
    ("path_and_value", "message"),
    [
        (("bridge_orig.action.mean", None), "action: has no mean"),
        (("bridge_orig.action.q99", [1.0]), r"action.q99: 1 values, mean has 2"),
        (("bridge_orig.action.mask", [True]), "action.mask: 1 values, mean has 2"),
        (("bridge_orig.action.min", [float("nan"), 0.0]), "action.min: NaN or infinite"),
        (("bridge_orig.action.min", "low"), "action.min: not a list of numbers"),
        (("bridge_orig.action", 3), "none of the known layouts"),
        (("bridge_orig.proprio", 3), "proprio: not a row of statistics"),
    ],
)
def test_what_a_reader_refuses(path_and_value, message, tmp_path):
    whole = json.loads(json.dumps(THEIRS["openvla"]))
    (*parents, last), value = path_and_value[0].split("."), path_and_value[1]
    place = whole
    for parent in parents:
        place = place[parent]
    place[last] = value
    path = tmp_path / "stats.json"
    path.write_text(json.dumps(whole))
    with pytest.raises(DataError, match=message):
        read(path, "bridge_orig")
    with pytest.raises(DataError, match="no statistics file"):
        read(tmp_path / "none.json", "x")


def test_names_of_data_sets_and_layouts_are_hinted(found, tmp_path):
    path = tmp_path / "stats.json"
    with pytest.raises(DataError, match="did you mean 'openvla'"):
        write(path, "open_vla", "mine", found)
    write(path, "openvla", "mine", found)
    with pytest.raises(DataError, match="has no data set 'mina': did you mean 'mine'"):
        read(path, "mina")


def test_bounds_come_from_a_file(found, tmp_path):
    write(tmp_path / "stats.json", "openvla", "mine", found)
    low, high = statistics.bounds(read(tmp_path / "stats.json", "mine").action, "q01_q99")
    assert (low, high) == (found.action.q01, found.action.q99)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_command_needs_the_index_alone(tiny, layout, tmp_path):
    row = tmp_path / "row.json"
    row.write_text(json.dumps(ROW))
    directory = tiny.write()
    examples = RobotExamples(directory, "train", specs.from_config(ROW))
    expected = of(examples)
    for shard in directory.glob("*.tfrecord-*"):
        data = bytearray(shard.read_bytes())
        spoilt = data.replace(b"\xff\xd8\xff", b"\0\0\0")  # no image can be decoded any more
        assert spoilt != data
        shard.write_bytes(spoilt)
    with pytest.raises(DataError):
        RobotExamples(directory, "train", specs.from_config(ROW))[0]
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "rt2.data.statistics", str(directory), f"--spec={row}"]
    command += [f"--layout={layout}", f"--out={out}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "tiny, train: 6 episodes, 18 steps" in done.stdout
    assert read(out, "tiny").action.q99 == expected.action.q99
    if layout in ("openvla", "octo", "octo_single"):
        assert read(out, "tiny") == expected
        assert expected.mask == (True, False)
    first = examples.steps.split.column("steps/observation/state.value")[:3]
    np.testing.assert_array_equal(examples.states[:3], first)


def test_the_command_warns_of_degenerate_dimensions(tiny, tmp_path):
    for episodes in tiny.shards.values():
        for episode in episodes:
            kind, values = episode["steps/action"]
            episode["steps/action"] = kind, [v if i % 2 else 0.5 for i, v in enumerate(values)]
    row = tmp_path / "row.json"
    row.write_text(json.dumps(ROW | {"bounds": "min_max"}))
    index.build(tiny.write())
    command = [sys.executable, "-m", "rt2.data.statistics", str(tiny.directory)]
    done = subprocess.run([*command, f"--spec={row}"], capture_output=True, text=True, check=True)
    assert "warning: dx: constant at 0.5" in done.stdout
    failed = subprocess.run([*command, "--spec=tinny"], capture_output=True, text=True)
    assert failed.returncode == 1 and "unknown data set 'tinny'" in failed.stderr
