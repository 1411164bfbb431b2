"""A batch is a function of (seed, step) alone; shares and epochs are exact."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt2.data.errors import DataError
from rt2.data.mixture import Mixture, Progress
from rt2.data.shuffle import TABLE, EpochShuffle


class Numbers:
    """`examples[i]` is i + offset."""

    def __init__(self, length: int, offset: int):
        self.length, self.offset = length, offset

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return self.offset + i


def transform(number, draw):
    return {"value": np.float32(number), "pair": np.array([number, -number], np.int32)}


def mixture(seed=3, lengths=(41, 13), rows=(5, 3)):
    sources = {
        f"source{n}": (Numbers(length, 1000 * n), count)
        for n, (length, count) in enumerate(zip(lengths, rows, strict=True))
    }
    return Mixture(sources, sum(rows), seed, transform)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].dtype == b[key].dtype
        np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("start", [0, 7, 1000])
def test_streams_equal_batches(processes, threads, start):
    mixed = mixture()
    parts = np.array_split(range(mixed.batch_size), processes)
    streams = [mixed.iterate(start, rows, threads, prefetch=2) for rows in parts]
    for step in range(start, start + 6):
        parts = [next(stream) for stream in streams]
        whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        assert_same(whole, mixture().batch(step))


def test_the_seed_decides():
    assert (mixture(seed=3).batch(0)["value"] != mixture(seed=4).batch(0)["value"]).any()


@given(
    lengths=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    rows=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=25, deadline=None)
def test_every_epoch_holds_every_example_once(lengths, rows, seed):
    mixed = mixture(seed, lengths, rows)
    steps = 3 * max(-(-length // count) for length, count in zip(lengths, rows, strict=True))
    drawn = collections.defaultdict(list)
    for step in range(steps):
        batch = mixed.batch(step)
        for source, index, value in zip(
            batch["source"], batch["example_index"], batch["value"], strict=True
        ):
            assert value == 1000 * source + index
            drawn[int(source)].append(int(index))
        assert tuple(np.bincount(batch["source"], minlength=2)) == rows
    for source, length in enumerate(lengths):
        whole = len(drawn[source]) // length
        for epoch in range(whole):
            part = drawn[source][epoch * length : (epoch + 1) * length]
            assert sorted(part) == list(range(length))


def test_epochs_and_sources_are_shuffled_differently():
    mixed = mixture(lengths=(50, 50), rows=(5, 5))
    orders = collections.defaultdict(list)
    for step in range(20):
        batch = mixed.batch(step)
        for source in (0, 1):
            orders[source, step // 10].extend(batch["example_index"][batch["source"] == source])
    distinct = {tuple(map(int, order)) for order in orders.values()}
    assert len(distinct) == 4 and tuple(range(50)) not in distinct


@pytest.mark.parametrize("length", [1, 2, 7, TABLE - 1, TABLE, TABLE + 1])
def test_each_epoch_of_a_shuffle_is_a_permutation(length):
    shuffled = EpochShuffle(length, seed=11)
    for epoch in (0, 3) if length > 7 else range(4):
        order = [shuffled[epoch * length + place] for place in range(length)]
        assert np.array_equal(np.sort(order), np.arange(length))


def test_sources_are_interleaved():
    """Each of 4 processes has its share of both sources to within one row."""
    batch = mixture(rows=(12, 4)).batch(0)
    shares = [int((part == 1).sum()) for part in batch["source"].reshape(4, 4)]
    assert shares == [1, 1, 1, 1]


def test_progress_is_arithmetic():
    assert mixture().progress(0) == {"source0": Progress(0, 0), "source1": Progress(0, 0)}
    assert mixture().progress(20) == {"source0": Progress(2, 18), "source1": Progress(4, 8)}


def test_wrong_rows():
    with pytest.raises(DataError, match=r"sum to batch_size \* share_period = 9 \* 1"):
        Mixture({"a": (Numbers(3, 0), 8)}, 9, 0, transform)
    with pytest.raises(DataError, match="'a' has 0 examples"):
        Mixture({"a": (Numbers(0, 0), 8)}, 8, 0, transform)
    with pytest.raises(DataError, match="not among the"):
        mixture().iterate(0, [mixture().batch_size], 0, 0)


@pytest.mark.parametrize("rows", [[1, 2, 6], [0], [8, 3]])
def test_a_process_reads_its_rows_and_no_others(rows):
    read = []

    class Watched(Numbers):
        def __getitem__(self, i):
            read.append((self.offset, i))
            return super().__getitem__(i)

    mixed = Mixture({"a": (Watched(18, 0), 3), "b": (Watched(13, 100), 6)}, 9, 3, transform)
    found = list(itertools.islice(mixed.iterate(4, rows, threads=0, prefetch=0), 3))
    wanted, read[:] = set(read), []
    for step, part in enumerate(found, start=4):
        whole = mixed.batch(step)
        assert_same(part, {key: array[rows] for key, array in whole.items()})
        pairs = zip(part["source"], part["example_index"], strict=True)
        assert {(100 * int(n), int(i)) for n, i in pairs} <= wanted
    assert len(wanted) <= 3 * len(rows) < len(set(read))


def test_rows_that_do_not_stack():
    ragged = Mixture({"a": (Numbers(5, 0), 4)}, 4, 0, lambda n, _: {"x": np.zeros(n)})
    with pytest.raises(DataError, match="'x' has rows of different shapes"):
        ragged.batch(0)
    keys = Mixture({"a": (Numbers(5, 0), 4)}, 4, 0, lambda n, _: {str(n): 0})
    with pytest.raises(DataError, match="the same keys"):
        keys.batch(0)


def test_an_error_in_a_reader_thread_reaches_the_consumer():
    def broken(number, draw):
        if number == 7:
            raise DataError("example 7 is damaged")
        return transform(number, draw)

    mixed = Mixture({"a": (Numbers(10, 0), 2)}, 2, 0, broken)
    with pytest.raises(DataError, match="example 7 is damaged"):
        list(itertools.islice(mixed.iterate(0, range(mixed.batch_size), threads=2, prefetch=2), 5))
