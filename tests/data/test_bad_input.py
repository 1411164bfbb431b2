"""Every fault of a data set on disk stops the index with an error that names its place."""

import json
import shutil

import numpy as np
import pytest

from rt2.data import index
from rt2.data.errors import DataError
from rt2.data.rlds import RldsSteps


def refuse(tiny, *words: str) -> str:
    """Indexing the written set fails and the message holds every word."""
    with pytest.raises(DataError) as caught:
        index.build(tiny.directory)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    return message


def set_feature(tiny, key, value):
    tiny.train[1][key] = value
    tiny.write()


def test_the_untouched_set_is_read(tiny):
    loaded = index.build(tiny.write())
    assert loaded.split("train").steps == 24 and loaded.split("val").episodes == 1


def test_single_bit_flips_are_all_detected(tiny):
    """Length, length-CRC, data and data-CRC; 200 bits over one record."""
    tiny.write()
    whole = tiny.first.read_bytes()
    size = len(whole) // 3
    rng = np.random.default_rng(0)
    header = rng.choice(12 * 8, 40, replace=False)
    footer = (size - 4) * 8 + rng.choice(32, 20, replace=False)
    body = rng.choice(np.arange(12 * 8, (size - 4) * 8), 140, replace=False)
    for bit in np.concatenate([header, footer, body]):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        tiny.first.write_bytes(damaged)
        refuse(tiny, tiny.first.name, "record ", "at byte ", "Copy the file again")


def test_truncated_in_a_record(tiny):
    tiny.write()
    tiny.first.write_bytes(tiny.first.read_bytes()[:-100])
    refuse(tiny, tiny.first.name, "record 2", "truncated")


def test_truncated_at_a_record_boundary(tiny, wire):
    tiny.write()
    tiny.first.write_bytes(b"".join(wire.frame(wire.example(e)) for e in tiny.train[:2]))
    refuse(tiny, tiny.first.name, "2 records", "promises 3")


def test_a_record_too_many(tiny, wire):
    tiny.write()
    tiny.first.write_bytes(tiny.first.read_bytes() + wire.frame(wire.example(tiny.train[0])))
    refuse(tiny, "4 records", "promises 3")


def test_missing_extra_and_empty_shards(tiny):
    tiny.write()
    moved = tiny.first.rename(tiny.directory / "aside")
    refuse(tiny, "1 of 3 shards are missing", tiny.first.name)
    moved.rename(tiny.first)
    copy = tiny.directory / "tiny-train.tfrecord-00002-of-00003"
    shutil.copy(tiny.first, copy)
    refuse(tiny, copy.name, "does not name")
    copy.unlink()
    tiny.first.write_bytes(b"")
    refuse(tiny, tiny.first.name, "zero bytes")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_action_that_is_not_finite(tiny, value):
    set_feature(tiny, "steps/action", ("float", [0, 0, 0, value, 0, 0, 0, 0]))
    refuse(tiny, tiny.first.name, "record 1", "steps/action", "step 1", "NaN or infinite")


def test_a_renamed_feature(tiny):
    tiny.train[1]["steps/actoin"] = tiny.train[1].pop("steps/action")
    tiny.write()
    refuse(tiny, "record 1", "steps/action", "did you mean 'steps/actoin'")


def test_an_extra_feature(tiny):
    set_feature(tiny, "steps/extra", ("int64", [1, 2, 3, 4]))
    refuse(tiny, "record 1", "steps/extra", "features.json")


def test_a_wrong_kind_of_list(tiny):
    set_feature(tiny, "steps/action", ("int64", range(8)))
    refuse(tiny, "record 1", "steps/action", "int64", "float32")


def test_a_number_outside_its_dtype(tiny):
    set_feature(tiny, "steps/is_first", ("int64", [2, 0, 0, 0]))
    refuse(tiny, "record 1", "steps/is_first", "bool")


def test_features_of_different_length(tiny):
    set_feature(tiny, "steps/is_first", ("int64", [1, 0, 0]))
    refuse(tiny, "record 1", "steps/is_first", "3 steps", "4")


def test_half_a_value(tiny):
    set_feature(tiny, "steps/action", ("float", [0.0] * 7))
    refuse(tiny, "record 1", "steps/action", "7 numbers")


def test_two_values_where_an_episode_has_one(tiny):
    set_feature(tiny, "episode_metadata/seed", ("int64", [1, 2]))
    refuse(tiny, "record 1", "episode_metadata/seed", "2 values, expected 1")


def test_an_empty_episode(tiny):
    for key in [k for k in tiny.train[1] if k.startswith("steps/")]:
        tiny.train[1][key] = (tiny.train[1][key][0], [])
    tiny.write()
    refuse(tiny, "record 1", "the episode is empty")


def test_text_that_is_not_utf8(tiny):
    set_feature(tiny, "steps/instruction", ("bytes", [b"\xff\xfe"] * 4))
    refuse(tiny, "record 1", "steps/instruction", "UTF-8")


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b"", lambda b: b"GIF89a" + b])
def test_an_undecodable_image(tiny, wire, damage):
    images = [wire.jpeg(i) for i in range(4)]
    images[2] = damage(images[2])
    set_feature(tiny, "steps/observation/rgb", ("bytes", images))
    refuse(tiny, tiny.first.name, "record 1", "steps/observation/rgb", "number 2")


def test_an_image_of_another_size(tiny, wire):
    images = [wire.jpeg(i, size=8) for i in range(4)]
    set_feature(tiny, "steps/observation/rgb", ("bytes", images))
    refuse(tiny, "8 x 8 x 3", "16 x 16 x 3")


def test_a_valid_frame_around_rubbish(tiny, wire):
    tiny.write()
    tiny.first.write_bytes(wire.frame(b"\x99rubbish") * 3)
    refuse(tiny, "record 0", "not a tf.train.Example")


def test_an_unknown_feature_class(tiny):
    audio = {"pythonClassName": "tensorflow_datasets.core.features.audio_feature.Audio"}
    tiny.features["featuresDict"]["features"]["sound"] = audio
    tiny.write()
    refuse(tiny, "features.json", "sound", "'Audio'")


def test_missing_descriptions(tiny):
    tiny.write()
    with pytest.raises(DataError, match="did you mean .*1.0.0"):
        index.load(tiny.directory.parent)
    (tiny.directory / "dataset_info.json").unlink()
    refuse(tiny, "dataset_info.json is missing")


def test_a_damaged_dataset_info(tiny):
    tiny.write()
    (tiny.directory / "dataset_info.json").write_text('{"name": "tiny"}')
    refuse(tiny, "dataset_info.json", "splits")


def test_another_file_format(tiny):
    path = tiny.write() / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fileFormat": "riegeli"}))
    refuse(tiny, "riegeli", "tfrecord")


def test_an_image_that_changes_after_indexing_never_comes_out(tiny):
    steps = RldsSteps(tiny.write(), "train")
    offset = int(steps.split.column("steps/observation/rgb.offset")[5])
    data = bytearray(tiny.first.read_bytes())
    data[offset + 100] ^= 1
    tiny.first.write_bytes(data)
    with pytest.raises(DataError, match="tiny/1.0.0/train/1/1.*00000-of-00002.*changed"):
        steps[5]
    steps[4]
    tiny.first.write_bytes(data[: offset + 50])
    with pytest.raises(DataError, match="cut to 50"):
        steps[5]


def test_a_failed_index_leaves_nothing_behind(tiny):
    set_feature(tiny, "steps/is_first", ("int64", [1, 0, 0]))
    refuse(tiny, "steps/is_first")
    assert not (tiny.directory / "rt2_index").exists()
