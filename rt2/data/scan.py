"""The index pass over one shard: checks every record and returns the shard's columns."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np

from rt2.data import image, tfrecord
from rt2.data.errors import DataError, nearest
from rt2.data.example_proto import Feature, ProtoError, floats, int64s, scan_example
from rt2.data.features import Features, Leaf


class ShardColumns(NamedTuple):
    """Columns of one shard by name; string ids count within `strings`."""

    columns: dict[str, np.ndarray]
    strings: list[bytes]


def scan_shard(path: Path, features: Features, records: int) -> ShardColumns:
    """Reads the shard once from beginning to end.

    Columns: `record.offset|length|crc|steps`; for a leaf `<key>.value` (number), `<key>.id` (text),
    `<key>.offset|length|crc` (image, tensor), and `<key>.count` too where it is ragged.
    Raises DataError, naming file, record, key and remedy, at the first fault.
    """
    scanner = _ShardScanner(path, features)
    found = 0
    for record in tfrecord.scan(path):
        scanner.add(record)
        found += 1
    if found != records:
        raise DataError(
            f"{path}: holds {found} records, dataset_info.json promises {records}. "
            "Copy the shard again; if it is whole, correct shardLengths in dataset_info.json."
        )
    return scanner.finish()


class _ShardScanner:
    def __init__(self, path: Path, features: Features):
        self.path = path
        self.features = features
        self.leaves = {leaf.key: leaf for leaf in features.leaves}
        self.parts: dict[str, list] = defaultdict(list)
        self.ids: dict[bytes, int] = {}
        self.record: tfrecord.Record | None = None

    def add(self, record: tfrecord.Record) -> None:
        self.record = record
        try:
            found = scan_example(record.data)
        except ProtoError as error:
            raise self.fault(None, f"not a tf.train.Example ({error})") from None
        self._check_keys(found)
        steps = self._steps(found)
        for leaf in self.features.leaves:
            count = {"step": steps, "episode": 1, "ragged": None}[leaf.level]
            try:
                self._add_leaf(leaf, found[leaf.key], count)
            except ProtoError as error:
                raise self.fault(leaf.key, f"malformed ({error})") from None
        self.parts["record.offset"].append(record.offset)
        self.parts["record.length"].append(len(record.data))
        self.parts["record.steps"].append(steps)

    def fault(self, key: str | None, reason: str, remedy: str = "") -> DataError:
        where = f"{self.path}: record {self.record.number} at byte {self.record.offset}"
        remedy = remedy or "Write the data set again, or copy it from its source."
        return DataError(f"{where}: {f'{key}: ' if key else ''}{reason}. {remedy}")

    def _check_keys(self, found: dict[str, Feature]) -> None:
        if found.keys() == self.leaves.keys():
            return
        missing = sorted(self.leaves.keys() - found.keys())
        extra = sorted(found.keys() - self.leaves.keys())
        remedy = "Restore the features.json that was written with these shards."
        if missing:
            reason = f"the feature of features.json is missing; {nearest(missing[0], extra)}"
            raise self.fault(missing[0], reason, remedy)
        raise self.fault(extra[0], "the feature does not stand in features.json", remedy)

    def _steps(self, found: dict[str, Feature]) -> int:
        if not self.features.episodic:
            return 1
        counts = {leaf.key: self._count(leaf, found[leaf.key]) for leaf in self.features.at("step")}
        steps = max(counts.values(), default=0)
        odd = {key: count for key, count in counts.items() if count != steps}
        if odd:
            key, count = next(iter(odd.items()))
            raise self.fault(key, f"has {count} steps where the episode has {steps}")
        if steps == 0:
            raise self.fault(None, "the episode is empty", "Write the data set without it.")
        return steps

    def _count(self, leaf: Leaf, feature: Feature) -> int:
        """How many values of `leaf` the feature holds."""
        if feature.kind not in (leaf.wire, "empty"):
            reason = f"is a list of {feature.kind}, features.json says {leaf.dtype} ({leaf.wire})"
            raise self.fault(leaf.key, reason)
        if leaf.wire == "bytes":
            return len(feature.ranges)
        if leaf.wire == "float":
            numbers = sum(size for _, size in feature.ranges) // 4
        else:
            numbers = len(int64s(self.record.data, feature))
        if leaf.size == 0 or numbers % leaf.size:
            raise self.fault(leaf.key, f"holds {numbers} numbers, not whole values {leaf.shape}")
        return numbers // leaf.size

    def _add_leaf(self, leaf: Leaf, feature: Feature, count: int | None) -> None:
        held = self._count(leaf, feature)
        if count is None:
            self.parts[f"{leaf.key}.count"].append(held)
        elif held != count:
            raise self.fault(leaf.key, f"holds {held} values, expected {count}")
        if leaf.kind == "number":
            self._add_numbers(leaf, feature)
        elif leaf.kind == "text":
            self._add_texts(leaf, feature)
        else:
            self._add_bytes(leaf, self._byte_ranges(leaf, feature, held))

    def _add_numbers(self, leaf: Leaf, feature: Feature) -> None:
        dtype = np.dtype(leaf.dtype)
        read = floats if leaf.wire == "float" else int64s
        raw = read(self.record.data, feature).reshape(-1, *leaf.shape)
        values = raw.astype(dtype)
        if leaf.wire == "int64" and not (values.astype(np.int64) == raw).all():
            raise self.fault(leaf.key, f"holds a number that is no {leaf.dtype}")
        if leaf.wire == "float" and leaf.path[0].startswith("action"):
            self._check_finite(leaf, values)
        self.parts[f"{leaf.key}.value"].append(values)

    def _check_finite(self, leaf: Leaf, values: np.ndarray) -> None:
        bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
        if len(bad):
            reason = f"NaN or infinite at step {bad[0]} ({len(bad)} such steps)"
            raise self.fault(leaf.key, reason, "Mend or drop the episode and write the set again.")

    def _add_texts(self, leaf: Leaf, feature: Feature) -> None:
        data, ids = self.record.data, self.ids
        texts = [data[start : start + size] for start, size in feature.ranges]
        for text in {text for text in texts if text not in ids}:
            try:
                text.decode()
            except UnicodeDecodeError:
                raise self.fault(leaf.key, f"not UTF-8: {text[:40]!r}") from None
        found = [ids.setdefault(text, len(ids)) for text in texts]
        self.parts[f"{leaf.key}.id"].append(np.array(found, np.uint32))

    def _byte_ranges(self, leaf: Leaf, feature: Feature, count: int) -> list[tuple[int, int]]:
        if leaf.wire == "bytes":
            return feature.ranges
        if len(feature.ranges) != 1:
            raise self.fault(leaf.key, "a large float list must be packed into one run")
        start, size = feature.ranges[0]
        stride = size // count
        return [(start + i * stride, stride) for i in range(count)]

    def _add_bytes(self, leaf: Leaf, ranges: Sequence[tuple[int, int]]) -> None:
        data, crc = self.record.data, google_crc32c.value
        if leaf.kind == "image":
            self._check_images(leaf, ranges)
        table = np.array(ranges, np.uint64).reshape(-1, 2)
        self.parts[f"{leaf.key}.offset"].append(table[:, 0] + np.uint64(self.record.offset))
        self.parts[f"{leaf.key}.length"].append(table[:, 1].astype(np.uint32))
        crcs = [crc(data[start : start + size]) for start, size in ranges]
        self.parts[f"{leaf.key}.crc"].append(np.array(crcs, np.uint32))

    def _check_images(self, leaf: Leaf, ranges: Sequence[tuple[int, int]]) -> None:
        for number, (start, size) in enumerate(ranges):
            where = f"{self.path}: record {self.record.number}, {leaf.key}, number {number}"
            data = self.record.data[start : start + size]
            image.check_declared(data, leaf.shape, leaf.dtype, where)

    def finish(self) -> ShardColumns:
        dtypes = {"offset": np.uint64, "length": np.uint32, "steps": np.uint32, "count": np.uint32}
        columns = {}
        for name, parts in self.parts.items():
            if np.ndim(parts[0]):
                columns[name] = np.concatenate(parts)
            else:
                columns[name] = np.array(parts, dtypes[name.rsplit(".", 1)[1]])
        strings = list(itertools.chain(self.ids))
        return ShardColumns(columns, strings)
