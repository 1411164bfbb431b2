"""From the columns of shards to those of a split, and what a split is in a few words."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from rt2.data import sidecar, statistics
from rt2.data.format import episode_flags
from rt2.data.format.features import Features
from rt2.data.format.scan import ShardColumns

_COUNT = re.compile(r"\.count(\d*)$")


def merge(shards: Sequence[ShardColumns]) -> Iterator[tuple[str, np.ndarray]]:
    """Columns of a whole split: shards in order, string ids renumbered, counts turned to starts."""
    ids: dict[bytes, int] = {}
    renumber = []
    for shard in shards:
        known = [ids.setdefault(text, len(ids)) for text in shard.strings]
        renumber.append(np.array(known, np.uint32))
    filled = [i for i, shard in enumerate(shards) if shard.columns]
    for name in shards[filled[0]].columns if filled else ():
        parts = [shards[i].columns[name] for i in filled]
        if name.endswith(".id"):
            parts = [renumber[i][part] for i, part in zip(filled, parts, strict=True)]
        column = np.concatenate(parts)
        axis = _COUNT.search(name)
        if axis:
            yield f"{name[: axis.start()]}.first{axis[1]}", _starts(column)
        elif name == "record.steps":
            yield "episode.first", _starts(column)
            yield "step.episode", np.repeat(np.arange(len(column), dtype=np.uint32), column)
            records = [len(part) for part in parts]
            yield "episode.shard", np.repeat(_narrow(np.array(filled)), records)
        elif name == "record.number":
            yield "episode.record", _narrow(column)
        elif name != "record.odd":
            yield name, column
    yield from sidecar.string_columns("strings", ids).items()


def _narrow(numbers: np.ndarray) -> np.ndarray:
    """The numbers as the smallest unsigned type that holds them all."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def describe(
    found: Features, parts: Sequence[ShardColumns], columns: dict[str, np.ndarray]
) -> dict:
    """Counts, exact statistics of the float features and odd episodes, as plain JSON."""
    described = {}
    for leaf in found.at("step"):
        if leaf.kind == "number" and leaf.wire == "float" and found.episodic:
            values = columns.get(f"{leaf.key}.value", np.zeros((0, 1)))
            rows = values.reshape(len(values), -1)
            if len(rows) and np.isfinite(rows).all():
                described[leaf.name] = statistics.describe(rows).to_json()
    first = columns.get("episode.first", np.zeros(1, np.int64))
    none = np.zeros(0, np.uint8)
    odd = np.concatenate([none, *(part.columns.get("record.odd", none) for part in parts)])
    return {
        "episodes": len(first) - 1,
        "steps": int(first[-1]),
        "statistics": described,
        "odd": episode_flags.count(odd),
    }
