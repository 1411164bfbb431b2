"""Which source each row of the stream belongs to: whole rows, exact over a period of batches."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from rt2.data.errors import DataError


def rows_from_shares(
    shares: Mapping[str, float | Fraction], batch_size: int, period: int = 1
) -> dict[str, int]:
    """Rows of `period` batches for each share (any positive scale), by the largest remainder.

    The rows sum to `batch_size * period`; on equal remainders the source named first gains. Raises
    DataError for a share that is not positive or that is too small for one row.
    """
    if not shares or any(not share > 0 for share in shares.values()):
        raise DataError(f"shares must be positive: {dict(shares)}")
    if period < 1:
        raise DataError(f"share_period={period}: shares are exact over at least 1 batch")
    total = sum(Fraction(share) for share in shares.values())
    whole = batch_size * period
    exact = {name: Fraction(share) / total * whole for name, share in shares.items()}
    rows = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: rows[name] - exact[name])
    for name in by_remainder[: whole - sum(rows.values())]:
        rows[name] += 1
    if empty := [name for name, count in rows.items() if count == 0]:
        batches = "a batch" if period == 1 else f"{period} batches"
        enough = math.ceil(period / min(exact[name] for name in empty))
        raise DataError(
            f"the share of {', '.join(empty)} is below one row of {batches} of {batch_size}: raise "
            "the share or the batch size, leave the source out, or let the shares be exact over "
            f"more batches (share_period={enough} is enough)"
        )
    return rows


class Schedule:
    """The source of every row of an endless stream of batches, by random access.

    `rows[s]` is what source `s` has in `period` batches. After any number of batches its rows
    differ from batches * rows[s] / period by less than one, and after whole periods not at all;
    with a period of 1 every batch has the same rows. Raises DataError where the rows do not sum to
    `batch_size * period`.
    """

    def __init__(self, rows: Sequence[int], batch_size: int, period: int):
        if sum(rows) != batch_size * period or any(count < 1 for count in rows):
            raise DataError(
                f"rows {list(rows)} must be positive and sum to batch_size * share_period = "
                f"{batch_size} * {period}; rows_from_shares computes them"
            )
        self.batch_size, self.period = batch_size, period
        self._rows = [int(count) for count in rows]
        counts = _batch_counts(np.array(rows, np.int64), period)
        before = np.cumsum(counts, axis=0) - counts
        self._before = np.concatenate([before, [self._rows]])
        layouts = [_layout(count) for count in counts]
        self._source = np.stack([source for source, _ in layouts])
        self._rank = np.stack([b[s] + rank for b, (s, rank) in zip(before, layouts, strict=True)])

    def place(self, row: int) -> tuple[int, int]:
        """(source, how many rows it has had before) of row number `row` of the stream."""
        step, column = divmod(row, self.batch_size)
        whole, batch = divmod(step, self.period)
        source = int(self._source[batch, column])
        return source, whole * self._rows[source] + int(self._rank[batch, column])

    def drawn(self, step: int) -> list[int]:
        """How many rows every source has had before batch `step`."""
        whole, batch = divmod(step, self.period)
        return [
            whole * rows + int(n) for rows, n in zip(self._rows, self._before[batch], strict=True)
        ]


def _batch_counts(rows: np.ndarray, period: int) -> np.ndarray:
    """Rows of every batch of a period by source, int64 [period, S]; the batches are of one size.

    Every batch has the whole part of rows / period. What remains is dealt out one at a time by
    Tijdeman's rule for the chairman assignment problem (1980), which keeps every source within
    1 - 1 / (2S - 2) of its due at all times.
    """
    counts = np.repeat(rows[None] // period, period, axis=0)
    left = rows % period
    extra = int(left.sum()) // period  # of every batch
    some = np.flatnonzero(left)
    left, given = left[some], np.zeros(len(some), np.int64)
    total, scale = extra * period, 2 * len(some) - 2
    for number in range(1, total + 1):
        due = scale * (left * number - total * given)
        urgency = np.where(due >= total, (total * (scale - 1) - due) / left, np.inf)
        chosen = int(np.argmin(urgency))
        given[chosen] += 1
        counts[(number - 1) // extra, some[chosen]] += 1
    return counts


def _layout(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(source, rank within the source) of every row of a batch, the sources evenly interleaved."""
    source = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)
    rank = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    # equal fractions are equal doubles: division rounds correctly
    middle = (2 * rank + 1) / (2 * counts[source])
    order = np.lexsort((source, middle))
    return source[order], rank[order]
