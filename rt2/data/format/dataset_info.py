"""Reads TFDS's `dataset_info.json` and checks that the shards it promises are the ones present."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

from rt2.data import storage
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


def load(directory: Path | storage.Url | str) -> DatasetInfo:
    """The info of the data set in `directory`. Raises DataError where it cannot be read."""
    path = storage.at(directory) / "dataset_info.json"
    if not storage.exists(path):
        raise DataError(f"{path} is missing: copy it from the source of the data set")
    raw = storage.read(path)
    try:
        info = json.loads(raw)
        splits = {split["name"]: _shards(info, split) for split in info["splits"]}
        version = info.get("version", "")
        return DatasetInfo(info["name"], version, splits, hashlib.sha256(raw).hexdigest())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: not a TFDS dataset_info ({reason}). Copy it again.") from None


def _shards(info, split) -> tuple[Shard, ...]:
    """Source: `ShardedFileTemplate.sharded_filepath` of TFDS's `core/naming.py`."""
    file_format = split.get("fileFormat") or info.get("fileFormat") or "tfrecord"
    if file_format != "tfrecord":
        raise ValueError(f"the file format {file_format!r} is not read, only tfrecord")
    lengths = _lengths(split)
    template = split.get("filepathTemplate") or DEFAULT_TEMPLATE
    template = template.split("%")[0]  # TFDS may append how the name is encoded
    digits = max(5, len(str(len(lengths))))
    total = f"{len(lengths):0{digits}d}"
    indices = [f"{number:0{digits}d}" for number in range(len(lengths))]
    files = [
        template.format(
            DATASET=info["name"],
            SPLIT=split["name"],
            FILEFORMAT=file_format,
            SHARD_INDEX=index,
            NUM_SHARDS=total,
            SHARD_X_OF_Y=f"{index}-of-{total}",
        )
        for index in indices
    ]
    if len(set(files)) < len(files):
        raise ValueError(f"filepathTemplate {template!r} gives {len(files)} shards the same name")
    if outside := [file for file in files if file != file.replace("\\", "/").rsplit("/")[-1]]:
        raise ValueError(f"the shard {outside[0]!r} would lie outside the directory")
    return tuple(Shard(file, length) for file, length in zip(files, lengths, strict=True))


def _lengths(split) -> list[int]:
    """Records of every shard; an empty split has none, and TFDS then leaves the key out."""
    if "shardLengths" not in split and int(split.get("numBytes", 0)) > 0:
        raise ValueError(f"the split {split['name']!r} has no shardLengths")
    return [int(length) for length in split.get("shardLengths", ())]


def check_files(directory: Path | storage.Url, info: DatasetInfo) -> dict[str, int]:
    """The size in bytes of every shard by file name.

    Raises DataError where a shard is missing, empty although it should hold records, or where a
    file that looks like a shard is not among those of `dataset_info.json` (HTTP lists no files:
    there the last is not looked for).
    """
    expected = {shard.file: shard for shards in info.splits.values() for shard in shards}
    sizes = storage.sizes(directory, list(expected))
    for file, shard in expected.items():
        if sizes[file] == 0 and shard.records > 0:
            raise DataError(
                f"{directory / file}: zero bytes, dataset_info.json promises {shard.records} "
                "records. Copy the shard again."
            )
    if missing := [file for file, size in sizes.items() if size is None]:
        shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise DataError(
            f"{directory}: {len(missing)} of {len(expected)} shards are missing: {shown}. "
            "Finish the download."
        )
    shard_name = re.compile(r".+\.tfrecord(-\d{5,}(-of-\d{5,})?)?$")
    present = {name for name in storage.names(directory) or () if shard_name.match(name)}
    if extra := sorted(present - expected.keys()):
        raise DataError(
            f"{directory / extra[0]}: a shard that dataset_info.json does not name "
            f"({len(extra)} such files). Remove it, or restore the dataset_info.json it belongs to."
        )
    return {file: size for file, size in sizes.items() if size is not None}
