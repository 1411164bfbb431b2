"""Reads TFDS's `dataset_info.json` and checks that the shards it promises are the ones present."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

from rt2.data.errors import DataError, nearest

DEFAULT_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file and the number of records that it must hold."""

    file: str
    records: int


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Name, version and the shards of every split; `digest` is the sha256 of the file."""

    name: str
    version: str
    splits: dict[str, tuple[Shard, ...]]
    digest: str

    def shards(self, split: str) -> tuple[Shard, ...]:
        """The shards of a split. Raises DataError with the valid names where it is unknown."""
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}: {nearest(split, self.splits)}")
        return self.splits[split]


def load(directory: Path) -> DatasetInfo:
    """The info of the data set in `directory`. Raises DataError where it cannot be read."""
    path = directory / "dataset_info.json"
    if not path.is_file():
        raise DataError(f"{path} is missing: copy it from the source of the data set")
    raw = path.read_bytes()
    try:
        info = json.loads(raw)
        splits = {split["name"]: _shards(info, split) for split in info["splits"]}
        version = info.get("version", "")
        return DatasetInfo(info["name"], version, splits, hashlib.sha256(raw).hexdigest())
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: not a TFDS dataset_info ({reason}). Copy it again.") from None


def _shards(info, split) -> tuple[Shard, ...]:
    file_format = info.get("fileFormat") or "tfrecord"
    if file_format != "tfrecord":
        raise ValueError(f"the file format {file_format!r} is not read, only tfrecord")
    lengths = [int(length) for length in split["shardLengths"]]
    template = split.get("filepathTemplate") or DEFAULT_TEMPLATE
    total = f"{len(lengths):05d}"
    return tuple(
        Shard(
            template.format(
                DATASET=info["name"],
                SPLIT=split["name"],
                FILEFORMAT=file_format,
                SHARD_INDEX=f"{number:05d}",
                NUM_SHARDS=total,
                SHARD_X_OF_Y=f"{number:05d}-of-{total}",
            ),
            length,
        )
        for number, length in enumerate(lengths)
    )


def check_files(directory: Path, info: DatasetInfo) -> dict[str, int]:
    """The size in bytes of every shard by file name.

    Raises DataError where a shard is missing, empty although it should hold records, or where a
    file that looks like a shard is not among those of `dataset_info.json`.
    """
    expected = {shard.file: shard for shards in info.splits.values() for shard in shards}
    sizes, missing = {}, []
    for file, shard in expected.items():
        path = directory / file
        if not path.is_file():
            missing.append(file)
            continue
        sizes[file] = path.stat().st_size
        if sizes[file] == 0 and shard.records > 0:
            raise DataError(
                f"{path}: zero bytes, dataset_info.json promises {shard.records} records. "
                "Copy the shard again."
            )
    if missing:
        shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise DataError(
            f"{directory}: {len(missing)} of {len(expected)} shards are missing: {shown}. "
            "Finish the download."
        )
    shard_name = re.compile(r".+\.tfrecord(-\d{5,}(-of-\d{5,})?)?$")
    present = {p.name for p in directory.iterdir() if shard_name.match(p.name)}
    if extra := sorted(present - expected.keys()):
        raise DataError(
            f"{directory / extra[0]}: a shard that dataset_info.json does not name "
            f"({len(extra)} such files). Remove it, or restore the dataset_info.json it belongs to."
        )
    return sizes
