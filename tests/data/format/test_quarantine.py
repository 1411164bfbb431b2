"""Damaged and odd records: found, named by a reason code, and left out only by choice."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from rt2.data import index
from rt2.data.errors import DataError, RecordFault
from rt2.data.format import tfrecord
from rt2.data.rlds import RldsSteps

HALF = 0.5


def images(steps):
    return [steps[i]["observation"]["rgb"].tobytes() for i in range(len(steps))]


def damaged(tiny, code, record=1, budget=HALF):
    """The set is refused; in quarantine, exactly `record` of the first shard is left out."""
    with pytest.raises(DataError, match=tiny.first.name):
        index.build(tiny.directory)
    loaded = index.build(tiny.directory, quarantine=budget)
    (entry,) = loaded.quarantined
    found = {key: entry[key] for key in ("split", "shard", "record", "code")}
    name = tiny.first.name
    assert found == {"split": "train", "shard": name, "record": record, "code": code}
    assert name in entry["reason"] and f"record {record}" in entry["reason"]
    assert loaded.split("train").episodes == 5
    return loaded


def flip(tiny, bit):
    data = bytearray(tiny.first.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    tiny.first.write_bytes(data)


def places(tiny):
    """(first byte, bytes of the data) of every record of the first shard."""
    return [(r.offset - 12, len(r.data)) for r in tfrecord.scan(tiny.first)]


@pytest.mark.parametrize(
    "code, where",
    [("length_crc", 3), ("length_crc", 9), ("data_crc", 300), ("data_crc", -2)],
    ids=["length", "length CRC", "data", "data CRC"],
)
def test_what_is_left_out_is_one_record(tiny, code, where):
    whole = images(RldsSteps(tiny.write(), "train"))
    start, size = places(tiny)[1]
    flip(tiny, 8 * (start + where if where >= 0 else start + 16 + size + where))
    loaded = damaged(tiny, code)
    np.testing.assert_array_equal(loaded.split("train").column("episode.record"), [0, 2, 0, 1, 2])
    rest = RldsSteps(tiny.directory, "train", quarantine=HALF)
    assert images(rest) == whole[:4] + whole[8:]


def test_the_default_never_takes_a_quarantined_index(tiny):
    tiny.write()
    flip(tiny, 8 * 400)
    index.load(tiny.directory, quarantine=HALF)
    with pytest.raises(DataError, match="record 0 at byte 0.*CRC32C"):
        index.load(tiny.directory)
    with pytest.raises(DataError, match="record 0 at byte 0.*CRC32C"):
        RldsSteps(tiny.directory, "train")
    flip(tiny, 8 * 400)  # mended: of the same size, so only the new pass can tell
    assert index.load(tiny.directory).quarantined == []


def test_above_the_budget_the_set_is_refused(tiny):
    tiny.write()
    flip(tiny, 8 * 400)
    with pytest.raises(DataError, match="1 of 7 records .*data_crc 1.*0.001.*record 0"):
        index.load(tiny.directory, quarantine=0.001)
    assert not (tiny.directory / "rt2_index").exists()
    assert len(index.load(tiny.directory, quarantine=1 / 7).quarantined) == 1
    with pytest.raises(DataError, match="1 of 7"):
        index.load(tiny.directory, quarantine=0.1)


def test_a_missing_record_is_no_matter_of_quarantine(tiny, wire):
    """Nobody knows which one is missing: refused, whatever the budget."""
    tiny.write()
    framed = [wire.frame(wire.example(e)) for e in tiny.train]
    for shard in (framed[:2], [*framed, framed[0]]):
        tiny.first.write_bytes(b"".join(shard))
        with pytest.raises(DataError, match="promises 3"):
            index.build(tiny.directory, quarantine=1.0)


def test_truncated_in_the_last_record(tiny):
    tiny.write()
    tiny.first.write_bytes(tiny.first.read_bytes()[:-100])
    damaged(tiny, "truncated", record=2)


BAD_EPISODES = {
    "not_finite": ("steps/action", ("float", [0, 0, float("nan"), 0, 0, 0, 0, 0])),
    "wrong_kind": ("steps/action", ("int64", range(8))),
    "partial_value": ("steps/action", ("float", [0.0] * 7)),
    "out_of_range": ("steps/is_first", ("int64", [2, 0, 0, 0])),
    "not_utf8": ("steps/instruction", ("bytes", [b"\xff"] * 4)),
    "bad_image": ("steps/observation/rgb", ("bytes", [b"GIF89a"] * 4)),
    "lengths_differ": ("steps/is_first", ("int64", [1, 0, 0])),
    "unknown_feature": ("steps/extra", ("int64", [1, 2, 3, 4])),
}
ODD_EPISODES = {
    "first_flag": ("steps/is_first", ("int64", [1, 0, 1, 0])),
    "last_flag": ("steps/is_last", ("int64", [0, 0, 0, 0])),
}


@pytest.mark.parametrize("code", BAD_EPISODES)
def test_bad_episodes_have_their_reason_code(tiny, code):
    key, value = BAD_EPISODES[code]
    tiny.train[1][key] = value
    tiny.write()
    damaged(tiny, code)


def test_more_bad_episodes(tiny, wire):
    missing = wire.episode(1)
    del missing["steps/action"]
    empty = {k: (v[0], v[1] if not k.startswith("steps/") else []) for k, v in missing.items()}
    empty["steps/action"] = ("float", [])
    for code, record in (("missing_feature", missing), ("empty_episode", empty)):
        tiny.train[1] = record
        tiny.write()
        damaged(tiny, code)
    tiny.first.write_bytes(b"".join(map(wire.frame, (b"\x99rubbish", *map(wire.example, (
        wire.episode(1), wire.episode(2)))))))  # fmt: skip
    damaged(tiny, "not_an_example", record=0)


@pytest.mark.parametrize("code", [*ODD_EPISODES, "one_step", "terminal_flag"])
def test_odd_episodes_are_counted_and_left_out_by_choice(tiny, wire, code):
    """They can be read: by default the index counts them and the dataset spec has its say."""
    if code == "one_step":
        tiny.train[1] = wire.episode(1, steps=1)
    elif code == "terminal_flag":
        tiny.features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"][
            "features"
        ]["is_terminal"] = tiny.features["featuresDict"]["features"]["steps"]["sequence"][
            "feature"
        ]["featuresDict"]["features"]["is_last"]
        for episodes in tiny.shards.values():
            for episode in episodes:
                episode["steps/is_terminal"] = ("int64", [0, 0, 0, 1])
        tiny.train[1]["steps/is_terminal"] = ("int64", [0, 1, 0, 1])
    else:
        key, value = ODD_EPISODES[code]
        tiny.train[1][key] = value
    loaded = index.load(tiny.write())
    assert loaded.split("train").episodes == 6
    splits = loaded.sidecar.meta["splits"]
    assert splits["train"]["odd"] == {code: 1} and splits["val"]["odd"] == {}
    strict = index.load(tiny.directory, quarantine=HALF)
    assert [(e["record"], e["code"]) for e in strict.quarantined] == [(1, code)]
    assert strict.split("train").episodes == 5


def test_a_fault_survives_pickling():
    fault = pickle.loads(pickle.dumps(RecordFault("words", "data_crc", 3, 99)))
    assert (str(fault), fault.code, fault.record, fault.offset) == ("words", "data_crc", 3, 99)


def test_the_command_line_lists_what_it_left_out(tiny):
    tiny.write()
    flip(tiny, 8 * 400)
    command = [sys.executable, "-m", "rt2.data.index", str(tiny.directory), "--json"]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 1 and "record 0" in failed.stderr
    command.append("--quarantine=0.2")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["quarantined"][0]["code"] == "data_crc"


def check_flips(tiny, count, seed):
    """`count` single-bit flips over all parts of all records: each found, none in a batch."""
    whole = images(RldsSteps(tiny.write(), "train"))
    intact = tiny.first.read_bytes()
    rng = np.random.default_rng(seed)
    records = places(tiny)
    for number in range(count):
        record = int(rng.integers(3))
        start, size = records[record]
        low, high = [(0, 8), (8, 12), (12, 12 + size), (12 + size, 16 + size)][number % 4]
        tiny.first.write_bytes(intact)
        flip(tiny, int(rng.integers(8 * (start + low), 8 * (start + high))))
        with pytest.raises(DataError, match=f"{tiny.first.name}: record {record} at byte {start}"):
            index.build(tiny.directory, workers=1)
        loaded = index.build(tiny.directory, workers=1, quarantine=HALF)
        code = "length_crc" if number % 4 < 2 else "data_crc"
        assert [(e["record"], e["code"]) for e in loaded.quarantined] == [(record, code)]
        if number % 10 == 0:
            rest = RldsSteps(tiny.directory, "train", quarantine=HALF)
            assert images(rest) == whole[: 4 * record] + whole[4 * record + 4 :]


def test_forty_bit_flips(tiny):
    check_flips(tiny, 40, seed=1)


@pytest.mark.faults
def test_a_thousand_bit_flips(tiny):
    check_flips(tiny, 1000, seed=0)


@pytest.mark.faults
def test_a_thousand_bit_flips_after_the_index_was_built(tiny):
    """A flip of a byte that a step reads never comes out: the step raises, others are right."""
    steps = RldsSteps(tiny.write(), "train", decode_images=False)
    intact = tiny.first.read_bytes()
    wanted = [steps[i]["observation"]["rgb"] for i in range(12)]
    column = steps.split.column
    spans = [
        (int(column("steps/observation/rgb.offset")[i]),
         int(column("steps/observation/rgb.length")[i])) for i in range(12)
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(1000):
        bit = int(rng.integers(8 * len(intact)))
        tiny.first.write_bytes(intact)
        flip(tiny, bit)
        for i, (start, size) in enumerate(spans):
            if start <= bit // 8 < start + size:
                with pytest.raises(DataError, match="changed"):
                    steps[i]
            else:
                assert steps[i]["observation"]["rgb"] == wanted[i]
