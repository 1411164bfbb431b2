"""The index of a Beam pipeline is the index of one machine."""

import json
import subprocess
import sys

import pytest

from rt2.data import index
from rt2.data.errors import DataError

pytest.importorskip("apache_beam")
from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402

from rt2.data import beam  # noqa: E402

RUNNER = "--runner=apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"


@pytest.fixture
def options():
    """The runner inside this process."""
    return PipelineOptions([RUNNER])


def contents(opened):
    """Everything that the sidecar holds, byte for byte."""
    return {path.name: path.read_bytes() for path in opened.sidecar.path.iterdir()}


def test_the_index_is_identical(tiny, tmp_path, options):
    local = index.build(tiny.write())
    expected = contents(local)
    built = beam.build(tiny.directory, tmp_path / "work", options)
    assert built.content_hash == local.content_hash
    assert contents(built) == expected  # statistics included
    assert built.split("train").statistics("action") == local.split("train").statistics("action")
    assert index.load(tiny.directory).content_hash == local.content_hash
    assert list((tmp_path / "work").iterdir()) == []


def test_real_episodes(bridge, tmp_path, options):
    folder = tmp_path / "bridge_dataset" / "1.0.0"
    folder.mkdir(parents=True)
    for path in bridge.iterdir():
        if path.is_file():
            (folder / path.name).symlink_to(path)
    expected = index.build(folder).content_hash
    assert beam.build(folder, tmp_path / "work", options).content_hash == expected


def test_faults_are_all_named_and_whole_shards_are_not_scanned_again(tiny, tmp_path, options):
    expected = index.build(tiny.write()).content_hash
    work = tmp_path / "work"
    shards = [tiny.directory / name for name in tiny.shards]
    whole = {path: path.read_bytes() for path in shards[:2]}
    for path in shards[:2]:
        flipped = bytearray(whole[path])
        flipped[len(flipped) // 2] ^= 1
        path.write_bytes(flipped)
    with pytest.raises(DataError, match="2 of 3 shards could not be indexed") as error:
        beam.build(tiny.directory, work, options)
    for path in shards[:2]:
        assert str(path) in str(error.value)
    (kept,) = work.glob("*.npz")
    before = kept.stat()
    shards[0].write_bytes(whole[shards[0]])
    with pytest.raises(DataError, match="1 of 3 shards"):
        beam.build(tiny.directory, work, options)
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    shards[1].write_bytes(whole[shards[1]])
    assert beam.build(tiny.directory, work, options).content_hash == expected


def test_columns_of_another_shard_are_not_taken(tiny, tmp_path):
    stems = {t.stem for split in beam.plan(tiny.write()).values() for t in split}
    assert len(stems) == 3
    tiny.train[0]["steps/instruction"] = ("bytes", [b"something longer"] * 4)
    tiny.write()
    again = {t.stem for split in beam.plan(tiny.directory).values() for t in split}
    assert len(stems & again) == 2


def test_command_line(tiny, tmp_path):
    expected = index.build(tiny.write()).content_hash
    command = [sys.executable, "-m", "rt2.data.beam", str(tiny.directory)]
    command += [f"--work={tmp_path / 'work'}", "--runner=DirectRunner"]
    command += ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"content_hash  {expected}" in done.stdout
    assert json.loads((tiny.directory / "dataset_info.json").read_text())["name"] == "tiny"
    tiny.first.write_bytes(b"")
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.splitlines()[-1].startswith("error: ")
