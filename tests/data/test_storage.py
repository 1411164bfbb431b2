"""Data sets behind a URL: the same values, bounded retries, shared requests."""

import pickle
import shutil

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from rt2.data import index, remote, storage
from rt2.data.errors import DataError
from rt2.data.format import dataset_info
from rt2.data.rlds import RldsSteps
from rt2.data.shard_files import Piece


class Flaky(MemoryFileSystem):
    """`flaky://`: fails as often as `failures` says."""

    protocol = "flaky"
    store: dict = {}
    pseudo_dirs = [""]
    failures: list[Exception] = []
    reads: list[tuple] = []

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("flaky://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        Flaky.reads.append((path, start, end))
        if Flaky.failures:
            raise Flaky.failures.pop(0)
        return super().cat_file(path, start=start, end=end)


@pytest.fixture
def flaky(monkeypatch):
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.001)
    Flaky.store.clear()
    Flaky.failures, Flaky.reads = [], []
    fsspec.filesystem("flaky").pipe_file("/a", bytes(range(200)))
    return Flaky


def upload(directory, scheme, root):
    """The files of a local set under `<scheme>://<root>`."""
    fs = fsspec.filesystem(scheme)
    for file in directory.iterdir():
        if file.is_file():
            fs.pipe_file(f"/{root}/{file.name}", file.read_bytes())
    return f"{scheme}://{root}"


def equal(one, other):
    assert len(one) == len(other)
    for i in range(len(one)):
        for key, value in one[i]["observation"].items():
            np.testing.assert_array_equal(value, other[i]["observation"][key])
        assert one[i]["example_id"] == other[i]["example_id"]


def test_a_remote_set_reads_like_the_local_one(tiny, cache):
    local = RldsSteps(tiny.write(), "train")
    url = upload(tiny.directory, "memory", "bucket/tiny/1.0.0")
    far = RldsSteps(url, "train")
    assert cache in far.index.sidecar.path.parents
    assert far.index.content_hash == local.index.content_hash
    equal(local, far)
    equal(local, pickle.loads(pickle.dumps(far)))


def test_missing_and_extra_files_behind_a_url(tiny):
    tiny.write()
    url = upload(tiny.directory, "memory", "broken/1.0.0")
    fs = fsspec.filesystem("memory")
    fs.cp_file("/broken/1.0.0/" + tiny.first.name, "/broken/1.0.0/x-train.tfrecord-00002-of-00003")
    with pytest.raises(DataError, match="does not name"):
        index.load(url)
    fs.rm("/broken/1.0.0/x-train.tfrecord-00002-of-00003")
    fs.rm("/broken/1.0.0/" + tiny.first.name)
    with pytest.raises(DataError, match="1 of 3 shards are missing"):
        index.load(url)
    with pytest.raises(DataError, match="features.json is missing"):
        index.load("memory://nowhere")
    with pytest.raises(DataError, match="nosuch://"):
        index.load("nosuch://bucket/x")


def test_passing_failures_are_tried_again(flaky):
    flaky.failures = [TimeoutError("slow"), ConnectionResetError("gone"), OSError("503")]
    assert storage.read(storage.at("flaky://a")) == bytes(range(200))
    assert len(flaky.reads) == 4


def test_lasting_failures_name_the_url_and_stop(flaky):
    flaky.failures = [TimeoutError("slow")] * 50
    with pytest.raises(DataError, match="flaky://a: cannot be read .*slow; attempts: 5.*network"):
        storage.read(storage.at("flaky://a"))
    assert len(flaky.reads) == remote.ATTEMPTS
    flaky.failures = [PermissionError("denied")]
    with pytest.raises(DataError, match="flaky://a.*denied; attempts: 1.*rights"):
        storage.read(storage.at("flaky://a"))
    with pytest.raises(DataError, match="flaky://b: there is no such file"):
        storage.read(storage.at("flaky://b"))


def test_neighbouring_ranges_share_a_request(flaky, monkeypatch):
    monkeypatch.setattr(remote, "GAP", 10)
    a = storage.at("flaky://a")
    spans = [(150, 5), (0, 10), (15, 10), (5, 3), (190, 50), (120, 0)]
    found = remote.read_ranges([remote.Range(a, *span) for span in spans])
    assert found == [bytes(range(200))[o : o + n] for o, n in spans]
    assert sorted(r[1:] for r in flaky.reads) == [(0, 25), (150, 155), (190, 240)]
    monkeypatch.setattr(remote, "LARGEST", 12)
    flaky.reads.clear()
    remote.read_ranges([remote.Range(a, 0, 10), remote.Range(a, 10, 10)])
    assert len(flaky.reads) == 2


def test_a_stream_seeks_and_ends(flaky, monkeypatch):
    monkeypatch.setattr(remote, "LARGEST", 64)
    with storage.stream(storage.at("flaky://a")) as file:
        assert file.read(3) == b"\0\1\2"
        file.seek(100)
        assert file.read(150) == bytes(range(100, 200)) and file.read(1) == b""


def test_read_many_checks_every_piece(tiny):
    steps = RldsSteps(tiny.write(), "train")
    piece = steps._piece(steps.leaf("observation/rgb"), 0, 0)
    assert steps.files.read_many([piece]) == [steps.encoded("observation/rgb", 0)]
    with pytest.raises(DataError, match="changed"):
        steps.files.read_many([piece, Piece(*piece[:3], piece.crc ^ 1, "x")])


def test_a_local_folder_costs_no_fsspec(tiny, monkeypatch):
    monkeypatch.setattr(remote, "ask", None)
    steps = RldsSteps(tiny.write(), "train")
    assert steps[0]["step"] == 0
    assert dataset_info.check_files(tiny.directory, steps.index.info)
    shutil.rmtree(tiny.directory / "rt2_index")


def test_changed_bytes_behind_a_url_never_come_out(tiny):
    tiny.write()
    far = RldsSteps(upload(tiny.directory, "memory", "changed/1.0.0"), "train")
    offset = int(far.split.column("steps/observation/rgb.offset")[5])
    fs = fsspec.filesystem("memory")
    data = bytearray(tiny.first.read_bytes())
    data[offset + 50] ^= 4
    fs.pipe_file(f"/changed/1.0.0/{tiny.first.name}", bytes(data))
    for read in (lambda: far[5], lambda: far.encoded("observation/rgb", 5)):
        with pytest.raises(DataError, match="memory://.*changed since.*cached index"):
            read()
    assert far[4]["step"] == 0
