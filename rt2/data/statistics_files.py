"""Statistics files of OpenVLA, Octo, openpi and LeRobot, written and read.

python -m rt2.data.statistics DIR --spec=NAME [--layout=openvla --out=FILE]
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rt2.data.errors import DataError, nearest
from rt2.data.robot import RobotExamples
from rt2.data.statistics import Statistics, describe

# openvla: {DATA SET: {action, proprio, num_transitions, num_trajectories}}, quantiles q01, q99
# octo: the same with p01, p99; octo_single: without the level of the data set
# openpi: {norm_stats: {actions, state}}; lerobot: {action, observation.state} (meta/stats.json)
LAYOUTS = ("openvla", "octo", "octo_single", "openpi", "lerobot")


@dataclasses.dataclass(frozen=True)
class DatasetStatistics:
    """The statistics of one data set.

    `state`: of the proprioceptive state, or None. `mask`: False for action dimensions that are not
    normalised (the gripper); None where that is not said. `episodes`: how many, or None.
    """

    action: Statistics
    state: Statistics | None
    mask: tuple[bool, ...] | None
    episodes: int | None


def of(examples: RobotExamples) -> DatasetStatistics:
    """The statistics of what is trained on.

    Dimensions whose bounds the spec gives as numbers are not normalised by the statistics.
    """
    rules = examples.spec.bounds
    rules = [rules] * len(examples.statistics.mean) if isinstance(rules, str) else rules
    states = examples.states
    return DatasetStatistics(
        action=examples.statistics,
        state=None if states is None else describe(states),
        mask=tuple(isinstance(rule, str) for rule in rules),
        episodes=examples.episodes,
    )


def write(path: Path, layout: str, dataset: str, found: DatasetStatistics) -> None:
    """Writes `found` as the file of another project; `dataset` is its name there.

    Raises DataError for an unknown layout.
    """
    if layout not in LAYOUTS:
        raise DataError(f"unknown layout {layout!r}: {nearest(layout, LAYOUTS)}")
    action, state = found.action, found.state
    if layout == "openpi":
        parts = {"state": state, "actions": action}
        fields = ("mean", "std", "q01", "q99")
        rows = {key: _row(part, fields) for key, part in parts.items() if part}
        whole: dict[str, Any] = {"norm_stats": rows}
    elif layout == "lerobot":
        parts = {"action": action, "observation.state": state}
        fields = ("min", "max", "mean", "std", "q01", "q99")
        whole = {
            k: _row(part, fields) | {"count": [part.count]} for k, part in parts.items() if part
        }
    else:
        fields = ("mean", "std", "max", "min", *(["q01", "q99"] if layout == "openvla" else []))
        parts = {"action": action, "proprio": state}
        whole = {
            key: _row(part, fields) | {"p01": list(part.q01), "p99": list(part.q99)}
            for key, part in parts.items()
            if part
        }
        if found.mask is not None:
            whole["action"]["mask"] = list(found.mask)
        whole |= {"num_transitions": action.count, "num_trajectories": found.episodes}
        whole = whole if layout == "octo_single" else {dataset: whole}
    path.write_text(json.dumps(whole, indent=2) + "\n")


def _row(part: Statistics, fields: Sequence[str]) -> dict[str, list[float]]:
    return {field: list(getattr(part, field)) for field in fields}


def read(path: Path | str, dataset: str) -> DatasetStatistics:
    """The statistics of `dataset` in a file of any of LAYOUTS, or OpenVLA's config.json.

    The layout is told by the file's keys; in the forms for a single data set the name plays no
    part. Raises DataError where it is no such file, the data set is not in it, or a figure is
    missing, not finite, or of another length than the rest.
    """
    path = Path(path)
    try:
        whole = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no statistics file ({error})") from None
    if isinstance(whole, dict) and isinstance(whole.get("norm_stats"), dict):
        whole = whole["norm_stats"]
        if "actions" in whole:
            return _dataset(path, whole, "actions", "state")
    if isinstance(whole, dict) and "action" in whole:
        state = "proprio" if "num_transitions" in whole else "observation.state"
        return _dataset(path, whole, "action", state)
    if not isinstance(whole, dict) or not any(_is_level(part) for part in whole.values()):
        raise DataError(f"{path}: none of the known layouts of statistics: {', '.join(LAYOUTS)}")
    if dataset not in whole:
        raise DataError(f"{path}: has no data set {dataset!r}: {nearest(dataset, whole)}")
    if not _is_level(whole[dataset]):
        raise DataError(f"{path}: {dataset}: has no statistics of actions")
    return _dataset(path, whole[dataset], "action", "proprio")


def _is_level(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("action"), dict)


def _dataset(path: Path, rows: dict, action: str, state: str) -> DatasetStatistics:
    transitions = rows.get("num_transitions")
    figures = _statistics(f"{path}: {action}", rows[action], transitions)
    mask = rows[action].get("mask")
    if mask is not None and len(mask) != len(figures.mean):
        raise DataError(f"{path}: {action}.mask: {len(mask)} values, mean has {len(figures.mean)}")
    return DatasetStatistics(
        action=figures,
        state=_statistics(f"{path}: {state}", rows[state], transitions) if state in rows else None,
        mask=None if mask is None else tuple(map(bool, mask)),
        episodes=rows.get("num_trajectories"),
    )


def _statistics(where: str, row: Any, count: int | None) -> Statistics:
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a row of statistics")
    names = {"q01": ("q01", "p01"), "q99": ("q99", "p99")}
    found: dict[str, tuple[float, ...] | None] = {}
    for field in ("mean", "std", "min", "max", "q01", "q99"):
        given = [row[name] for name in names.get(field, (field,)) if row.get(name) is not None]
        found[field] = _column(f"{where}.{field}", given[0]) if given else None
    for field in ("mean", "std"):
        if found[field] is None:
            raise DataError(f"{where}: has no {field}")
    for field, column in found.items():
        if column is not None and len(column) != len(found["mean"]):
            sizes = f"{len(column)} values, mean has {len(found['mean'])}"
            raise DataError(f"{where}.{field}: {sizes}")
    if "count" in row:
        count = int(row["count"][0])
    return Statistics(count=count, **found)


def _column(where: str, values: Any) -> tuple[float, ...]:
    try:
        column = tuple(map(float, values))
    except (TypeError, ValueError):
        raise DataError(f"{where}: not a list of numbers") from None
    if not all(map(math.isfinite, column)):
        raise DataError(f"{where}: NaN or infinite; compute the statistics again")
    return column
