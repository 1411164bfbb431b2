"""A stream of RLDS steps and image-text rows: resumed anywhere, nothing lost, nothing repeated."""

import collections
import io
import json
import random
import tarfile

import numpy as np
import pytest

from rt2.actions import LANGUAGE_TABLE
from rt2.data.mixture import Mixture
from rt2.data.robot import RobotExamples
from rt2.data.shares import rows_from_shares
from rt2.data.specs import DatasetSpec
from rt2.data.vqa import WebExamples

BATCH, PERIOD, STEPS = 8, 5, 200
SPEC = DatasetSpec(
    name="tiny",
    camera="observation/rgb",
    instruction="instruction",
    action=("action",),
    action_spec=LANGUAGE_TABLE,
    state=None,
    drop_first=False,
    drop_last="always",
    terminate="last_trainable",
    empty_instruction="refuse",
    bounds="min_max",
)


@pytest.fixture
def sets(tiny, tmp_path, wire):
    """90 trainable robot steps of episodes of different lengths, and 46 web rows in two tars."""
    for number, name in enumerate(list(tiny.shards)[:2]):
        tiny.shards[name] = [wire.episode(10 * number + n, steps=13 + 3 * n) for n in range(3)]
    for shard in range(2):
        with tarfile.open(tmp_path / f"web-train-{shard:05d}.tar", "w") as tar:
            for n in range(23):
                row = {"kind": "what", "language": "en", "question": "what", "answer": f"{n}"}
                parts = {"jpg": wire.jpeg(n), "json": json.dumps({"qa": [row]}).encode()}
                for ending, data in parts.items():
                    info = tarfile.TarInfo(f"{n:03d}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    robot, web = RobotExamples(tiny.write(), "train", SPEC), WebExamples(tmp_path, "train")
    assert (len(robot), len(web)) == (90, 46)
    return {"robot": robot, "web": web}


@pytest.fixture
def ids(sets):
    """The example ids of both sets, read once."""
    found = {name: [e.example_id for e in map(s.__getitem__, range(len(s)))]
             for name, s in sets.items()}  # fmt: skip
    assert len({*found["robot"], *found["web"]}) == 136
    return found


def mix(examples, transform, period=PERIOD, shares=None):
    rows = rows_from_shares(shares or {"robot": 0.66, "web": 0.34}, BATCH, period)
    mixed = {name: (examples[name], count) for name, count in rows.items()}
    return Mixture(mixed, BATCH, 7, transform, period)


def as_bytes(example_id, draw):
    return {"id": np.array(example_id.encode(), "S80")}


def identity(example, draw):
    return as_bytes(example.example_id, draw) | {
        "pixels": example_pixels(example).astype(np.int64).sum()
    }


def example_pixels(example):
    return example.images[0] if hasattr(example, "images") else example.image


def parts_of_a_batch(processes):
    """The rows that each process reads."""
    return np.array_split(range(BATCH), processes)


def streamed(mixture, start, stop, processes, threads=0):
    """The global batches start..stop of `processes` processes together, a row an id."""
    readers = [mixture.iterate(start, rows, threads, 2) for rows in parts_of_a_batch(processes)]
    for _ in range(start, stop):
        yield np.concatenate([next(reader)["id"] for reader in readers])


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_resumed_at_any_of_200_steps_the_rest_is_identical(ids, processes):
    whole = np.array(list(streamed(mix(ids, as_bytes), 0, STEPS, 1)))
    assert len(np.unique(whole)) == 136
    starts = list(range(STEPS))
    random.Random(0).shuffle(starts)
    resumed = mix(ids, as_bytes)
    for start in starts:
        for step, batch in enumerate(streamed(resumed, start, STEPS, processes)):
            assert (batch == whole[start + step]).all(), f"resumed at {start}, step {step}"


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("threads", [0, 3])
def test_what_is_decoded_is_what_the_ids_say(sets, processes, threads):
    """The same with every image read and decoded, at a few of the steps."""
    whole = [mix(sets, identity).batch(step) for step in range(70)]
    for start in (0, 1, 29, 64):
        resumed = mix(sets, identity)
        readers = [resumed.iterate(start, rows, threads, 2) for rows in parts_of_a_batch(processes)]
        for step in range(start, start + 5):
            parts = [next(reader) for reader in readers]
            for key, array in whole[step].items():
                assert (np.concatenate([part[key] for part in parts]) == array).all(), (step, key)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("period", [1, PERIOD])
def test_three_epochs_hold_every_example_three_times(ids, processes, period):
    drawn = collections.defaultdict(list)
    kinds = {example: name for name, examples in ids.items() for example in examples}
    for batch in streamed(mix(ids, as_bytes, period), 0, 60, processes):
        for example in batch:
            drawn[kinds[example.decode()]].append(example.decode())
    for name, examples in ids.items():
        had, length = drawn[name], len(examples)
        epochs = [had[i : i + length] for i in range(0, len(had), length)]
        assert len(epochs) > 3
        for epoch in epochs[:3]:
            assert sorted(epoch) == sorted(examples)  # 0 lost, 0 repeated
        assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize(
    ("shares", "period"),
    [
        ({"robot": 0.5, "web": 0.5}, 1),
        ({"robot": 0.66, "web": 0.34}, 1),
        ({"robot": 0.66, "web": 0.34}, 25),
        ({"robot": 0.996, "web": 0.004}, 125),
    ],
)
def test_shares_are_exact_in_1000_batches(ids, shares, period):
    mixed = mix(ids, as_bytes, period, shares)
    rows = rows_from_shares(shares, BATCH, period)
    had = np.zeros(2, np.int64)
    for step in range(1000):
        source = mixed.batch(step)["source"]
        had += np.bincount(source, minlength=2)
        due = (step + 1) * np.array(list(rows.values())) / period
        assert (np.abs(had - due) < 1).all()
        if period == 1:
            assert np.bincount(source, minlength=2).tolist() == list(rows.values())
    assert had.tolist() == [1000 // period * count for count in rows.values()]
