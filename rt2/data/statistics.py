"""Exact statistics of actions, the warnings they give rise to, and the bounds of the bins.

python -m rt2.data.statistics DIR --spec=NAME [--split=train] [--layout=openvla --out=FILE]
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rt2.data.errors import DataError, nearest

BARELY_USED = 0.1  # q99 - q01 below this share of max - min: most bins would stay empty


CHUNK = 1 << 16  # values whose squares are held at a time


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of N values of D dimensions; every field but `count` is a tuple of D floats.

    Quantiles are exact (linear interpolation between order statistics, as `numpy.quantile`).
    Those read from a file (`rt2.data.statistics_files`) have None where the file says nothing, and
    are as exact as whoever wrote it made them.
    """

    count: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...] | None
    max: tuple[float, ...] | None
    q01: tuple[float, ...] | None
    q99: tuple[float, ...] | None

    def to_json(self) -> dict[str, object]:
        """A plain dict."""
        return {k: list(v) if k != "count" else v for k, v in dataclasses.asdict(self).items()}


def describe(values: np.ndarray) -> Statistics:
    """The statistics of `values` numbers [N, D], computed in float64.

    Beside `values`, which may be a memory map, one column in its own dtype is held at a time: 0.4
    GB for 100 million float32 steps. Raises DataError where N is 0 or a value is NaN or infinite.
    """
    if len(values) == 0:
        raise DataError("no values to describe: no step is left to train on")
    columns = [_describe_column(values[:, i]) for i in range(values.shape[1])]
    return Statistics(len(values), *(tuple(row) for row in np.transpose(columns).tolist()))


def _describe_column(values: np.ndarray) -> tuple[float, ...]:
    """(mean, std, min, max, q01, q99) of numbers [N]."""
    column = np.array(values)
    low, high = float(column.min()), float(column.max())  # NaN where any value is
    if not (np.isfinite(low) and np.isfinite(high)):
        step = int(np.flatnonzero(~np.isfinite(column))[0])
        raise DataError(f"NaN or infinite value in row {step}: mend or drop the episode")
    mean = float(column.mean(dtype=np.float64))
    squares = sum(
        float(np.square(column[i : i + CHUNK].astype(np.float64) - mean).sum())
        for i in range(0, len(column), CHUNK)
    )
    q01, q99 = _quantiles(column, (0.01, 0.99))
    return mean, float(np.sqrt(squares / len(column))), low, high, q01, q99


def _quantiles(column: np.ndarray, shares: Sequence[float]) -> list[float]:
    """The exact quantiles of `column` [N], whose values are put into another order."""
    places = [share * (len(column) - 1) for share in shares]
    below = [int(place) for place in places]
    above = [min(place + 1, len(column) - 1) for place in below]
    column.partition(sorted({*below, *above}))
    found = []
    for place, i, j in zip(places, below, above, strict=True):
        a, b, part = float(column[i]), float(column[j]), place - i
        found.append(a + (b - a) * part if part < 0.5 else b - (b - a) * (1 - part))
    return found


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
    Raises DataError for another rule, a wrong number of them, or figures that `stats` lack.
    """
    dim = len(stats.mean)
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
    fields = ("q01", "q99") if rule == "q01_q99" else ("min", "max")
    for field in fields:
        if getattr(stats, field) is None:
            raise DataError(f"bounds {rule!r}: the statistics have no {field}: use another rule")
    low, high = (getattr(stats, field)[i] for field in fields)
    if rule != "symmetric":
        return low, high
    reach = max(abs(low), abs(high))
    return -reach, reach


HEADS = ("mean", "std", "min", "q01", "q99", "max")


def table(stats: Statistics, names: Sequence[str]) -> list[str]:
    """Lines of a table, a dimension each, and then of the warnings."""
    lines = [f"{'':12}" + "".join(f"{head:>12}" for head in HEADS)]
    for i, name in enumerate(names):
        lines.append(f"{name:12}" + "".join(f"{getattr(stats, head)[i]:12.4g}" for head in HEADS))
    return lines + [f"warning: {name}: {what}" for name, what in warnings(stats, names)]


def main() -> None:
    """Prints the statistics of what a spec trains on, from the index; writes them where asked.

    No image is read or decoded.
    """
    # the reader describes its actions with this module
    from rt2.data import specs, statistics_files
    from rt2.data.robot import RobotExamples

    parser = argparse.ArgumentParser(prog="python -m rt2.data.statistics", description=main.__doc__)
    parser.add_argument("directory", help="folder or URL of one version")
    parser.add_argument(
        "--spec", required=True, help="a row of rt2.data.specs, or a JSON file that holds a row"
    )
    parser.add_argument("--split", default="train", help='such as "train" or "train[:95%%]"')
    parser.add_argument("--layout", choices=statistics_files.LAYOUTS, default="openvla")
    parser.add_argument("--out", type=Path, help="write the statistics in the layout")
    args = parser.parse_args()
    try:
        if args.spec.endswith(".json"):
            spec = specs.from_config(json.loads(Path(args.spec).read_text()))
        else:
            spec = specs.get(args.spec)
        examples = RobotExamples(args.directory, args.split, spec)
        found = statistics_files.of(examples)
    except DataError as error:
        sys.exit(f"error: {error}")
    print(
        f"{examples.steps.index.info.name}, {args.split}: {examples.episodes} episodes, "
        f"{len(examples)} steps"
    )
    print("\n".join(table(found.action, [slot.name for slot in spec.action_spec.continuous])))
    if found.state is not None:
        names = [f"state {i}" for i in range(len(found.state.mean))]
        print("\n".join(table(found.state, names)))
    if args.out:
        name = examples.steps.index.info.name
        statistics_files.write(args.out, args.layout, name, found)


if __name__ == "__main__":
    main()
