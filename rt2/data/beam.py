"""Builds the index of a large data set with Apache Beam, a shard an element.

python -m rt2.data.beam DIR --work=DIR [options of the Beam runner, such as --runner=DirectRunner]

All workers must see both folders under the same names. The result is the index that
`rt2.data.index` builds on one machine, statistics included, to the last bit of its hash.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import apache_beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from rt2.data import sidecar
from rt2.data.errors import DataError
from rt2.data.format import dataset_info, features
from rt2.data.format.scan import ShardColumns, scan_shard
from rt2.data.index import Index, assemble


class Task(NamedTuple):
    """One shard: its file and number of records, and the stem of the files it becomes."""

    shard: str
    records: int
    stem: str


def build(directory: Path | str, work: Path | str, options: PipelineOptions) -> Index:
    """Scans every shard in a Beam pipeline, merges the columns here and writes the sidecar.

    Each worker leaves the columns of a shard in `work`; a later call takes up those that are there
    for the same shard. They are removed once the index stands. The merge holds the whole index in
    memory (tens of bytes a step). Raises DataError that names every faulty shard.
    """
    directory, work = Path(directory).resolve(), Path(work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    tasks = plan(directory)
    every = [task for split in tasks.values() for task in split]
    with apache_beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "shards" >> apache_beam.Create([tuple(task) for task in every])
            | "spread" >> apache_beam.Reshuffle()
            | "scan" >> apache_beam.Map(scan_to_file, str(directory), str(work))
        )
    _check_faults(work, every)
    parts = {split: _Parts(work, shards) for split, shards in tasks.items()}
    index = assemble(directory, parts)
    for task in every:
        _columns_file(work, task).unlink()
    return index


def plan(directory: Path) -> dict[str, list[Task]]:
    """The shards of every split in order. Raises DataError where one is missing or zero bytes.

    A stem changes with whatever the columns depend on, so that none is taken for another.
    """
    found, info = features.load(directory), dataset_info.load(directory)
    sizes = dataset_info.check_files(directory, info)
    tasks = {}
    for split, shards in info.splits.items():
        tasks[split] = []
        for shard in shards:
            depends = (sidecar.FORMAT, str(directory), found.digest, shard, sizes[shard.file])
            stem = hashlib.sha256(repr(depends).encode()).hexdigest()[:32]
            tasks[split].append(Task(shard.file, shard.records, stem))
    return tasks


def scan_to_file(task: tuple[str, int, str], directory: str, work: str) -> None:
    """Scans a shard unless its columns are there; a fault becomes a file, as it will not mend."""
    task, folder = Task(*task), Path(work)
    if _columns_file(folder, task).is_file():
        return
    _fault_file(folder, task).unlink(missing_ok=True)
    path = Path(directory) / task.shard
    try:
        scanned = scan_shard(path, features.load(Path(directory)), task.records)
    except DataError as error:
        _fault_file(folder, task).write_text(str(error))
        return
    _save(_columns_file(folder, task), scanned)


def _columns_file(work: Path, task: Task) -> Path:
    return work / f"{task.stem}.npz"


def _fault_file(work: Path, task: Task) -> Path:
    return work / f"{task.stem}.fault.txt"


def _save(path: Path, scanned: ShardColumns) -> None:
    """Writes the columns beside `path` and renames them: what stands there is whole."""
    strings = sidecar.string_columns("strings", scanned.strings)
    handle, fresh = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".npz", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **{f"column:{k}": v for k, v in scanned.columns.items()}, **strings)
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise


class _Parts(Sequence[ShardColumns]):
    """The scanned shards of a split; a column is read when it is asked for."""

    def __init__(self, work: Path, tasks: Sequence[Task]):
        self.files = [_columns_file(work, task) for task in tasks]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i):
        with np.load(self.files[i]) as stored:
            table = sidecar.StringTable(stored["strings.starts"], stored["strings.block"])
        strings = [table.encoded(number) for number in range(len(table))]
        return ShardColumns(_Columns(self.files[i]), strings)


class _Columns(Mapping[str, np.ndarray]):
    def __init__(self, path: Path):
        self.path = path
        with np.load(path) as stored:
            marked = [name for name in stored.files if name.startswith("column:")]
        self.names = [name.removeprefix("column:") for name in marked]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> np.ndarray:
        with np.load(self.path) as stored:
            return stored[f"column:{name}"]


def _check_faults(work: Path, tasks: Sequence[Task]) -> None:
    faults = []
    for task in tasks:
        if _fault_file(work, task).is_file():
            faults.append(_fault_file(work, task).read_text())
        elif not _columns_file(work, task).is_file():
            faults.append(f"{task.shard}: no columns in {work}: do all workers see this folder?")
    if faults:
        shown = "\n  ".join(faults[:20] + ["..."] * (len(faults) > 20))
        raise DataError(f"{len(faults)} of {len(tasks)} shards could not be indexed:\n  {shown}")


def main() -> None:
    """Builds the index of a directory with Beam."""
    parser = argparse.ArgumentParser(prog="python -m rt2.data.beam", description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="for the columns of the shards")
    args, rest = parser.parse_known_args()
    try:
        index = build(args.directory, args.work, PipelineOptions(rest))
    except DataError as error:
        sys.exit(f"error: {error}")
    print(f"path          {index.sidecar.path}\ncontent_hash  {index.content_hash}")


if __name__ == "__main__":
    main()
