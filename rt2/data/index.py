"""Index of a TFDS/RLDS directory: one checked pass, then memory-mapped columns.

python -m rt2.data.index DIR [--workers=N] [--json]
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from rt2.data import sidecar, statistics, storage
from rt2.data.errors import DataError
from rt2.data.format import dataset_info, features
from rt2.data.format.features import Features
from rt2.data.format.merge import describe, merge
from rt2.data.format.quarantine import check_budget, fits, left_out, listed
from rt2.data.format.scan import ShardColumns, scan_shard
from rt2.data.storage import Url

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
        """A column by name; the names are those of `rt2.data.format.scan.scan_shard`, and

        `step.episode` uint32 [steps], `episode.first` int64 [episodes + 1] (its first step),
        `episode.shard` and `episode.record` [episodes] (its number in the shard; both unsigned, as
        small as they fit), and for a ragged leaf `<key>.first` int64 [records + 1] (of
        "ragged_step": [steps + 1]) and `.first1`, ... for the axes within.
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

    def __init__(self, directory: Path | Url, opened: sidecar.Sidecar):
        self.directory = directory
        self.sidecar = opened
        self.features: Features = features.load(directory)
        self.info = dataset_info.load(directory)

    @property
    def content_hash(self) -> str:
        """sha256 over features.json, dataset_info.json, shard sizes and all columns."""
        return self.sidecar.content_hash

    @property
    def quarantined(self) -> list[dict]:
        """The records left out: split, shard, record, offset, code, reason."""
        return listed(self.sidecar.meta)

    def split(self, name: str) -> SplitIndex:
        """The index of a split. Raises DataError with the valid names where it is unknown."""
        self.info.shards(name)
        return SplitIndex(self.sidecar, name)


def load(
    directory: Path | Url | str,
    workers: int | None = None,
    pool: Pool = "thread",
    quarantine: float = 0.0,
) -> Index:
    """The index of the data set in `directory`, built first where it is missing or stale.

    Stale means: another features.json, dataset_info.json, set of shards or shard size; or an index
    that left out more records than the share `quarantine` allows (0: none, see `build`).
    Raises DataError where the data set is not whole.
    """
    directory = storage.at(directory)
    path, source = _source(directory)
    opened = sidecar.open_fresh(path, source)
    if opened is None or not fits(opened.meta, quarantine):
        return build(directory, workers, pool, quarantine)
    return Index(directory, opened)


def build(
    directory: Path | Url | str,
    workers: int | None = None,
    pool: Pool = "thread",
    quarantine: float = 0.0,
) -> Index:
    """Reads every shard once, checks it, and writes the sidecar (see `sidecar.location`).

    `workers` shards are read at a time (default: one a core). Processes are faster than threads but
    need a `__main__` that can be imported. `quarantine` 0: raises DataError at the first fault.
    Above: damaged and odd records are left out, counted and listed by name in the sidecar, and
    DataError is raised only where they are more than this share of all records.
    """
    directory = storage.at(directory)
    _, source = _source(directory)
    size = sum(source["shards"].values())
    note = f"indexing {directory}: {len(source['shards'])} shards, {size / 1e6:.0f} MB"
    print(note, file=sys.stderr, flush=True)
    parts = _scan(directory, workers or os.cpu_count() or 1, pool, quarantine > 0)
    return assemble(directory, parts, quarantine)


def assemble(
    directory: Path | Url | str,
    parts: Mapping[str, Sequence[ShardColumns]],
    quarantine: float = 0.0,
) -> Index:
    """Merges scanned shards, describes the splits and writes the sidecar; returns it opened.

    `parts`: what `scan_shard` gave for every shard, by split, in the order of dataset_info.json.
    Raises DataError where a split or shard lacks, more is left out than `quarantine` allows, or the
    sidecar cannot be written.
    """
    directory = storage.at(directory)
    path, source = _source(directory)
    found, info = features.load(directory), dataset_info.load(directory)
    given = {split: len(shards) for split, shards in parts.items()}
    wanted = {split: len(shards) for split, shards in info.splits.items()}
    if given != wanted:
        raise DataError(f"{directory}: scanned shards {given}, dataset_info.json names {wanted}")
    columns: dict[str, np.ndarray] = {}
    meta = {}
    for split in info.splits:
        merged = dict(merge(parts[split]))
        shards = info.shards(split)
        meta[split] = {
            "shards": [shard.file for shard in shards],
            **describe(found, parts[split], merged),
            "quarantined": left_out(shards, parts[split]),
        }
        columns |= {f"{split}:{name}": column for name, column in merged.items()}
    whole = {"name": info.name, "version": info.version, "splits": meta}
    check_budget(directory, whole, quarantine)
    return Index(directory, sidecar.write(path, source, whole, columns.items()))


def _scan(
    directory: Path | Url, workers: int, pool: Pool, quarantine: bool
) -> dict[str, list[ShardColumns]]:
    found, info = features.load(directory), dataset_info.load(directory)
    with _executor(workers, pool) as executor:
        futures = {
            split: [
                executor.submit(
                    scan_shard, directory / shard.file, found, shard.records, quarantine
                )
                for shard in shards
            ]
            for split, shards in info.splits.items()
        }
        try:
            return {split: [future.result() for future in each] for split, each in futures.items()}
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def _source(directory: Path | Url) -> tuple[Path, dict]:
    found, info = features.load(directory), dataset_info.load(directory)
    sizes = dataset_info.check_files(directory, info)
    source = {"features": found.digest, "dataset_info": info.digest, "shards": sizes}
    return sidecar.location(directory, f"{info.name}-{info.version}"), source


def _executor(workers: int, pool: Pool) -> concurrent.futures.Executor:
    if pool == "thread":
        return concurrent.futures.ThreadPoolExecutor(workers)
    spawn = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn)


def main() -> None:
    """Builds (or checks) the index of a directory and prints what it holds."""
    parser = argparse.ArgumentParser(prog="python -m rt2.data.index", description=main.__doc__)
    parser.add_argument("directory", type=storage.at, help="a folder, or a URL of fsspec")
    parser.add_argument("--workers", type=int, default=None, help="shards read at a time")
    parser.add_argument(
        "--quarantine", type=float, default=0.0, help="share of damaged records to leave out"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    try:
        loaded = load(args.directory, args.workers, "process", args.quarantine)
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
        "odd": {k: v["odd"] for k, v in meta["splits"].items() if v["odd"]},
        "quarantined": loaded.quarantined,
    }
    if args.json:
        print(json.dumps(summary, indent=2))
        return
    for key, value in summary.items():
        print(f"{key:14}{value}")


if __name__ == "__main__":
    main()
