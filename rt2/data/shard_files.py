"""Positioned reads from many files, safe under threads and forks."""

import os
import threading
from pathlib import Path

import google_crc32c

from rt2.data.errors import DataError

MAX_OPEN = 256  # below the usual limit of 1,024 descriptors a process; more are opened for one read


class ShardFiles:
    """Reads byte ranges of the files of one directory. Picklable; every process opens its own."""

    def __init__(self, directory: Path, files: tuple[str, ...]):
        self._directory, self._files = directory, files
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

    def path(self, shard: int) -> Path:
        """The path of a file by its number."""
        return self._directory / self._files[shard]

    def read(self, shard: int, offset: int, length: int, crc: int, where: str) -> bytes:
        """`length` bytes at `offset`, checked against their CRC32C.

        Raises DataError, beginning with `where`, where they are missing or have changed.
        """
        data = self._pread(shard, offset, length, where)
        if len(data) != length or google_crc32c.value(data) != crc:
            reason = "changed" if len(data) == length else f"cut to {len(data)} of {length} bytes"
            raise DataError(
                f"{where}: {self.path(shard)} at byte {offset}: the data were {reason} since the "
                "index was built. Copy the shard again, then delete the rt2_index beside it."
            )
        return data

    def _pread(self, shard: int, offset: int, length: int, where: str) -> bytes:
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
