"""The report of a data set and the row that it proposes."""

import json
import subprocess
import sys

import pytest

from rt2.data import inspect, specs


def test_the_proposed_row_reads_the_set(tiny):
    found = inspect.report(tiny.write(), None)
    spec = specs.from_config(found["row"])
    assert (spec.camera, spec.instruction) == ("observation/rgb", "instruction")
    assert (spec.action, spec.state) == (("action",), "observation/state")
    assert (spec.drop_first, spec.drop_last) == (False, "flagged")
    assert found["splits"]["train"]["trainable"] == 18
    text = inspect.as_text(found)
    assert "train: 6 episodes, 24 steps" in text and "'go to 1'" in text
    assert "<img src='data:image;base64,/9j/" in inspect.as_html(found)


def test_a_still_first_action_is_proposed_to_be_dropped(tiny):
    for episodes in tiny.shards.values():
        for episode in episodes:
            episode["steps/action"] = ("float", [1e-7, -1e-7, *episode["steps/action"][1][2:]])
    assert inspect.report(tiny.write(), None)["row"]["drop_first"] is True


def test_an_episode_in_two_splits_is_told(tiny):
    tiny.shards["tiny-val.tfrecord-00000-of-00001"] = [tiny.train[2]]
    found = inspect.report(tiny.write(), None)
    assert found["leaks"] == ["1 episodes of val stand in train too"]
    assert "held-out figures mean nothing" in inspect.as_text(found)


def test_bridge(bridge):
    row = inspect.report(bridge, None)["row"]
    assert row["camera"] == "observation/image_0" and row["drop_first"] is True
    assert row["action_spec"] == "rt2" and row["state"] == "observation/state"


@pytest.mark.parametrize("spec", [[], ["--spec=tabeltop"]])
def test_command_line(tiny, tmp_path, spec):
    tiny.write()
    command = [sys.executable, "-m", "rt2.data.inspect", str(tiny.directory), *spec]
    command += [f"--json={tmp_path / 'r.json'}", f"--html={tmp_path / 'r.html'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if spec:
        assert done.returncode == 1 and "did you mean 'tabletop'" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "r.json").read_text())["name"] == "tiny"
        assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
