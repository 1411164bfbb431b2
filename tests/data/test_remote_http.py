"""A data set behind a local HTTP server with ranges, latency, errors and broken connections."""

import os
import threading

import numpy as np
import pytest

from rt2.data import index, remote
from rt2.data.errors import DataError
from rt2.data.rlds import RldsSteps
from tests.data.range_server import RangeServer


def equal(one, other):
    assert len(one) == len(other)
    for i in range(len(one)):
        for key, value in one[i]["observation"].items():
            np.testing.assert_array_equal(value, other[i]["observation"][key])
        assert one[i]["example_id"] == other[i]["example_id"]


@pytest.fixture
def server(tiny, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    tiny.write()
    with RangeServer(tiny.directory.parents[1]) as running:
        yield running


def url(server):
    return f"{server.url}/tiny/1.0.0"


def test_http_reads_like_the_local_one(tiny, server, cache):
    local = RldsSteps(tiny.directory, "train")
    far = RldsSteps(url(server), "train")
    assert far.index.content_hash == local.index.content_hash
    equal(local, far)
    spans = [
        span for method, path, span in server.requests if "tfrecord" in path and method == "GET"
    ]
    assert spans and all(spans)


def test_http_survives_errors_in_the_middle(tiny, server):
    server.failures = [503, "drop", 500, 429]
    far = RldsSteps(url(server), "train", decode_images=False)
    local = RldsSteps(tiny.directory, "train", decode_images=False)
    for i in range(len(local)):
        server.failures = [[502], ["drop"], []][i % 3]
        assert far[i]["observation"]["rgb"] == local[i]["observation"]["rgb"]


def test_http_gives_up_and_says_where(server):
    far = RldsSteps(url(server), "train")
    server.failures = [503] * 100
    with pytest.raises(DataError, match=r"http://.*tfrecord.*503.*attempts: 5"):
        far[0]
    server.failures = [403] * 2
    with pytest.raises(DataError, match="403"):
        index.load(url(server))


def test_a_timeout_is_tried_again(server, monkeypatch):
    far = RldsSteps(url(server), "train", decode_images=False)
    monkeypatch.setattr(remote, "TIMEOUT", 0.2)
    server.stall, server.failures = 1.0, ["stall"]
    assert len(far[0]["observation"]["rgb"]) > 100


def test_a_server_without_ranges_is_refused(server):
    far = RldsSteps(url(server), "train")
    server.ranges = False
    with pytest.raises(DataError, match="ignores the Range header"):
        far[0]


def test_changed_remote_bytes_never_come_out(tiny, server):
    far = RldsSteps(url(server), "train")
    offset = int(far.split.column("steps/observation/rgb.offset")[5])
    data = bytearray(tiny.first.read_bytes())
    data[offset + 50] ^= 4
    tiny.first.write_bytes(data)
    with pytest.raises(DataError, match="http://.*changed since.*cached index"):
        far[5]
    tiny.first.write_bytes(data[: offset + 50])
    with pytest.raises(DataError, match="cut to 50"):
        far[5]


def test_a_bit_flip_behind_http_is_found_by_the_index(tiny, server):
    data = bytearray(tiny.first.read_bytes())
    data[len(data) // 2] ^= 1
    tiny.first.write_bytes(data)
    with pytest.raises(DataError, match="http://.*record 1 at byte .*CRC32C"):
        index.load(url(server))


def test_requests_in_flight_are_bounded_and_shared(tiny, server, monkeypatch):
    far = RldsSteps(url(server), "train", decode_images=False)
    local = RldsSteps(tiny.directory, "train", decode_images=False)
    server.latency, server.requests[:] = 0.02, []
    monkeypatch.setattr(remote, "GAP", 0)
    wanted = [("observation/rgb", i) for i in range(24)]
    assert far.encoded_many(wanted) == local.encoded_many(wanted)
    apart = len(server.requests)
    server.requests.clear()
    monkeypatch.setattr(remote, "GAP", 64 * 1024)
    assert far.encoded_many(wanted) == local.encoded_many(wanted)
    assert len(server.requests) == 2 <= apart  # one for each shard
    server.most, server.at_once = 0, 0
    threads = [threading.Thread(target=far.__getitem__, args=(i % 24,)) for i in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 2 <= server.most <= remote.CONCURRENCY


def test_a_forked_child_asks_for_itself(server):
    far = RldsSteps(url(server), "train", decode_images=False)
    wanted = far[3]["observation"]["rgb"]
    child = os.fork()
    if child == 0:
        os._exit(0 if far[3]["observation"]["rgb"] == wanted else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_range_requests_count_no_shard_twice(tiny, server):
    """The index reads every byte of the shards once, and each shard's size once."""
    RldsSteps(url(server), "train")
    heads = [p for m, p, _ in server.requests if m == "HEAD" and "tfrecord" in p]
    gets = [(p, s) for m, p, s in server.requests if m == "GET" and "tfrecord" in p]
    assert len(gets) == len(set(gets)) == 3
    assert len(heads) <= 3 * 5
