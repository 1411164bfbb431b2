"""What one record adds to the columns of one leaf."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import google_crc32c
import ml_dtypes  # noqa: F401  (numpy knows bfloat16 once it is imported)
import numpy as np

from rt2.data import image
from rt2.data.errors import ImageError
from rt2.data.format.example_proto import Feature, ProtoError, floats, int64s, split_int64s
from rt2.data.format.leaf import Leaf

WRITE_AGAIN = "Write the data set again, or copy it from its source."


class LeafFault(Exception):
    """What is wrong with a feature of a record: a reason code, the words, and the remedy."""

    def __init__(self, code: str, reason: str, remedy: str = WRITE_AGAIN):
        super().__init__(code, reason, remedy)
        self.code, self.reason, self.remedy = code, reason, remedy


class Held(NamedTuple):
    """`count` values (sequences, for a ragged leaf); arrays by column name; texts to be numbered.

    `texts` holds, by column name, the texts and the shape of their numbers.
    """

    count: int
    arrays: dict[str, np.ndarray]
    texts: dict[str, tuple[list[bytes], tuple[int, ...]]]


class RecordData(NamedTuple):
    """A record's data, where they begin in the shard, and its features."""

    data: bytes
    offset: int
    found: Mapping[str, Feature]


def read(leaf: Leaf, record: RecordData) -> Held:
    """The values of `leaf` in a record. Raises LeafFault where they are not whole or not valid."""
    if leaf.optional and leaf.stored not in record.found:
        return _absent(leaf)
    feature = record.found[leaf.stored]
    if feature.kind not in (leaf.wire, "empty"):
        reason = f"is a list of {feature.kind}, features.json says {leaf.dtype} ({leaf.wire})"
        raise LeafFault("wrong_kind", reason)
    try:
        values, arrays, texts = _VALUES[leaf.kind](leaf, record, feature)
        count, lengths = _rows(leaf, record, values)
        if leaf.shape_stored is not None:
            arrays[f"{leaf.key}.shape"] = _shapes(leaf, record, values)
    except ProtoError as error:
        raise LeafFault("not_an_example", f"malformed ({error})") from None
    if leaf.optional:
        arrays[f"{leaf.key}.present"] = np.ones(1, bool)
    return Held(count, arrays | lengths, texts)


def _numbers(leaf: Leaf, record: RecordData, feature: Feature):
    read = floats if leaf.wire == "float" else int64s
    raw = read(record.data, feature)
    count = _whole(leaf, len(raw), "numbers")
    raw = raw.reshape(count, *leaf.shape)
    values = raw.astype(leaf.dtype)
    if leaf.wire == "int64" and not (values.astype(np.int64) == raw).all():
        raise LeafFault("out_of_range", f"holds a number that is no {leaf.dtype}")
    if leaf.wire == "float" and leaf.path[0].startswith("action"):
        _check_finite(values)
    return count, {f"{leaf.key}.value": values}, {}


def _codes(leaf: Leaf, record: RecordData, feature: Feature):
    count, arrays, _ = _numbers(leaf, record, feature)
    dtype = np.dtype(leaf.dtype).newbyteorder("<")
    rows = [row.astype(dtype).tobytes() for row in arrays[f"{leaf.key}.value"]]
    return count, {}, {f"{leaf.key}.id": (rows, (count,))}


def _texts(leaf: Leaf, record: RecordData, feature: Feature):
    texts = [record.data[start : start + size] for start, size in feature.ranges]
    for text in set(texts):
        try:
            text.decode()
        except UnicodeDecodeError:
            raise LeafFault("not_utf8", f"not UTF-8: {text[:40]!r}") from None
    count = _whole(leaf, len(texts), "texts")
    return count, {}, {f"{leaf.key}.id": (texts, (count, *leaf.shape))}


def _images(leaf: Leaf, record: RecordData, feature: Feature):
    shape, dtype = leaf.png
    for number, (start, size) in enumerate(feature.ranges):
        try:
            image.check_declared(record.data[start : start + size], shape, dtype, f"{number}")
        except ImageError as error:
            raise LeafFault("bad_image", f"number {error}", "") from None
    return len(feature.ranges), _bytes(leaf, record, feature.ranges), {}


def _tensors(leaf: Leaf, record: RecordData, feature: Feature):
    if leaf.wire == "bytes":
        ranges = feature.ranges
        if leaf.encoding == "bytes" and -1 not in leaf.shape:
            _check_sizes(leaf, ranges)
    else:
        ranges = _number_ranges(leaf, record, feature)
    return len(ranges), _bytes(leaf, record, ranges), {}


def _check_sizes(leaf: Leaf, ranges: Sequence[tuple[int, int]]) -> None:
    wanted = leaf.size * np.dtype(leaf.dtype).itemsize
    if odd := [size for _, size in ranges if size != wanted]:
        reason = f"{odd[0]} bytes where features.json says {leaf.shape} of {leaf.dtype}"
        raise LeafFault("partial_value", reason)


