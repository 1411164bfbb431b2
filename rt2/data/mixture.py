"""Batches that are a pure function of (seed, step), with exact shares of every source."""

import hashlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import cv2
import grain
import numpy as np

from rt2.data.errors import DataError
from rt2.data.shuffle import EpochShuffle

Batch = dict[str, np.ndarray]


class Examples(Protocol):
    """Anything with a length and random access that is safe under threads."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...


class Progress(NamedTuple):
    """How far a source has been read: whole epochs, and examples of the one that has begun."""

    epoch: int
    examples: int


def rows_from_shares(shares: Mapping[str, float], batch_size: int) -> dict[str, int]:
    """Rows of a batch for each share (any positive scale), by the largest remainder.

    The rows sum to `batch_size`; on equal remainders the source named first gains. Raises DataError
    for a share that is not positive or that is too small for one row.
    """
    if not shares or any(not share > 0 for share in shares.values()):
        raise DataError(f"shares must be positive: {dict(shares)}")
    total = sum(Fraction(share) for share in shares.values())
    exact = {name: Fraction(share) / total * batch_size for name, share in shares.items()}
    rows = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: rows[name] - exact[name])
    for name in by_remainder[: batch_size - sum(rows.values())]:
        rows[name] += 1
    if empty := [name for name, count in rows.items() if count == 0]:
        raise DataError(
            f"the share of {', '.join(empty)} is below one row of a batch of {batch_size}: raise "
            "the share or the batch size, or leave the source out"
        )
    return rows


class Mixture:
    """Endless batches of `batch_size` rows from several sources.

    `sources`: name -> (examples, rows in every batch). `transform` turns a record into a dict of
    arrays of fixed shapes; it runs on reader threads. Every source is shuffled globally anew each
    epoch, without memory. A row also carries `source` int32, the position of its source in
    `names`, and `example_index` int64, its index in the source.
    Raises DataError where the rows do not sum to `batch_size` or a source is empty.
    """

    def __init__(
        self,
        sources: Mapping[str, tuple[Examples, int]],
        batch_size: int,
        seed: int,
        transform: Callable[[Any], Mapping[str, Any]],
    ):
        rows = {name: count for name, (_, count) in sources.items()}
        if sum(rows.values()) != batch_size or any(count < 1 for count in rows.values()):
            raise DataError(
                f"rows a batch {rows} must be positive and sum to batch_size={batch_size}; "
                "rows_from_shares computes them"
            )
        for name, (examples, _) in sources.items():
            if not 0 < len(examples) < 2**32 - 1:
                raise DataError(f"source {name!r} has {len(examples)} examples")
        self.names = tuple(sources)
        self.batch_size, self.seed = batch_size, seed
        self.rows_per_batch = rows
        self.rows = _Rows(sources, batch_size, seed, transform)

    def batch(self, step: int) -> Batch:
        """The global batch of `step`: arrays [batch_size, ...]."""
        first = step * self.batch_size
        rows = (self.rows[first + row] for row in range(self.batch_size))
        return _stack(rows, self.batch_size)

    def iterate(
        self, start_step: int, process_index: int, process_count: int, threads: int, prefetch: int
    ) -> Iterator[Batch]:
        """Batches `start_step`, `start_step + 1`, ... of one process: [batch_size / count, ...].

        Process p holds rows p * n .. (p + 1) * n of the global batch. `threads` read rows ahead of
        the consumer, `prefetch` batches at most; with 0 threads they are read when asked for.
        OpenCV's own threads are switched off. Raises DataError where the rows do not divide.
        """
        if self.batch_size % process_count or not 0 <= process_index < process_count:
            raise DataError(
                f"batch_size={self.batch_size} must be a multiple of the {process_count} processes "
                f"(this is number {process_index})"
            )
        cv2.setNumThreads(1)
        count = self.batch_size // process_count
        local = _ProcessRows(self.rows, start_step, process_index * count, count)
        ahead = max(threads, prefetch * count) if threads else 0
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        return _batches(iter(local.to_iter_dataset(options)), count)

    def progress(self, step: int) -> dict[str, Progress]:
        """How far every source has been read before `step`."""
        return {
            name: Progress(*divmod(step * self.rows_per_batch[name], length))
            for name, length in zip(self.names, self.rows.lengths, strict=True)
        }


class _Rows(grain.MapDataset):
    """Row `step * batch_size + r` of the stream, by number."""

    def __init__(self, sources, batch_size: int, seed: int, transform):
        super().__init__()
        self._examples = [examples for examples, _ in sources.values()]
        self._counts = [count for _, count in sources.values()]
        self._transform = transform
        self._layout = _layout(self._counts)
        self._batch_size = batch_size
        self.lengths = [len(examples) for examples in self._examples]
        self._shuffled = [
            EpochShuffle(length, _source_seed(seed, name))
            for name, length in zip(sources, self.lengths, strict=True)
        ]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, i):
        if isinstance(i, slice):
            return self.slice(i)
        step, row = divmod(i, self._batch_size)
        source, rank = self._layout[row]
        index = self._shuffled[source][step * self._counts[source] + rank]
        arrays = dict(self._transform(self._examples[source][index]))
        arrays["source"] = np.int32(source)
        arrays["example_index"] = np.int64(index)
        return arrays


class _ProcessRows(grain.MapDataset):
    def __init__(self, rows: _Rows, start_step: int, first: int, count: int):
        super().__init__(rows)
        self._start, self._first, self._count = start_step, first, count

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, i):
        if isinstance(i, slice):
            return self.slice(i)
        step, row = divmod(i, self._count)
        return self._parent[(self._start + step) * self._parent._batch_size + self._first + row]


def _layout(counts: list[int]) -> list[tuple[int, int]]:
    """(source, rank within the source) of every row of a batch, the sources evenly interleaved."""
    places = [
        ((rank + Fraction(1, 2)) / count, source, rank)
        for source, count in enumerate(counts)
        for rank in range(count)
    ]
    return [(source, rank) for _, source, rank in sorted(places)]


def _source_seed(seed: int, name: str) -> int:
    """A seed for each source: equal seeds would shuffle sources of equal length alike."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def _batches(rows: Iterator[Mapping[str, Any]], count: int) -> Iterator[Batch]:
    while True:
        yield _stack(itertools.islice(rows, count), count)


def _stack(rows: Iterable[Mapping[str, Any]], count: int) -> Batch:
    """A batch of `count` rows; they are copied as they come, so that few are held at a time."""
    batch: Batch = {}
    for i, row in enumerate(rows):
        arrays = {key: np.asarray(value) for key, value in row.items()}
        if i == 0:
            batch = {key: np.empty((count, *a.shape), a.dtype) for key, a in arrays.items()}
        if arrays.keys() != batch.keys():
            both = f"{sorted(batch)}, {sorted(arrays)}"
            raise DataError(f"the transform must give every row the same keys: {both}")
        for key, array in arrays.items():
            if (array.shape, array.dtype) != (batch[key].shape[1:], batch[key].dtype):
                raise DataError(
                    f"{key!r} has rows of different shapes or dtypes, {batch[key].shape[1:]} "
                    f"{batch[key].dtype} and {array.shape} {array.dtype}: the transform must give "
                    "every row the same"
                )
            batch[key][i] = array
    return batch
