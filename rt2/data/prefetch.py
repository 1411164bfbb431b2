"""Batches that threads fill ahead of the consumer."""

import collections
import concurrent.futures
import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from rt2.data.errors import DataError

Batch = dict[str, np.ndarray]
Row = Callable[[int], Mapping[str, Any]]

PIECE = 8  # rows that a thread fills at a time: few enough that the threads finish together
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def batches(
    row: Row, firsts: Iterator[int], count: int, threads: int, prefetch: int
) -> Iterator[Batch]:
    """For every number of `firsts`, the batch of the rows first .. first + count - 1, in order.

    `row(i)` is a dict of values of the same keys, shapes and dtypes for every i; a batch holds
    arrays [count, ...]. `threads` write into the `prefetch` batches after the one that is consumed;
    with 0 threads a batch is filled when it is asked for. What `row` raises reaches the consumer.
    """
    if threads == 0:
        yield from (filled(row, first, count) for first in firsts)
        return
    keep_freed_memory()
    pending: collections.deque[tuple[Batch, list[concurrent.futures.Future]]] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        first = next(firsts)
        pattern = _arrays(row(first))
        while True:
            while len(pending) <= prefetch:
                batch = _empty(pattern, count)
                parts = range(0, count, PIECE)
                pending.append((batch, [pool.submit(_fill, batch, row, first, p) for p in parts]))
                first = next(firsts)
            batch, parts = pending.popleft()
            for part in parts:
                part.result()
            yield batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@functools.cache
def keep_freed_memory() -> None:
    """Lets this process keep up to 1 GiB that it freed, for the next images and batches.

    By default glibc gives the memory of every image back and asks for it again; the kernel clears
    it anew each time, a sixth of the loader's time. Does nothing with another C library.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**30)


def filled(row: Row, first: int, count: int) -> Batch:
    """The batch of the rows first .. first + count - 1."""
    batch = _empty(_arrays(row(first)), count)
    for begin in range(0, count, PIECE):
        _fill(batch, row, first, begin)
    return batch


def _arrays(values: Mapping[str, Any]) -> Batch:
    return {key: np.asarray(value) for key, value in values.items()}


def _empty(pattern: Batch, count: int) -> Batch:
    return {key: np.empty((count, *array.shape), array.dtype) for key, array in pattern.items()}


def _fill(batch: Batch, row: Row, first: int, begin: int) -> None:
    """Writes PIECE rows, or those that are left."""
    end = min(begin + PIECE, len(next(iter(batch.values()))))
    for i in range(begin, end):
        arrays = _arrays(row(first + i))
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
