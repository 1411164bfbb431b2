"""The sidecar: where it lives, when it is rebuilt, what it holds."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from rt2.data import index
from rt2.data.errors import DataError
from rt2.data.format import dataset_info, features
from rt2.data.format.scan import scan_shard
from rt2.data.rlds import RldsSteps


def test_columns_and_statistics(tiny):
    split = index.load(tiny.write()).split("train")
    actions = np.concatenate(
        [np.reshape(e["steps/action"][1], (-1, 2)) for s in list(tiny.shards)[:2]
         for e in tiny.shards[s]]
    ).astype(np.float32)  # fmt: skip
    np.testing.assert_array_equal(split.column("steps/action.value"), actions)
    np.testing.assert_array_equal(split.column("step.episode"), np.repeat(np.arange(6), 4))
    np.testing.assert_array_equal(split.column("episode.shard"), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(split.column("episode.record"), [0, 1, 2, 0, 1, 2])
    found = split.statistics("action")
    np.testing.assert_allclose(found.q01, np.quantile(actions.astype(float), 0.01, axis=0))
    np.testing.assert_allclose(found.std, actions.astype(float).std(0))


def test_unpacked_numbers_give_the_same_columns(tiny, tmp_path):
    packed = index.load(tiny.write()).split("train")
    wanted = {name: np.array(packed.column(name)) for name in (
        "steps/action.value", "steps/is_last.value", "episode_metadata/seed.value")}  # fmt: skip
    unpacked = index.load(tiny.write(packed=False)).split("train")
    for name, column in wanted.items():
        np.testing.assert_array_equal(unpacked.column(name), column)


def test_a_template_without_the_number_of_shards(tiny):
    tiny.shards = {name.split("-of-")[0]: shard for name, shard in tiny.shards.items()}
    tiny.write(template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}")
    assert index.load(tiny.directory).split("train").steps == 24


def test_fresh_is_opened_and_stale_is_rebuilt(tiny, capsys):
    tiny.write()
    first = index.load(tiny.directory)
    assert "indexing" in capsys.readouterr().err
    again = index.load(tiny.directory)
    assert "indexing" not in capsys.readouterr().err
    assert again.content_hash == first.content_hash
    tiny.train[0]["steps/instruction"] = ("bytes", [b"something longer"] * 4)
    tiny.write()
    changed = index.load(tiny.directory)
    assert "indexing" in capsys.readouterr().err
    assert changed.content_hash != first.content_hash


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_the_hash_does_not_depend_on_the_workers(tiny, pool):
    tiny.write()
    one = index.build(tiny.directory, workers=1).content_hash
    assert index.build(tiny.directory, workers=2, pool=pool).content_hash == one


def test_shards_scanned_elsewhere_are_assembled_to_the_identical_index(tiny):
    directory = tiny.write()
    wanted = index.build(directory, workers=1).content_hash
    found, info = features.load(directory), dataset_info.load(directory)
    parts = {
        split: [scan_shard(directory / shard.file, found, shard.records) for shard in shards]
        for split, shards in info.splits.items()
    }
    assert index.assemble(directory, parts).content_hash == wanted
    with pytest.raises(DataError, match="'train': 1, 'val': 1.*names .*'train': 2"):
        index.assemble(directory, parts | {"train": parts["train"][:1]})


def test_a_read_only_data_set_is_indexed_in_the_cache(tiny, cache):
    tiny.write()
    os.chmod(tiny.directory, 0o555)
    loaded = index.load(tiny.directory)
    os.chmod(tiny.directory, 0o755)
    assert cache in loaded.sidecar.path.parents
    assert not (tiny.directory / "rt2_index").exists()


def test_an_unknown_split_names_the_splits(tiny):
    with pytest.raises(DataError, match="no split 'valid': did you mean 'val'.*'train', 'val'"):
        RldsSteps(tiny.write(), "valid")


def test_command_line(tiny):
    tiny.write()
    command = [sys.executable, "-m", "rt2.data.index", str(tiny.directory), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["splits"]["train"] == {"episodes": 6, "steps": 24}
    tiny.first.write_bytes(b"")
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.startswith("error: ")


def test_the_reader_imports_no_tensorflow():
    code = (
        "import sys, rt2.data.robot, rt2.data.vqa, rt2.data.index\n"
        "print([m for m in ('tensorflow', 'grain', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
