"""ArrayRecord files of `tf.train.Example` records, read without TensorFlow.

Of the records in use (tf.train.Example, msgpack, JSON) this reads the first alone: it is what
TFDS writes into ArrayRecord files and what the PaLI-style TFRecord sets hold, its parser is part
of this package (`rt2.data.format.example_proto`), image bytes need no base64 as in JSON and no
further dependency as with msgpack. Features, all lists of bytes: `image` (one JPEG, PNG or WebP;
absent in a row of text) and one of the flat forms of `rt2.data.web.rows`: question and answer or
answers; caption or captions; prefix and suffix; kind, language, question and answers; text.
`language` may stand beside each. Any other feature is refused, so that a misspelt one is not
lost.

The package is array_record, which grain brings (not on Windows). Its chunks carry hashes, so that
damage is mostly known before the first index; but a file cut at a multiple of 64 KiB opens without
a complaint as one of no records, and is refused here for that.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import google_crc32c

from rt2.data.errors import DataError, nearest
from rt2.data.format import example_proto
from rt2.data.web import rows
from rt2.data.web.table import Table

PATTERN = "*.array_record*"
_RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"
_MANY = ("answers", "captions")
_FEATURES = ("image", "language", *sorted(rows.FORMS - {"qa", "conversations"}), "suffix", *_MANY)
_FEATURES = (*dict.fromkeys((*_FEATURES, "answer")),)
_REMEDY = "Copy or write the file again."


def fill(table: Table, files: tuple[Path, ...]) -> None:
    """Adds every record of the files, which lie in one directory. Raises DataError at a fault."""
    for file in files:
        reader = _Reader(file)
        for number in range(reader.records):
            with table.one_sample():
                _add(table, file, number, reader)


def _add(table: Table, file: Path, number: int, reader: "_Reader") -> None:
    where = f"{file}: record {number}"
    image, record = _parse(reader.read(number, where), where)
    picture = None
    if image is not None:
        picture = table.image(file.name, number, image, where)
    found = rows.from_record(record, table.options, where, image is not None)
    table.sample(file.name.split(".array_record")[0], str(number), picture, found, where)


class ArrayRecordImages:
    """The images of ArrayRecord files by record number; each process opens its own readers."""

    def __init__(self, directory: Path, files: Sequence[str]):
        self._directory, self._files = directory, files
        self._opened: dict[tuple[int, int], _Reader] = {}

    def read(self, file: int, offset: int, length: int, crc: int, where: str) -> bytes:
        """The image of record `offset`, checked against its length and CRC32C."""
        image, _ = _parse(self._reader(file).read(offset, where), where)
        if image is None or len(image) != length or google_crc32c.value(image) != crc:
            raise DataError(
                f"{where}: {self._files[file]}: record {offset} changed since the index was "
                "built. Copy the file again, then delete the rt2_index beside it."
            )
        return image

    def _reader(self, file: int) -> "_Reader":
        key = os.getpid(), file  # a reader's state does not survive a fork
        if (
            key not in self._opened
        ):  # two threads may both open one; a lock would not survive a fork
            self._opened.setdefault(key, _Reader(self._directory / self._files[file]))
        return self._opened[key]


class _Reader:
    def __init__(self, file: Path):
        from array_record.python.array_record_module import ArrayRecordReader

        self.file = file
        try:
            self._reader = ArrayRecordReader(str(file), _RANDOM_ACCESS)
            self.records = self._reader.num_records()
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(f"{file}: not a whole ArrayRecord file ({error}). {_REMEDY}") from None
        if not self.records:
            raise DataError(f"{file}: holds no record: it is empty or was cut off. {_REMEDY}")

    def read(self, number: int, where: str) -> bytes:
        try:
            (data,) = self._reader.read([number])
        except (RuntimeError, ValueError, IndexError) as error:
            raise DataError(f"{where}: {self.file.name}: damaged ({error}). {_REMEDY}") from None
        return data


def _parse(data: bytes, where: str) -> tuple[bytes | None, dict[str, Any]]:
    """(image, the other features as texts) of a serialised Example."""
    try:
        features = example_proto.scan_example(data)
    except example_proto.ProtoError as error:
        raise DataError(f"{where}: not a tf.train.Example ({error}). {_REMEDY}") from None
    record: dict[str, Any] = {}
    image = None
    for name, feature in features.items():
        if name not in _FEATURES:
            raise DataError(
                f"{where}: the feature {name!r} is not read: {nearest(name, _FEATURES)}"
            )
        if feature.kind not in ("bytes", "empty"):
            raise DataError(f"{where}: {name}: a list of {feature.kind}, expected bytes")
        values = [data[start : start + size] for start, size in feature.ranges]
        if name == "image":
            image = _single(values, name, where) if values else None
            continue
        try:
            texts = [value.decode() for value in values]
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: {name}: no UTF-8 ({error})") from None
        if texts:
            record[name] = texts if name in _MANY else _single(texts, name, where)
    return image, record


def _single(values: list, name: str, where: str) -> Any:
    if len(values) != 1:
        raise DataError(f"{where}: {name}: {len(values)} values, expected one")
    return values[0]
