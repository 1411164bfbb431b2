"""Index of a TFDS/RLDS directory: one checked pass, then memory-mapped columns.

python -m rt2.data.index DIR [--workers=N] [--json]
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from rt2.data import dataset_info, features, sidecar, statistics
from rt2.data.errors import DataError
from rt2.data.features import Features
from rt2.data.scan import ShardColumns, scan_shard

Pool = Literal["thread", "process"]


class SplitIndex:
    """The columns of one split; steps count 0..`steps` and episodes 0..`episodes` over all shards.

    A flat (non-episodic) data set is read as episodes of one step.
    """

    def __init__(self, opened: sidecar.Sidecar, split: str):
        self._sidecar = opened
        self._meta = opened.meta["splits"][split]
        self.split = split
        self.steps: int = self._meta["steps"]
        self.episodes: int = self._meta["episodes"]
        self.shards: tuple[str, ...] = tuple(self._meta["shards"])

    def __contains__(self, name: str) -> bool:
        return f"{self.split}:{name}" in self._sidecar

    def column(self, name: str) -> np.ndarray:
        """A column by name; the names are those of `rt2.data.scan.scan_shard`, and

        `step.episode` uint32 [steps], `episode.first` int64 [episodes + 1] (its first step),
        `episode.shard` uint32 [episodes], `episode.record` uint32 [episodes] (number in the
        shard), `<key>.first` int64 [records + 1] for a ragged leaf.
        """
        return self._sidecar.column(f"{self.split}:{name}")

    @cached_property
    def strings(self) -> sidecar.StringTable:
        """The texts that the `.id` columns count."""
        return self._sidecar.strings(f"{self.split}:strings")

    def statistics(self, key: str) -> statistics.Statistics:
        """Statistics of a step feature of floats over all steps of the split."""
        return statistics.Statistics(**self._meta["statistics"][key])


class Index:
    """An opened index: `features`, `info`, `content_hash` and one SplitIndex a split. Picklable."""

    def __init__(self, directory: Path, opened: sidecar.Sidecar):
        self.directory = directory
        self.sidecar = opened
        self.features: Features = features.load(directory)
        self.info = dataset_info.load(directory)

    @property
    def content_hash(self) -> str:
        """sha256 over features.json, dataset_info.json, shard sizes and all columns."""
        return self.sidecar.content_hash

    def split(self, name: str) -> SplitIndex:
        """The index of a split. Raises DataError with the valid names where it is unknown."""
        self.info.shards(name)
        return SplitIndex(self.sidecar, name)


def load(directory: Path | str, workers: int | None = None, pool: Pool = "thread") -> Index:
    """The index of the data set in `directory`, built first where it is missing or stale.

    Stale means: another features.json, dataset_info.json, set of shards or shard size.
    Raises DataError where the data set is not whole.
    """
    directory = Path(directory)
    path, source = _source(directory)
    opened = sidecar.open_fresh(path, source)
    if opened is None:
        return build(directory, workers, pool)
    return Index(directory, opened)


def build(directory: Path | str, workers: int | None = None, pool: Pool = "thread") -> Index:
    """Reads every shard once, checks it, and writes the sidecar (see `sidecar.location`).

    `workers` shards are read at a time (default: one a core). Processes are faster than threads but
    need a `__main__` that can be imported. Raises DataError at the first fault.
    """
    directory = Path(directory)
    _, source = _source(directory)
    size = sum(source["shards"].values())
    note = f"indexing {directory}: {len(source['shards'])} shards, {size / 1e6:.0f} MB"
    print(note, file=sys.stderr, flush=True)
    return assemble(directory, _scan(directory, workers or os.cpu_count() or 1, pool))


def assemble(directory: Path | str, parts: Mapping[str, Sequence[ShardColumns]]) -> Index:
    """Merges scanned shards, describes the splits and writes the sidecar; returns it opened.

    `parts`: what `scan_shard` gave for every shard, by split, in the order of dataset_info.json.
    Raises DataError where a split or shard lacks, or the sidecar cannot be written.
    """
    directory = Path(directory)
    path, source = _source(directory)
    found, info = features.load(directory), dataset_info.load(directory)
    given = {split: len(shards) for split, shards in parts.items()}
    wanted = {split: len(shards) for split, shards in info.splits.items()}
    if given != wanted:
        raise DataError(f"{directory}: scanned shards {given}, dataset_info.json names {wanted}")
    columns: dict[str, np.ndarray] = {}
    meta = {}
    for split in info.splits:
        merged = dict(_merge(parts[split]))
        meta[split] = _split_meta(found, info, split, merged)
        columns |= {f"{split}:{name}": column for name, column in merged.items()}
    whole = {"name": info.name, "version": info.version, "splits": meta}
    return Index(directory, sidecar.write(path, source, whole, columns.items()))


def _scan(directory: Path, workers: int, pool: Pool) -> dict[str, list[ShardColumns]]:
    found, info = features.load(directory), dataset_info.load(directory)
    with _executor(workers, pool) as executor:
        futures = {
            split: [
                executor.submit(scan_shard, directory / shard.file, found, shard.records)
                for shard in shards
            ]
            for split, shards in info.splits.items()
        }
        try:
            return {split: [future.result() for future in each] for split, each in futures.items()}
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def _source(directory: Path) -> tuple[Path, dict]:
    found, info = features.load(directory), dataset_info.load(directory)
    sizes = dataset_info.check_files(directory, info)
    source = {"features": found.digest, "dataset_info": info.digest, "shards": sizes}
    return sidecar.location(directory, f"{info.name}-{info.version}"), source


def _executor(workers: int, pool: Pool) -> concurrent.futures.Executor:
    if pool == "thread":
        return concurrent.futures.ThreadPoolExecutor(workers)
    spawn = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn)


def _merge(shards: Sequence[ShardColumns]) -> Iterator[tuple[str, np.ndarray]]:
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
        if name.endswith(".count"):
            yield name.removesuffix("count") + "first", _starts(column)
        elif name == "record.steps":
            yield "episode.first", _starts(column)
            yield "step.episode", np.repeat(np.arange(len(column), dtype=np.uint32), column)
            records = [len(part) for part in parts]
            yield "episode.shard", np.repeat(np.array(filled, np.uint32), records)
            yield "episode.record", np.concatenate([np.arange(n, dtype=np.uint32) for n in records])
        else:
            yield name, column
    yield from sidecar.string_columns("strings", ids).items()


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _split_meta(found: Features, info, split: str, columns: dict[str, np.ndarray]) -> dict:
    shards = info.shards(split)
    described = {}
    for leaf in found.at("step"):
        if leaf.kind == "number" and leaf.wire == "float" and found.episodic:
            values = columns.get(f"{leaf.key}.value", np.zeros((0, 1)))
            rows = values.reshape(len(values), -1)
            if len(rows) and np.isfinite(rows).all():
                described[leaf.name] = statistics.describe(rows).to_json()
    first = columns.get("episode.first", np.zeros(1, np.int64))
    return {
        "shards": [shard.file for shard in shards],
        "episodes": len(first) - 1,
        "steps": int(first[-1]),
        "statistics": described,
    }


def main() -> None:
    """Builds (or checks) the index of a directory and prints what it holds."""
    parser = argparse.ArgumentParser(prog="python -m rt2.data.index", description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--workers", type=int, default=None, help="shards read at a time")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    try:
        loaded = load(args.directory, args.workers, pool="process")
    except DataError as error:
        sys.exit(f"error: {error}")
    meta = loaded.sidecar.meta
    summary = {
        "name": meta["name"],
        "version": meta["version"],
        "path": str(loaded.sidecar.path),
        "bytes": loaded.sidecar.bytes,
        "content_hash": loaded.content_hash,
        "splits": {k: {n: v[n] for n in ("episodes", "steps")} for k, v in meta["splits"].items()},
    }
    if args.json:
        print(json.dumps(summary, indent=2))
        return
    for key, value in summary.items():
        print(f"{key:14}{value}")


if __name__ == "__main__":
    main()
