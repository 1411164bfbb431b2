"""Batches that are a pure function of (seed, step), with exact shares of every source."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from rt2.data import prefetch as ahead
from rt2.data.errors import DataError
from rt2.data.prefetch import Batch
from rt2.data.shares import Schedule
from rt2.data.shuffle import EpochShuffle


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
        self.counts = {name: count for name, (_, count) in sources.items()}
        self.lengths = {name: len(examples) for name, (examples, _) in sources.items()}
        for name, length in self.lengths.items():
            if not 0 < length < 2**32 - 1:
                raise DataError(f"source {name!r} has {length} examples")
        self.batch_size, self.seed = batch_size, seed
        self.rows = _Rows(sources, schedule, seed, transform)

    def batch(self, step: int) -> Batch:
        """The global batch of `step`: arrays [batch_size, ...]."""
        return ahead.filled(self.rows.__getitem__, step * self.batch_size, self.batch_size)

    def iterate(
        self, start_step: int, rows: Sequence[int], threads: int, prefetch: int
    ) -> Iterator[Batch]:
        """Batches `start_step`, `start_step + 1`, ... of one process: [len(rows), ...].

        `rows` are the numbers, in the global batch, of the rows that the process reads; it reads
        no other. `threads` read ahead of the consumer, `prefetch` batches at most; with 0 threads
        rows are read when asked for. OpenCV's own threads are switched off. Raises DataError where
        a row is not in the batch.
        """
        rows = np.asarray(rows)
        if not len(rows) or rows.min() < 0 or rows.max() >= self.batch_size:
            raise DataError(f"rows {rows} are not among the {self.batch_size} of a batch")
        cv2.setNumThreads(1)

        def row(i: int) -> dict[str, Any]:
            step, place = divmod(i, len(rows))
            return self.rows[step * self.batch_size + int(rows[place])]

        firsts = itertools.count(start_step * len(rows), len(rows))
        return ahead.batches(row, firsts, len(rows), threads, prefetch)

    def progress(self, step: int) -> dict[str, Progress]:
        """How far every source has been read before `step`."""
        return {
            name: Progress(*divmod(drawn, length))
            for (name, length), drawn in zip(
                self.lengths.items(), self.rows.schedule.drawn(step), strict=True
            )
        }


class _Rows:
    """Row `step * batch_size + r` of the stream, by number."""

    def __init__(self, sources, schedule: Schedule, seed: int, transform):
        self._names = tuple(sources)
        self._examples = [examples for examples, _ in sources.values()]
        self._transform = transform
        self.schedule = schedule
        self._shuffled = [
            EpochShuffle(len(examples), source_seed(seed, name))
            for name, (examples, _) in sources.items()
        ]

    def __getitem__(self, i: int) -> dict[str, Any]:
        source, drawn = self.schedule.place(i)
        shuffled = self._shuffled[source]
        draw = Draw(self._names[source], shuffled[drawn], drawn // shuffled.length)
        arrays = dict(self._transform(self._examples[source][draw.index], draw))
        arrays["source"] = np.int32(source)
        arrays["example_index"] = np.int64(draw.index)
        return arrays


def source_seed(seed: int, name: str) -> int:
    """A seed for each source: equal seeds would shuffle sources of equal length alike."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "little")
