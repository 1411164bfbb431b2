"""Features by name: optional ones, codes, what is refused, and damaged sequences."""

import io
import json
import zlib

import numpy as np
import pytest

from rt2.data import index
from rt2.data.errors import DataError, RecordFault
from rt2.data.format import features
from rt2.data.rlds import RldsSteps

tfds = pytest.importorskip("tensorflow_datasets")
f = tfds.features


def write(directory, feature, records):
    """A set of one shard; `records` are serialised."""
    directory.mkdir(parents=True, exist_ok=True)
    feature.save_config(directory)
    (directory / "t-train.tfrecord-00000-of-00001").write_bytes(b"".join(records))
    split = {"name": "train", "shardLengths": [str(len(records))]}
    info = {"name": "t", "version": "1.0.0", "splits": [split]}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    return directory


def given(directory, wire, tree, examples):
    feature = f.FeaturesDict(tree)
    records = [wire.frame(feature.serialize_example(example)) for example in examples]
    return RldsSteps(write(directory, feature, records), "train")


def test_what_a_record_lacks_is_none(wire, tmp_path):
    tree = {
        "number": f.Scalar(np.int32, optional=True),
        "pair": f.Tensor(shape=(2,), dtype=np.float32, optional=True),
        "text": f.Scalar(np.str_, optional=True),
        "packed": f.Tensor(shape=(2,), dtype=np.int8, encoding="zlib", optional=True),
        "always": np.int64,
    }
    whole = {"number": 3, "pair": np.ones(2, np.float32), "text": "x"}
    whole |= {"packed": np.array([1, 2], np.int8), "always": 1}
    nothing = dict.fromkeys(whole) | {"always": 2}
    steps = given(tmp_path / "flat", wire, tree, [whole, nothing, whole])
    for row, present in ((0, True), (1, False), (2, True)):
        for name in ("number", "pair", "text", "packed"):
            wanted = whole[name] if present else None
            wanted = wanted.encode() if isinstance(wanted, str) else wanted
            np.testing.assert_array_equal(steps[row][name], wanted)
            np.testing.assert_array_equal(steps.value(name, row), wanted)
        assert steps[row]["always"] == (1 if present else 2)
    lowest = np.iinfo(np.int32).min  # as TFDS decodes it with TensorFlow
    np.testing.assert_array_equal(steps.split.column("number.value"), [3, lowest, 3])

    episodes = {"steps": f.Dataset({"is_first": np.bool_}), "meta": tree}
    flags = [{"is_first": True}, {"is_first": False}]
    two = [{"steps": flags, "meta": meta} for meta in (nothing, whole)]
    steps = given(tmp_path / "episodes", wire, episodes, two)
    assert steps.episode(0)["meta"]["text"] is None and steps.episode(0)["meta"]["packed"] is None
    assert steps.episode(1)["meta"]["text"] == b"x"


def test_a_vector_of_codes_is_kept_once(wire, tmp_path):
    """Language-Table's instruction: int32 [512], the same in every step of an episode."""
    codes = [np.full(512, n, np.int32) for n in (7, -1)]
    steps = [[{"instruction": codes[n]}] * 3 for n in (0, 1, 0)]
    tree = {"steps": f.Dataset({"instruction": f.Tensor(shape=(512,), dtype=np.int32)})}
    read = given(tmp_path / "t", wire, tree, [{"steps": episode} for episode in steps])
    assert read.leaf("instruction").kind == "codes"
    np.testing.assert_array_equal(
        read.split.column("steps/instruction.id"), [0] * 3 + [1] * 3 + [0] * 3
    )
    assert len(read.split.strings) == 2
    np.testing.assert_array_equal(read.value("instruction", 4), codes[1])
    assert read.value("instruction", 4).dtype == np.int32


def test_images_of_a_sequence_stay_encoded_on_request(wire, tmp_path):
    tree = {"steps": f.Dataset({"views": f.Sequence(f.Image(shape=(16, 16, 3)))})}
    views = [[wire.jpeg(1), wire.jpeg(2)], [], [wire.jpeg(3)]]
    steps = [{"views": list(map(io.BytesIO, v))} for v in views]
    given(tmp_path / "t", wire, tree, [{"steps": steps}])
    read = RldsSteps(tmp_path / "t", "train", decode_images=False)
    assert [read[i]["views"] for i in range(3)] == views
    decoded = RldsSteps(tmp_path / "t", "train")
    assert decoded[0]["views"].shape == (2, 16, 16, 3) and len(decoded[1]["views"]) == 0
    (leaf,) = decoded.index.features.at("ragged_step")
    np.testing.assert_array_equal(decoded.ragged(leaf, 2), decoded[2]["views"])


