"""The survey of a data set, as text, page and recording."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from rt2.data import specs
from rt2.data.errors import DataError
from rt2.data.inspect import film, histogram, recording
from rt2.data.inspect import page as inspect_page
from rt2.data.inspect.survey import examples, oddities, survey
from rt2.data.inspect.text import as_text


def test_the_proposed_row_reads_the_set(tiny):
    found = survey(tiny.write(), None)
    spec = specs.from_config(found["row"])
    assert (spec.camera, spec.instruction) == ("observation/rgb", "instruction")
    assert (spec.action, spec.state) == (("action",), "observation/state")
    assert (spec.drop_first, spec.drop_last) == (False, "flagged")
    train = found["splits"]["train"]
    assert train["trainable"] == 18 and train["dropped"] == {"last step": 6}
    assert {(row["text"], row["episodes"]) for row in train["instructions"]} == {
        (f"go to {i}", 2) for i in range(3)
    }
    assert train["lengths"] == {"min": 4, "median": 4.0, "max": 4, "width": 1, "counts": [6]}
    val = found["splits"]["val"]
    assert val["bounds"] == train["bounds"]  # as in training, which knows no others
    assert sum(val["bins"][0]["counts"]) + val["bins"][0]["below"] + val["bins"][0]["above"] == 3
    text = as_text(found)
    assert "train: 6 episodes of 4 to 4 steps (median 4), 24 steps" in text
    assert "2 episodes  'go to 1'" in text and "    config.dataset_specs.tiny = dict(\n" in text
    assert text.endswith("    return config")


def test_a_still_first_action_is_proposed_to_be_dropped(tiny):
    for episodes in tiny.shards.values():
        for episode in episodes:
            episode["steps/action"] = ("float", [1e-7, -1e-7, *episode["steps/action"][1][2:]])
    assert survey(tiny.write(), None)["row"]["drop_first"] is True


def test_an_episode_in_two_splits_is_told(tiny):
    tiny.shards["tiny-val.tfrecord-00000-of-00001"] = [tiny.train[2]]
    found = survey(tiny.write(), None)
    assert found["leaks"] == ["1 episodes of val stand in train too"]
    assert "held-out figures mean nothing" in as_text(found)


def test_what_is_odd_is_said(tiny, wire):
    for number, episode in enumerate(tiny.train):
        episode["steps/observation/rgb"] = ("bytes", [wire.jpeg(number)] * 4)
        episode["steps/observation/state"] = ("float", [0.0] * 7 + [float("nan")])
        values = np.reshape(episode["steps/action"][1], (4, 2)).copy()
        values[:, 1] = 0.01
        episode["steps/action"] = ("float", list(values.ravel()))
    for episode in tiny.shards["tiny-train.tfrecord-00001-of-00002"]:
        episode["steps/action"] = tiny.train[0]["steps/action"]
    odd = oddities(survey(tiny.write(), None))
    assert "train: observation/state is NaN or infinite in 3 of 24 steps" in odd
    assert any("observation/rgb shows one and the same picture in 17%" in what for what in odd)
    assert any(what.startswith("train: dy: constant at 0.01") for what in odd)


def test_a_row_that_does_not_fit_is_told_and_the_rest_shown(tiny):
    tiny.shards["tiny-val.tfrecord-00000-of-00001"][0]["steps/instruction"] = ("bytes", [b""] * 4)
    found = survey(tiny.write(), None)
    assert "instruction is empty" in found["splits"]["val"]["refused"]
    assert found["splits"]["val"]["steps"] == 4 and found["splits"]["train"]["trainable"] == 18
    assert "warning: val cannot be trained on with this row" in as_text(found)
    assert "val cannot be trained on" in inspect_page.page(found)


def test_counts_over_bins_against_numpy():
    values = np.random.default_rng(0).normal(0, 1, 5000)
    found = histogram.bin_counts(values, 32, -1.5, 2.0)
    np.testing.assert_array_equal(found["counts"], np.histogram(values, 32, (-1.5, 2.0))[0])
    assert (found["below"], found["above"]) == ((values < -1.5).sum(), (values > 2.0).sum())
    wide = histogram.bin_counts(values, 256, -10.0, 10.0)
    q01, q99 = np.quantile(values, [0.01, 0.99])
    assert wide["covered"] == pytest.approx((q99 - q01) / 20)
    assert histogram.bin_counts(np.array([1.0, 1.0, 0.0]), 4, 0.0, 1.0)["counts"] == [1, 0, 0, 2]


def test_lengths_share_bars_where_they_are_many():
    lengths = np.arange(10, 1010)
    found = histogram.length_counts(lengths)
    assert found["width"] == 25 and found["counts"] == [25] * 40
    assert sum(histogram.length_counts(np.array([3, 3, 50]))["counts"]) == 3


def test_the_page(tiny):
    found = survey(tiny.write(), None)
    page = inspect_page.page(found)
    assert page.startswith("<!doctype html>") and "<script" not in page and "http" not in page
    assert page.count('src="data:image/webp;base64,') == 4 * 4  # of four episodes of four steps
    assert page.count('class="strip"') == 4
    assert page.count('class="histogram"') == 2 * (2 + 1)  # splits x (dx, dy, lengths)
    assert "Nothing odd was found" in page and "config.sources.tiny" in page


def test_the_bars_stand_where_the_bins_are(tiny):
    page = inspect_page.page(survey(tiny.write(), None))
    counts = survey(tiny.directory, None)["splits"]["train"]["bins"][0]["counts"]
    bars = re.search(r'class="bars" d="([^"]*)"', page)[1]
    assert bars.count("M") == sum(map(bool, counts))


def test_a_film_shows_the_steps_and_the_actions(tiny):
    found = survey(tiny.write(), None)
    shown = examples(found, "train")
    episodes = film.episodes(shown.steps, shown, ["observation/rgb"], 4)
    assert [(e.number, e.length, e.films[0].steps) for e in episodes] == [
        (n, 4, (0, 1, 2, 3)) for n in (0, 1, 3, 5)
    ]
    strip = cv2.imdecode(np.frombuffer(episodes[1].actions, np.uint8), cv2.IMREAD_UNCHANGED)
    assert strip.shape == (2, 4, 4) and not strip[:, 3, 3].any()  # the last step is not learnt
    low, high = (np.array(bound) for bound in shown.bounds())
    moved = np.clip((shown.actions[3:6] - (low + high) / 2).T / (high - low)[:, None] * 2, -1, 1)
    assert ((strip[:, :3, 0] > strip[:, :3, 2]) == (moved > 0)).all()  # blue above the middle
    np.testing.assert_allclose(strip[:, :3, 3], 255 * np.abs(moved), atol=1)


def test_without_rerun_the_extra_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(DataError, match="the extra `inspect` .*pip install rerun-sdk"):
        recording.write(tmp_path / "r.rrd", survey(tiny.write(), None))


def test_a_recording_holds_every_step(tiny, tmp_path):
    pytest.importorskip("rerun")
    from rerun.chunk import RrdReader

    found = survey(tiny.write(), None)
    recording.write(tmp_path / "r.rrd", found)
    rows: dict[str, list[dict]] = {}
    for chunk in RrdReader(tmp_path / "r.rrd").stream():
        batch = chunk.to_record_batch()
        batch = batch.select([c for c in batch.schema.names if c != "log_time"])  # nanoseconds
        rows.setdefault(str(chunk.entity_path), []).extend(batch.to_pylist())
    pictures = rows["/camera/observation/rgb"]
    assert [row["step"] for row in pictures] == list(range(24))
    assert [row["episode"] for row in pictures] == [n for n in range(6) for _ in range(4)]
    assert (
        bytes(pictures[5]["EncodedImage:blob"][0]) == tiny.train[1]["steps/observation/rgb"][1][1]
    )
    actions = [row["Scalars:scalars"][0] for row in rows["/action/dx"]]
    np.testing.assert_array_equal(actions, examples(found, "train").actions[:, 0])
    assert rows["/instruction"][3]["TextDocument:text"] == ["episode 1, step 0: go to 1"]


def test_bridge(bridge):
    found = survey(bridge, None)
    row = found["row"]
    assert row["camera"] == "observation/image_0" and row["drop_first"] is True
    assert row["cameras"] == ("observation/image_1", "observation/image_2")
    assert row["action_spec"] == "rt2" and row["state"] == "observation/state"
    assert any("observation/image_3 shows one and the same" in what for what in oddities(found))


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
