"""Positioned reads from many files, safe under threads and forks."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from rt2.data import remote, storage
from rt2.data.errors import DataError

MAX_OPEN = 256  # below the usual limit of 1,024 descriptors a process; more are opened for one read


class Piece(NamedTuple):
    """`length` bytes at `offset` of file number `shard`, their CRC32C, and what they are."""

    shard: int
    offset: int
    length: int
    crc: int
    where: str


class ShardFiles:
    """Reads byte ranges of the files of a directory or URL. Picklable; a process opens its own.

    A local file is read by `pread`; a remote one by ranged requests (`rt2.data.remote`).
    """

    def __init__(self, directory: Path | storage.Url | str, files: tuple[str, ...]):
        self._directory, self._files = storage.at(directory), files
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._descriptors: dict[int, int] = {}

    def __getstate__(self):
        return self._directory, self._files

    def __setstate__(self, state):
        self._directory, self._files = state
        self._reset()

    def __del__(self):
        if getattr(self, "_pid", None) == os.getpid():
            for descriptor in self._descriptors.values():
                os.close(descriptor)

    def path(self, shard: int) -> Path | storage.Url:
        """The path of a file by its number."""
        return self._directory / self._files[shard]

    def read(self, shard: int, offset: int, length: int, crc: int, where: str) -> bytes:
        """`length` bytes at `offset`, checked against their CRC32C.

        Raises DataError, beginning with `where`, where they are missing or have changed.
        """
        data = self._pread(shard, offset, length, where)
        self._check(data, shard, offset, length, crc, where)
        return data

    def read_many(self, pieces: Sequence[Piece]) -> list[bytes]:
        """The bytes of every piece, in order; remote ones are fetched together.

        Raises DataError as `read` does.
        """
        if isinstance(self._directory, Path):
            return [self.read(*piece) for piece in pieces]
        ranges = [remote.Range(self.path(p.shard), p.offset, p.length) for p in pieces]
        found = remote.read_ranges(ranges)
        for data, piece in zip(found, pieces, strict=True):
            self._check(data, *piece)
        return found

    def _check(self, data: bytes, shard: int, offset: int, length: int, crc: int, where: str):
        if len(data) != length or google_crc32c.value(data) != crc:
            reason = "changed" if len(data) == length else f"cut to {len(data)} of {length} bytes"
            index = "rt2_index beside it" if isinstance(self._directory, Path) else "cached index"
            raise DataError(
                f"{where}: {self.path(shard)} at byte {offset}: the data were {reason} since the "
                f"index was built. Copy the shard again, then delete the {index}."
            )

    def _pread(self, shard: int, offset: int, length: int, where: str) -> bytes:
        if not isinstance(self._directory, Path):
            return remote.read_range(remote.Range(self.path(shard), offset, length))
        try:
            descriptor = self._descriptor(shard)
            if descriptor is not None:
                return os.pread(descriptor, length, offset)
            with self.path(shard).open("rb") as file:
                return os.pread(file.fileno(), length, offset)
        except OSError as error:
            raise DataError(f"{where}: {self.path(shard)} cannot be read ({error})") from None

    def _descriptor(self, shard: int) -> int | None:
        if self._pid != os.getpid():
            self._reset()
        descriptor = self._descriptors.get(shard)
        if descriptor is None and len(self._descriptors) < MAX_OPEN:
            with self._lock:
                if shard not in self._descriptors:
                    self._descriptors[shard] = os.open(self.path(shard), os.O_RDONLY)
                descriptor = self._descriptors[shard]
        return descriptor