@pytest.mark.parametrize(
    "tree, words",
    [
        ({"steps": f.Dataset({"a": f.Tensor(shape=(None,), dtype=np.float32)})}, "steps/a.*zlib"),
        ({"a": f.Sequence(f.Tensor(shape=(None, 2), dtype=np.int32))}, "a: the shape .*zlib"),
        ({"a": f.Tensor(shape=(None, None), dtype=np.int32)}, "a: the shape .*zlib"),
        ({"a": f.Tensor(shape=(2,), dtype=np.complex64)}, "a: the dtype 'complex64'.*float32"),
        ({"x": {"a": f.Audio()}}, "x/a: the feature class 'Audio'.*Rewrite"),
        ({"a": f.Translation(languages=["en"])}, "a: the feature class 'Translation'.*Rewrite"),
        ({"a": f.Image(shape=(None, None, None, 3))}, "a: an image of uint8"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, tree, words):
    f.FeaturesDict(tree).save_config(tmp_path)
    with pytest.raises(DataError, match=f"features.json: {words}"):
        features.load(tmp_path)


def test_an_unknown_encoding_and_an_old_gif_are_refused(tmp_path):
    tensor = {"shape": {}, "dtype": "int64", "encoding": "lz4"}
    image = {"shape": {"dimensions": ["2", "2", "3"]}, "dtype": "uint8", "encodingFormat": "gif"}
    for node, words in (
        ({"pythonClassName": "Tensor", "tensor": tensor}, "a: the encoding 'lz4'"),
        ({"pythonClassName": "Image", "image": image}, "a: an image of uint8 .*'gif'"),
    ):
        tree = {"pythonClassName": "FeaturesDict", "featuresDict": {"features": {"a": node}}}
        (tmp_path / "features.json").write_text(json.dumps(tree))
        with pytest.raises(DataError, match=words):
            features.load(tmp_path)


NESTED = {
    "steps": f.Dataset(
        {
            "is_first": np.bool_,
            "a": f.Sequence(f.Sequence(np.int32, length=2)),
            "t": f.Tensor(shape=(None, None), dtype=np.int16, encoding="bytes"),
            "big": f.Tensor(shape=(9, 9), dtype=np.uint8),
        }
    )
}


def nested_record():
    """Two steps: [[1, 2]] and [[3, 4], [5, 6]]."""
    big = list(range(81))
    return {
        "steps/is_first": ("int64", [1, 0]),
        "steps/a/ragged_flat_values": ("int64", [1, 2, 3, 4, 5, 6]),
        "steps/a/ragged_row_lengths_0": ("int64", [1, 2]),
        "steps/a/ragged_row_lengths_1": ("int64", [2, 2, 2]),
        "steps/t/shape": ("int64", [1, 2, 2, 1]),
        "steps/t/value": ("bytes", [b"\1\0\2\0", b"\3\0\4\0"]),
        "steps/big": ("int64", big + big[::-1]),
    }


def nested(tmp_path, wire, record, quarantine=0.0):
    directory = write(tmp_path / "n", f.FeaturesDict(NESTED), [wire.frame(wire.example(record))])
    return RldsSteps(directory, "train", quarantine=quarantine)


def test_a_hand_made_nested_record(tmp_path, wire):
    steps = nested(tmp_path, wire, nested_record())
    assert [row.tolist() for row in steps[1]["a"]] == [[3, 4], [5, 6]]
    assert steps[0]["t"].tolist() == [[1, 2]] and steps[1]["t"].tolist() == [[3], [4]]
    assert steps[1]["big"].ravel().tolist() == list(range(81))[::-1]
    assert steps[1]["big"].dtype == np.uint8


@pytest.mark.parametrize(
    "key, value, code, words",
    [
        ("a/ragged_row_lengths_0", [1, 1], "lengths_differ", "steps/a: .*sum to 2, it holds 3"),
        ("a/ragged_row_lengths_0", [3], "lengths_differ", "steps where the episode has 2"),
        ("a/ragged_row_lengths_0", [4, -1], "lengths_differ", "steps/a"),
        ("a/ragged_row_lengths_1", [2, 2, 1], "lengths_differ", "steps/a: .*sum to 5, .* 6"),
        ("a/ragged_row_lengths_1", [2, 1, 3], "lengths_differ", "a sequence of 1 where .* 2"),
        ("t/shape", [1, 2, 2], "lengths_differ", "steps/t: 3 dimensions for 2 values"),
        ("t/shape", [1, 2, -2, -1], "out_of_range", "steps/t: a shape"),
        ("big", list(range(81)), "lengths_differ", "steps/big.*1 steps where the episode has 2"),
        ("big", list(range(80)), "partial_value", "steps/big.*80 numbers"),
    ],
)
def test_damaged_sequences_name_the_feature(tmp_path, wire, key, value, code, words):
    record = nested_record() | {f"steps/{key}": ("int64", value)}
    with pytest.raises(RecordFault, match=words) as caught:
        nested(tmp_path, wire, record)
    assert caught.value.code == code


def test_values_that_only_decoding_can_refuse_name_the_example(tmp_path, wire):
    record = nested_record()
    record["steps/t/value"] = ("bytes", [b"\1\0\2\0", b"\3\0\4"])
    with pytest.raises(DataError, match="t/1.0.0/train/0/1: t: no int16 tensor"):
        nested(tmp_path, wire, record)[1]
    record = nested_record()
    record["steps/big"] = ("int64", [256] * 162)
    with pytest.raises(
        DataError, match="train/0/0: big: no uint8 tensor.*a number that is no uint8"
    ):
        nested(tmp_path, wire, record)[0]


def test_a_damaged_zlib_tensor(tmp_path, wire):
    tree = {"a": f.Tensor(shape=(2,), dtype=np.int16, encoding="zlib")}
    whole = zlib.compress(b"\1\0\2\0")
    for data in (whole[:-3], zlib.compress(b"\1\0"), b"rubbish"):
        record = {"a": ("bytes", [data])}
        directory = write(tmp_path / "z", f.FeaturesDict(tree), [wire.frame(wire.example(record))])
        with pytest.raises(DataError, match="t/1.0.0/train/0/0: a: no int16 tensor"):
            RldsSteps(directory, "train")[0]


def test_a_bytes_tensor_of_a_wrong_size_is_found_by_the_index(tmp_path, wire):
    tree = {"a": f.Tensor(shape=(2,), dtype=np.int16, encoding="bytes")}
    record = {"a": ("bytes", [b"\1\0\2"])}
    directory = write(tmp_path / "b", f.FeaturesDict(tree), [wire.frame(wire.example(record))])
    with pytest.raises(RecordFault, match="a: 3 bytes where"):
        index.load(directory)
