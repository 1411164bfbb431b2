"""dataset_info.json in every form that TFDS writes, against TFDS's own file names."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt2.data import index
from rt2.data.errors import DataError
from rt2.data.format import dataset_info, features

TEMPLATES = [
    "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
    "{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}-of-{NUM_SHARDS}",
    "{DATASET}-{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}",
    "prefix_{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}%TFRecord",
]


def written(directory, splits, **fields):
    directory.mkdir(parents=True, exist_ok=True)
    info = {"name": "tiny", "version": "1.0.0", "fileFormat": "tfrecord", "splits": splits}
    (directory / "dataset_info.json").write_text(json.dumps(info | fields))
    return directory


@given(template=st.sampled_from(TEMPLATES), shards=st.sampled_from([1, 3, 100_000]))
def test_file_names_are_those_of_tfds(tmp_path_factory, template, shards):
    tfds = pytest.importorskip("tensorflow_datasets")
    directory = tmp_path_factory.mktemp("names")
    split = {"name": "train", "filepathTemplate": template, "shardLengths": ["1"] * shards}
    found = dataset_info.load(written(directory, [split])).shards("train")
    naming = tfds.core.ShardedFileTemplate(
        dataset_name="tiny",
        data_dir=directory,
        split="train",
        filetype_suffix="tfrecord",
        template=template.split("%")[0],
    )
    for number in {0, shards // 2, shards - 1}:
        wanted = naming.relative_filepath(shard_index=number, num_shards=shards)
        assert found[number].file == str(wanted)


def test_several_splits_numbers_and_empty_splits(tmp_path):
    splits = [
        {"name": "train", "shardLengths": [3, "4"]},
        {"name": "val[x]", "shardLengths": ["0"], "numBytes": "0"},
        {"name": "empty", "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"},
    ]
    info = dataset_info.load(written(tmp_path, splits))
    assert [shard.records for shard in info.shards("train")] == [3, 4]
    assert [shard.file for shard in info.shards("val[x]")] == [
        "tiny-val[x].tfrecord-00000-of-00001"
    ]
    assert info.shards("empty") == ()


@pytest.mark.parametrize(
    "split, words",
    [
        ({"shardLengths": ["1"], "filepathTemplate": "../{SPLIT}-{SHARD_X_OF_Y}"}, "outside"),
        ({"shardLengths": ["1", "1"], "filepathTemplate": "{SPLIT}.tfrecord"}, "the same name"),
        ({"shardLengths": ["1"], "filepathTemplate": "{SHARD}"}, "KeyError"),
        ({"numBytes": "12"}, "no shardLengths"),
        ({"shardLengths": ["many"]}, "many"),
        ({"shardLengths": ["1"], "fileFormat": "array_record"}, "array_record"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, split, words):
    written(tmp_path, [{"name": "train", **split}])
    with pytest.raises(DataError, match=f"dataset_info.json.*{words}"):
        dataset_info.load(tmp_path)


def test_a_folder_of_data_sets_names_those_below(tiny, tmp_path):
    tiny.write()
    (tmp_path / "other" / "config" / "2.0.0").mkdir(parents=True)
    (tmp_path / "other" / "config" / "2.0.0" / "features.json").write_text("{}")
    with pytest.raises(DataError, match="did you mean .*tiny/1.0.0.*2 data sets lie below"):
        index.load(tmp_path)
    with pytest.raises(DataError, match="did you mean .*tiny/1.0.0"):
        features.load(tmp_path / "tiny")


def test_two_sets_in_one_folder_are_not_mixed(tiny):
    tiny.write()
    (tiny.directory / "other-train.tfrecord-00000-of-00001").write_bytes(b"")
    with pytest.raises(DataError, match="other-train.*does not name"):
        index.load(tiny.directory)
