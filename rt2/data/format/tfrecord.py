"""TFRecord framing: uint64 length, its masked CRC32C, the data, the data's masked CRC32C."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c
import numpy as np

from rt2.data import storage
from rt2.data.errors import RecordFault

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
REMEDY = "Copy the file again; if the source is damaged too, drop the shard from the data set"
_BLOCK = 8 * 1024 * 1024


class Record(NamedTuple):
    """One record: its number in the file, the byte offset of its data, and the data."""

    number: int
    offset: int
    data: bytes


def masked_crc32c(data: bytes) -> int:
    """CRC32C of `data`, rotated and offset as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def scan(path: Path | storage.Url) -> Iterator[Record]:
    """Yields every record of the file in order, both CRCs checked.

    Raises RecordFault (a DataError) with the path, record number and byte offset at the first
    record that is truncated or whose length or data do not match their CRC.
    """
    for found in scan_all(path):
        if isinstance(found, RecordFault):
            raise found
        yield found


def scan_all(path: Path | storage.Url) -> Iterator[Record | RecordFault]:
    """Yields every whole record, and a RecordFault in the place of every damaged one.

    After a damaged length the next record is found by its CRCs.
    """
    size = storage.size(path)
    with storage.stream(path) as file:
        number, start = 0, 0
        while start < size:
            found, end = _record(file, path, number, start, size)
            yield found
            if end is None:
                end = _next_record(file, start + 1, size)
                file.seek(end)
            number, start = number + 1, end


def _record(file: BinaryIO, path, number: int, start: int, size: int):
    """The record at `start`, or its fault, and where it ends (None: nobody knows)."""
    header = _read(file, min(HEADER.size, size - start))
    if len(header) < HEADER.size:
        return _fault(path, number, start, "truncated", "truncated in its header"), size
    length, length_crc = HEADER.unpack(header)
    if masked_crc32c(header[:8]) != length_crc:
        reason = "the length does not match its CRC32C"
        return _fault(path, number, start, "length_crc", reason), None
    end = start + HEADER.size + length + FOOTER.size
    if end > size:
        reason = f"truncated: {end - size} bytes are missing"
        return _fault(path, number, start, "truncated", reason), None
    data = _read(file, length)
    footer = _read(file, FOOTER.size)
    if len(data) + len(footer) < length + FOOTER.size:
        missing = length + FOOTER.size - len(data) - len(footer)
        reason = f"truncated: {missing} bytes are missing"
        return _fault(path, number, start, "truncated", reason), size
    if masked_crc32c(data) != FOOTER.unpack(footer)[0]:
        return _fault(path, number, start, "data_crc", "the data do not match their CRC32C"), end
    return Record(number, start + HEADER.size, data), end


def _read(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    while len(data) < length:  # an unbuffered read may stop short before the end of the file
        more = file.read(length - len(data))
        if not more:
            break
        data += more
    return data


def _next_record(file: BinaryIO, start: int, size: int) -> int:
    """Where the next whole record begins at or after `start`; `size` where there is none."""
    overlap = HEADER.size - 1
    while start + HEADER.size + FOOTER.size <= size:
        file.seek(start)
        block = _read(file, min(_BLOCK, size - start))
        for at in _headers(block, size - start):
            if _is_whole(file, start + at, block[at : at + HEADER.size]):
                return start + at
        if start + len(block) >= size:
            break
        start += len(block) - overlap
    return size


def _headers(block: bytes, left: int) -> Iterator[int]:
    """Offsets in `block` of what may be a header: a length that fits and its CRC32C.

    Records are below 4 GiB here: the upper half of the length is zero, which few offsets pass.
    """
    raw = np.frombuffer(block, np.uint8)
    ends = len(raw) - HEADER.size + 1
    if ends <= 0:
        return
    upper = raw[4 : 4 + ends] | raw[5 : 5 + ends] | raw[6 : 6 + ends] | raw[7 : 7 + ends]
    for at in np.flatnonzero(upper == 0).tolist():
        length, crc = HEADER.unpack_from(block, at)
        fits = at + HEADER.size + length + FOOTER.size <= left
        if fits and masked_crc32c(block[at : at + 8]) == crc:
            yield at


def _is_whole(file: BinaryIO, start: int, header: bytes) -> bool:
    """Whether the data of the record at `start` match their CRC32C."""
    length, _ = HEADER.unpack(header)
    file.seek(start + HEADER.size, os.SEEK_SET)
    data = _read(file, length + FOOTER.size)
    return masked_crc32c(data[:length]) == FOOTER.unpack(data[length:])[0]


def _fault(path, number: int, start: int, code: str, reason: str) -> RecordFault:
    message = f"{path}: record {number} at byte {start}: {reason}. {REMEDY}."
    return RecordFault(message, code, number, start)
