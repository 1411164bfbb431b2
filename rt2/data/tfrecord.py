"""TFRecord framing: uint64 length, its masked CRC32C, the data, the data's masked CRC32C."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from rt2.data.errors import DataError

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
REMEDY = "Copy the file again; if the source is damaged too, drop the shard from the data set"


class Record(NamedTuple):
    """One record: its number in the file, the byte offset of its data, and the data."""

    number: int
    offset: int
    data: bytes


def masked_crc32c(data: bytes) -> int:
    """CRC32C of `data`, rotated and offset as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def scan(path: Path) -> Iterator[Record]:
    """Yields every record of the file in order, both CRCs checked.

    Raises DataError with the path, record number and byte offset at the first record that is
    truncated or whose length or data do not match their CRC.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        number, start = 0, 0
        while start < size:
            header = _read(file, HEADER.size, path, number, start)
            length, length_crc = HEADER.unpack(header)
            if masked_crc32c(header[:8]) != length_crc:
                raise _error(path, number, start, "the length does not match its CRC32C")
            end = start + HEADER.size + length + FOOTER.size
            if end > size:
                raise _error(path, number, start, f"truncated: {end - size} bytes are missing")
            data = _read(file, length, path, number, start)
            (data_crc,) = FOOTER.unpack(_read(file, FOOTER.size, path, number, start))
            if masked_crc32c(data) != data_crc:
                raise _error(path, number, start, "the data do not match their CRC32C")
            yield Record(number, start + HEADER.size, data)
            number, start = number + 1, end


def _read(file, length: int, path: Path, number: int, start: int) -> bytes:
    data = file.read(length)
    while len(data) < length:  # an unbuffered read may stop short before the end of the file
        more = file.read(length - len(data))
        if not more:
            missing = length - len(data)
            raise _error(path, number, start, f"truncated: {missing} bytes are missing")
        data += more
    return data


def _error(path: Path, number: int, start: int, reason: str) -> DataError:
    return DataError(f"{path}: record {number} at byte {start}: {reason}. {REMEDY}.")
