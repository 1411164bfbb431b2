"""Counts for charts: values over the bins of a slot, episodes over their lengths."""

from typing import Any

import numpy as np

LENGTH_BARS = 40


def bin_counts(values: np.ndarray, bins: int, low: float, high: float) -> dict[str, Any]:
    """How many of `values` [N] fall into each of `bins` equal cells of low .. high.

    `below` and `above` count those outside, which are in no cell here (they train as the outer
    ones). `covered`: which part of low .. high lies between q01 and q99. A constant dimension whose
    bounds are equal has one cell.
    """
    values = np.asarray(values, np.float64)
    q01, q99 = np.quantile(values, [0.01, 0.99])
    if low == high:
        return {"counts": [len(values)], "below": 0, "above": 0, "covered": 0.0}
    inside = values[(values >= low) & (values <= high)]
    cells = np.minimum(((inside - low) / (high - low) * bins).astype(int), bins - 1)
    covered = max(0.0, min(q99, high) - max(q01, low)) / (high - low)
    return {
        "counts": np.bincount(cells, minlength=bins).tolist(),
        "below": int((values < low).sum()),
        "above": int((values > high).sum()),
        "covered": float(covered),
    }


def length_counts(lengths: np.ndarray) -> dict[str, Any]:
    """Shortest, median and longest of `lengths` [E], and how many lie in cells of equal width."""
    if not len(lengths):
        return {"min": 0, "median": 0.0, "max": 0, "width": 1, "counts": []}
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high - low + 1) // LENGTH_BARS)
    counts = np.bincount((lengths - low) // width)
    return {
        "min": low,
        "median": float(np.median(lengths)),
        "max": high,
        "width": width,
        "counts": counts.tolist(),
    }
