"""Exact statistics of actions, the warnings they give rise to, and the bounds of the bins."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rt2.data.errors import DataError, nearest

BARELY_USED = 0.1  # q99 - q01 below this share of max - min: most bins would stay empty


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of N values of D dimensions; every field but `count` is a tuple of D floats.

    Quantiles are exact (linear interpolation between order statistics, as `numpy.quantile`).
    """

    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    q99: tuple[float, ...]

    def to_json(self) -> dict[str, object]:
        """A plain dict."""
        return {k: list(v) if k != "count" else v for k, v in dataclasses.asdict(self).items()}


def describe(values: np.ndarray) -> Statistics:
    """The statistics of `values` float [N, D], computed in float64.

    Raises DataError where N is 0 or a value is NaN or infinite.
    """
    if len(values) == 0:
        raise DataError("no values to describe: no step is left to train on")
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        step = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise DataError(f"NaN or infinite value in row {step}: mend or drop the episode")
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0)
    columns = (values.mean(0), values.std(0), values.min(0), values.max(0), q01, q99)
    return Statistics(len(values), *(tuple(map(float, column)) for column in columns))


def warnings(stats: Statistics, names: Sequence[str]) -> list[tuple[str, str]]:
    """(dimension, what is odd about it) for every dimension that would train badly."""
    found = []
    for i, name in enumerate(names):
        full, middle = stats.max[i] - stats.min[i], stats.q99[i] - stats.q01[i]
        if full == 0:
            found.append((name, f"constant at {stats.min[i]:.6g}: it needs explicit bounds"))
        elif middle == 0:
            found.append((name, f"q01 = q99 = {stats.q01[i]:.6g}: q01_q99 bounds would be empty"))
        elif middle < BARELY_USED * full:
            share = 100 * middle / full
            found.append((name, f"98 % of the values lie in {share:.1f} % of min..max: outliers"))
    return found


RULES = ("min_max", "q01_q99", "symmetric")


def bounds(
    stats: Statistics, rule: str | Sequence[str | tuple[float, float]]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(low, high) of the bins, D floats each: one rule for all dimensions or one for each.

    "min_max"; "q01_q99"; "symmetric": -max|a| .. max|a|, zero in the middle; or (low, high) itself.
    Raises DataError for another rule or a wrong number of them.
    """
    dim = len(stats.min)
    rules = [rule] * dim if isinstance(rule, str) else list(rule)
    if len(rules) != dim:
        raise DataError(f"{len(rules)} rules of bounds for {dim} action dimensions")
    pairs = [_pair(stats, i, r) for i, r in enumerate(rules)]
    return tuple(low for low, _ in pairs), tuple(high for _, high in pairs)


def _pair(stats: Statistics, i: int, rule: str | tuple[float, float]) -> tuple[float, float]:
    if not isinstance(rule, str):
        low, high = rule
        return float(low), float(high)
    if rule not in RULES:
        raise DataError(f"unknown rule of bounds {rule!r}: {nearest(rule, RULES)}, or (low, high)")
    if rule == "min_max":
        return stats.min[i], stats.max[i]
    if rule == "q01_q99":
        return stats.q01[i], stats.q99[i]
    reach = max(abs(stats.min[i]), abs(stats.max[i]))
    return -reach, reach


def write_openvla(
    path: Path, dataset: str, action: Statistics, trajectories: int, mask: Sequence[bool]
) -> None:
    """Writes OpenVLA's `dataset_statistics.json` (with Octo's p01/p99 as aliases).

    `mask` bool [D]: False where a dimension is not normalised (the gripper).
    """
    layout = {k: v for k, v in action.to_json().items() if k != "count"}
    layout |= {"p01": list(action.q01), "p99": list(action.q99), "mask": list(map(bool, mask))}
    counts = {"num_transitions": action.count, "num_trajectories": trajectories}
    path.write_text(json.dumps({dataset: {"action": layout, **counts}}, indent=2) + "\n")
