"""Batches that are a pure function of (seed, step), with exact shares of every source."""

import hashlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import cv2
import grain
import numpy as np

from rt2.data.errors import DataError
from rt2.data.shares import Schedule
from rt2.data.shuffle import EpochShuffle

Batch = dict[str, np.ndarray]


class Examples(Protocol):
    """Anything with a length and random access that is safe under threads."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...


class Draw(NamedTuple):
    """What was drawn: the name of its source, its index there, and in which epoch."""

    source: str
    index: int
    epoch: int


class Progress(NamedTuple):
    """How far a source has been read: whole epochs, and examples of the one that has begun."""

    epoch: int
    examples: int


class Mixture:
    """Endless batches of `batch_size` rows from several sources.

    `sources`: name -> (examples, rows in `period` batches; see `shares.Schedule`). `transform`
    turns a record and its Draw into a dict of arrays of fixed shapes; it runs on reader threads.
    Every source is shuffled globally anew each epoch, without memory. A row also carries `source`
    int32, the position of its source in `names`, and `example_index` int64, its index in it.
    Raises DataError where the rows do not sum to `batch_size * period` or a source is empty.
    """

    def __init__(
        self,
        sources: Mapping[str, tuple[Examples, int]],
        batch_size: int,
        seed: int,
        transform: Callable[[Any, Draw], Mapping[str, Any]],
        period: int = 1,
    ):
        schedule = Schedule([count for _, count in sources.values()], batch_size, period)
        self.names = tuple(sources)
        self.lengths = {name: len(examples) for name, (examples, _) in sources.items()}
        for name, length in self.lengths.items():
            if not 0 < length < 2**32 - 1:
                raise DataError(f"source {name!r} has {length} examples")
        self.batch_size, self.seed = batch_size, seed
        self.rows = _Rows(sources, schedule, seed, transform)

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
            name: Progress(*divmod(drawn, length))
            for (name, length), drawn in zip(
                self.lengths.items(), self.rows.schedule.drawn(step), strict=True
            )
        }


class _Rows(grain.MapDataset):
    """Row `step * batch_size + r` of the stream, by number."""

    def __init__(self, sources, schedule: Schedule, seed: int, transform):
        super().__init__()
        self._names = tuple(sources)
        self._examples = [examples for examples, _ in sources.values()]
        self._transform = transform
        self.schedule = schedule
        self._shuffled = [
            EpochShuffle(len(examples), source_seed(seed, name))
            for name, (examples, _) in sources.items()
        ]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, i):
        if isinstance(i, slice):
            return self.slice(i)
        source, drawn = self.schedule.place(i)
        shuffled = self._shuffled[source]
        draw = Draw(self._names[source], shuffled[drawn], drawn // shuffled.length)
        arrays = dict(self._transform(self._examples[source][draw.index], draw))
        arrays["source"] = np.int32(source)
        arrays["example_index"] = np.int64(draw.index)
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
        return self._parent[
            (self._start + step) * self._parent.schedule.batch_size + self._first + row
        ]


def source_seed(seed: int, name: str) -> int:
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
