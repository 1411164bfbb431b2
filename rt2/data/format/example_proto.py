"""A scan of the `tf.train.Example` wire format that copies no payload.

Wire layout (proto3): Example{1: Features}, Features{repeated 1: entry}, entry{1: key, 2: Feature},
Feature{1: BytesList | 2: FloatList | 3: Int64List}, every list{repeated 1: value}; numbers may be
packed (one length-delimited field) or not (a tag before every value).
"""

from typing import NamedTuple

import numpy as np

KINDS = {1: "bytes", 2: "float", 3: "int64"}
_VARINT, _FIXED32, _DELIMITED = 0, 5, 2


class ProtoError(ValueError):
    """Bytes that are not a well-formed `tf.train.Example`."""


class Feature(NamedTuple):
    """Where a feature lies in its record.

    `kind` is "bytes", "float", "int64" or "empty"; `ranges` holds (offset, length): one for each
    entry of a bytes list; one for each packed run or single value of a number list.
    """

    kind: str
    ranges: list[tuple[int, int]]


def scan_example(data: bytes) -> dict[str, Feature]:
    """The features of a serialised Example by key. Raises ProtoError where it is malformed."""
    features: dict[str, Feature] = {}
    try:
        for start, end in _submessages(data, 0, len(data), field=1):
            for entry, entry_end in _submessages(data, start, end, field=1):
                key, feature = _entry(data, entry, entry_end)
                if key in features:
                    raise ProtoError(f"the key {key!r} stands twice")
                features[key] = feature
    except IndexError:
        raise ProtoError("a field runs past the end of the record") from None
    return features


def floats(data: bytes, feature: Feature) -> np.ndarray:
    """The values of a float list, float32 [N]."""
    runs = [np.frombuffer(data, "<f4", size // 4, start) for start, size in feature.ranges]
    return runs[0] if len(runs) == 1 else np.concatenate([np.zeros(0, "<f4"), *runs])


def int64s(data: bytes, feature: Feature) -> np.ndarray:
    """The values of an int64 list, int64 [N]."""
    return varints(b"".join(data[start : start + size] for start, size in feature.ranges))


def split_int64s(data: bytes, feature: Feature) -> np.ndarray:
    """Where each value of an int64 list packed into one run ends, counted from its beginning."""
    ((start, size),) = feature.ranges
    raw = np.frombuffer(data, np.uint8, size, start)
    if size and raw[-1] >= 0x80:
        raise ProtoError("an integer is cut off")
    return np.flatnonzero(raw < 0x80) + 1


def varints(packed: bytes) -> np.ndarray:
    """The values of packed varints, int64 [N]."""
    raw = np.frombuffer(packed, np.uint8)
    last = raw < 0x80
    if last.all():
        return raw.astype(np.int64)
    if not last[-1]:
        raise ProtoError("an integer is cut off")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise ProtoError("an integer is longer than ten bytes")
    place = np.arange(len(raw)) - np.repeat(starts, lengths)
    parts = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(parts, starts).view(np.int64)


def _entry(data: bytes, start: int, end: int) -> tuple[str, Feature]:
    key, feature = "", Feature("empty", [])
    pos = start
    while pos < end:
        tag, pos = _varint(data, pos)
        if tag not in (0x0A, 0x12):
            raise ProtoError(f"unexpected tag {tag} in a map entry")
        size, pos = _varint(data, pos)
        if pos + size > end:
            raise ProtoError("a map entry overruns its message")
        if tag == 0x0A:
            key = data[pos : pos + size].decode("utf-8", errors="replace")
        else:
            feature = _feature(data, pos, pos + size)
        pos += size
    return key, feature


def _feature(data: bytes, start: int, end: int) -> Feature:
    if start == end:
        return Feature("empty", [])
    tag, pos = _varint(data, start)
    size, pos = _varint(data, pos)
    if tag >> 3 not in KINDS or tag & 7 != _DELIMITED or pos + size != end:
        raise ProtoError("a feature is not exactly one bytes, float or int64 list")
    kind = KINDS[tag >> 3]
    if kind == "bytes":
        return Feature(kind, [(s, e - s) for s, e in _submessages(data, pos, end, field=1)])
    return Feature(kind, _number_runs(data, pos, end, kind))


def _number_runs(data: bytes, pos: int, end: int, kind: str) -> list[tuple[int, int]]:
    single = _FIXED32 if kind == "float" else _VARINT
    runs = []
    while pos < end:
        tag, pos = _varint(data, pos)
        if tag == (1 << 3 | _DELIMITED):
            size, pos = _varint(data, pos)
        elif tag == (1 << 3 | single):
            size = 4 if kind == "float" else _varint(data, pos)[1] - pos
        else:
            raise ProtoError(f"unexpected tag {tag} in a {kind} list")
        if pos + size > end or (kind == "float" and size % 4):
            raise ProtoError(f"a {kind} list overruns its message")
        runs.append((pos, size))
        pos += size
    return runs


def _submessages(data: bytes, pos: int, end: int, field: int) -> list[tuple[int, int]]:
    expected = field << 3 | _DELIMITED
    ranges = []
    while pos < end:
        if data[pos] != expected:
            raise ProtoError(f"unexpected tag {data[pos]} at byte {pos}")
        size, pos = _varint(data, pos + 1)
        if pos + size > end:
            raise ProtoError("a field overruns its message")
        ranges.append((pos, pos + size))
        pos += size
    return ranges


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    byte = data[pos]
    if byte < 0x80:
        return byte, pos + 1
    value, shift = byte & 0x7F, 7
    while True:
        pos += 1
        byte = data[pos]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos + 1
        shift += 7
        if shift > 63:
            raise ProtoError("an integer is longer than ten bytes")
