"""The index pass over one shard: checks every record and returns the shard's columns."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rt2.data.errors import DataError, RecordFault, nearest
from rt2.data.format import columns, tfrecord
from rt2.data.format.columns import Held, LeafFault
from rt2.data.format.episode_flags import odd_codes, oddities
from rt2.data.format.example_proto import Feature, ProtoError, scan_example
from rt2.data.format.features import Features
from rt2.data.storage import Url


class ShardColumns(NamedTuple):
    """Columns of one shard by name; string ids count within `strings`; what was left out."""

    columns: dict[str, np.ndarray]
    strings: list[bytes]
    quarantined: tuple[RecordFault, ...] = ()


def scan_shard(
    path: Path | Url, features: Features, records: int, quarantine: bool = False
) -> ShardColumns:
    """Reads the shard once from beginning to end.

    Columns: `record.steps|number|odd` (the number in the shard, the bits of
    `rt2.data.format.episode_flags`); for a leaf `<key>.value` (number), `<key>.id` (text, codes),
    `<key>.offset|length|crc` (image, tensor); `<key>.count`, `.count1`, ... too for the axes of a
    sequence, `.shape` where several dimensions vary, `.present` where it is optional.

    Raises DataError, naming file, record, key and remedy, at the first fault. With `quarantine`
    damaged and odd records are left out and listed instead; a wrong number of records is still
    refused, as nobody knows which are missing.
    """
    scanner = _ShardScanner(path, features)
    left_out: list[RecordFault] = []
    found = 0
    for record in tfrecord.scan_all(path):
        found += 1
        try:
            if isinstance(record, RecordFault):
                raise record
            scanner.add(record, refuse_odd=quarantine)
        except RecordFault as fault:
            if not quarantine:
                raise
            left_out.append(fault)
    if found != records:
        raise DataError(
            f"{path}: holds {found} records, dataset_info.json promises {records}. "
            "Copy the shard again; if it is whole, correct shardLengths in dataset_info.json."
        )
    return scanner.finish(left_out)


class _ShardScanner:
    def __init__(self, path: Path | Url, features: Features):
        self.path = path
        self.features = features
        self.required = {key for leaf in features.leaves if not leaf.optional for key in leaf.keys}
        self.known = {key for leaf in features.leaves for key in leaf.keys}
        self.parts: dict[str, list[np.ndarray]] = defaultdict(list)
        self.ids: dict[bytes, int] = {}

    def add(self, record: tfrecord.Record, refuse_odd: bool) -> None:
        """Adds all of the record's columns, or none where it raises RecordFault."""
        try:
            found = scan_example(record.data)
        except ProtoError as error:
            fault = LeafFault("not_an_example", f"not a tf.train.Example ({error})")
            raise self._fault(record, None, fault) from None
        self._check_keys(record, found)
        data = columns.RecordData(record.data, record.offset, found)
        held: dict[str, Held] = {}
        for leaf in self.features.leaves:
            try:
                held[leaf.key] = columns.read(leaf, data)
            except LeafFault as fault:
                raise self._fault(record, leaf.key, fault) from None
        steps = self._steps(record, held)
        odd = oddities(self.features, {key: part.arrays for key, part in held.items()}, steps)
        if odd and refuse_odd:
            code, reason = odd_codes(odd)[0]
            raise self._fault(record, None, LeafFault(code, reason))
        self._commit(record, held, steps, odd)

    def _commit(self, record: tfrecord.Record, held: dict[str, Held], steps: int, odd: int):
        for part in held.values():
            for name, array in part.arrays.items():
                self.parts[name].append(array)
            for name, (texts, shape) in part.texts.items():
                ids = [self.ids.setdefault(text, len(self.ids)) for text in texts]
                self.parts[name].append(np.array(ids, np.uint32).reshape(shape))
        self.parts["record.number"].append(np.array([record.number], np.uint32))
        self.parts["record.odd"].append(np.array([odd], np.uint8))
        self.parts["record.steps"].append(np.array([steps], np.uint32))

    def _fault(self, record: tfrecord.Record, key: str | None, fault: LeafFault) -> RecordFault:
        where = f"{self.path}: record {record.number} at byte {record.offset}"
        stop = "" if fault.reason.endswith(".") else "."
        message = f"{where}: {f'{key}: ' if key else ''}{fault.reason}{stop} {fault.remedy}"
        return RecordFault(message.rstrip(), fault.code, record.number, record.offset)

    def _check_keys(self, record: tfrecord.Record, found: dict[str, Feature]) -> None:
        missing = sorted(self.required - found.keys())
        extra = sorted(found.keys() - self.known)
        remedy = "Restore the features.json that was written with these shards."
        if missing:
            reason = f"the feature of features.json is missing; {nearest(missing[0], extra)}"
            fault = LeafFault("missing_feature", reason, remedy)
            raise self._fault(record, missing[0], fault)
        if extra:
            reason = "the feature does not stand in features.json"
            raise self._fault(record, extra[0], LeafFault("unknown_feature", reason, remedy))

    def _steps(self, record: tfrecord.Record, held: dict[str, Held]) -> int:
        """How many steps the record holds; all of its features must agree."""
        step_levels = ("step", "ragged_step") if self.features.episodic else ()
        counts = {f.key: held[f.key].count for f in self.features.leaves if f.level in step_levels}
        steps = max(counts.values(), default=0) if self.features.episodic else 1
        for key, count in counts.items():
            if count != steps:
                reason = f"has {count} steps where the episode has {steps}"
                raise self._fault(record, key, LeafFault("lengths_differ", reason))
        single = ("episode",) if self.features.episodic else ("step",)
        for leaf in self.features.leaves:
            if leaf.level in single and held[leaf.key].count != 1:
                reason = f"holds {held[leaf.key].count} values, expected 1"
                raise self._fault(record, leaf.key, LeafFault("lengths_differ", reason))
        if steps == 0:
            fault = LeafFault(
                "empty_episode", "the episode is empty", "Write the data set without it."
            )
            raise self._fault(record, None, fault)
        return steps

    def finish(self, left_out: list[RecordFault]) -> ShardColumns:
        whole = {name: np.concatenate(parts) for name, parts in self.parts.items()}
        return ShardColumns(whole, list(self.ids), tuple(left_out))