def _number_ranges(leaf: Leaf, record: RecordData, feature: Feature) -> list[tuple[int, int]]:
    """Where each value of a large number list lies."""
    if len(feature.ranges) > 1:
        raise LeafFault("wrong_kind", "a large number list must be packed into one run")
    if not feature.ranges:
        return []
    start, size = feature.ranges[0]
    if leaf.wire == "int64":
        ends = split_int64s(record.data, feature)
        count = _whole(leaf, len(ends), "numbers")
        stops = ends[leaf.size - 1 :: leaf.size].tolist()
        starts = [0, *stops[: count - 1]]
        return [(start + a, b - a) for a, b in zip(starts, stops, strict=True)]
    count = _whole(leaf, size // 4, "numbers")
    stride = size // count if count else 0
    return [(start + i * stride, stride) for i in range(count)]


_VALUES = {
    "number": _numbers,
    "codes": _codes,
    "text": _texts,
    "image": _images,
    "tensor": _tensors,
}


def _bytes(leaf: Leaf, record: RecordData, ranges: Sequence[tuple[int, int]]):
    table = np.array(ranges, np.uint64).reshape(-1, 2)
    crcs = [google_crc32c.value(record.data[start : start + size]) for start, size in ranges]
    return {
        f"{leaf.key}.offset": table[:, 0] + np.uint64(record.offset),
        f"{leaf.key}.length": table[:, 1].astype(np.uint32),
        f"{leaf.key}.crc": np.array(crcs, np.uint32),
    }


def _whole(leaf: Leaf, found: int, what: str) -> int:
    """How many values `found` numbers make."""
    known = [dim for dim in leaf.view or () if dim > 0]
    if leaf.size == 0 or found % leaf.size or found % int(np.prod(known)):
        shape = leaf.view or leaf.shape
        raise LeafFault("partial_value", f"holds {found} {what}, not whole values {shape}")
    return found // leaf.size


def _check_finite(values: np.ndarray) -> None:
    finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    bad = np.flatnonzero(~finite)
    if len(bad):
        reason = f"NaN or infinite at step {bad[0]} ({len(bad)} such steps)"
        remedy = "Mend or drop the episode and write the set again."
        raise LeafFault("not_finite", reason, remedy)


def _rows(leaf: Leaf, record: RecordData, values: int) -> tuple[int, dict[str, np.ndarray]]:
    """How many values or sequences stand at the top, and the `.count` columns."""
    if not leaf.lengths:
        return values, {}
    rows = [int64s(record.data, record.found[key]) for key in leaf.row_lengths]
    count = len(rows[0]) if rows else values
    if leaf.level == "ragged":
        rows = [np.array([count]), *rows]
    below = [*(len(row) for row in rows[1:]), values]
    for depth, (row, held, fixed) in enumerate(zip(rows, below, leaf.lengths, strict=True)):
        if (row < 0).any() or row.sum() != held:
            reason = f"the lengths of its sequences sum to {row.sum()}, it holds {held} values"
            raise LeafFault("lengths_differ", reason)
        if fixed != -1 and (row != fixed).any():
            odd = row[row != fixed][0]
            reason = f"a sequence of {odd} where features.json says {fixed} (axis {depth})"
            raise LeafFault("lengths_differ", reason)
    names = [f"{leaf.key}.count{depth or ''}" for depth in range(len(rows))]
    counts = {name: row.astype(np.uint32) for name, row in zip(names, rows, strict=True)}
    return count, counts


def _shapes(leaf: Leaf, record: RecordData, values: int) -> np.ndarray:
    """The shapes of tensors with several unknown dimensions, uint32 [values, ndim]."""
    raw = int64s(record.data, record.found[leaf.shape_stored])
    if len(raw) != values * len(leaf.shape):
        reason = f"{len(raw)} dimensions for {values} values of {len(leaf.shape)} axes"
        raise LeafFault("lengths_differ", reason)
    shapes = raw.reshape(values, len(leaf.shape))
    fixed = [(axis, dim) for axis, dim in enumerate(leaf.shape) if dim != -1]
    if (shapes < 0).any() or any((shapes[:, axis] != dim).any() for axis, dim in fixed):
        raise LeafFault("out_of_range", f"a shape that is no {leaf.shape}")
    return shapes.astype(np.uint32)


def _absent(leaf: Leaf) -> Held:
    """One value that a record lacks: TFDS's default stands in the column, `.present` says so."""
    arrays: dict[str, np.ndarray] = {f"{leaf.key}.present": np.zeros(1, bool)}
    texts = {}
    if leaf.kind in ("text", "codes"):
        size = leaf.size if leaf.kind == "text" else 1
        texts[f"{leaf.key}.id"] = ([b""] * size, (1, *(leaf.shape if leaf.kind == "text" else ())))
    elif leaf.kind == "number":
        arrays[f"{leaf.key}.value"] = np.full((1, *leaf.shape), _lowest(leaf.dtype), leaf.dtype)
    else:
        arrays |= _bytes(leaf, RecordData(b"", 0, {}), [(0, 0)])
        if leaf.shape_stored is not None:
            arrays[f"{leaf.key}.shape"] = np.zeros((1, len(leaf.shape)), np.uint32)
    return Held(1, arrays, texts)


def _lowest(dtype: str):
    kind = np.dtype(dtype).kind
    if kind == "b":
        return False
    return np.finfo(dtype).min if kind == "f" else np.iinfo(dtype).min
