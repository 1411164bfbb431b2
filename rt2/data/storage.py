"""The few operations that the reader needs of a file, local or behind a URL.

Local paths are `pathlib.Path` and cost nothing extra; `gs://`, `s3://`, `http(s)://` and every
other scheme of fsspec become a `Url` (see `rt2.data.remote`).
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from rt2.data import remote
from rt2.data.errors import DataError
from rt2.data.remote import Url

# what file systems call the version of a file: http, s3; gs; others
_VERSIONS = ("ETag", "etag", "generation", "Last-Modified", "LastModified", "mtime")


def at(place: Path | Url | str) -> Path | Url:
    """A Url where the text has a scheme (`gs://...`), else a Path."""
    if isinstance(place, (Path, Url)):
        return place
    return Url(place.rstrip("/")) if "://" in place else Path(place)


def exists(path: Path | Url) -> bool:
    """Whether the file is there."""
    return path.is_file() if isinstance(path, Path) else size(path) is not None


def size(path: Path | Url) -> int | None:
    """Bytes of a file, None where it is missing."""
    found = stamp(path)
    return None if found is None else found[0]


def stamp(path: Path | Url) -> tuple[int, int | str] | None:
    """(bytes, what another version of a file would change), None where it is missing.

    Of a local file the second is its modification time in nanoseconds; of a remote one what the
    server says of it, "" where it says nothing.
    """
    if isinstance(path, Path):
        if not path.is_file():
            return None
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    try:
        told = remote.ask(path, lambda fs: remote.info(fs, path.url))
        return int(told["size"]), next((str(told[key]) for key in _VERSIONS if told.get(key)), "")
    except FileNotFoundError:
        return None
    except TypeError:
        raise DataError(f"{path}: the server does not say how long the file is") from None


def stamps(paths: Sequence[Path | Url]) -> list[tuple[int, int | str] | None]:
    """The stamp of each of the files; many requests at a time."""
    if all(isinstance(path, Path) for path in paths):
        return [stamp(path) for path in paths]
    return list(remote.pool().map(stamp, paths))


def sizes(directory: Path | Url, files: Sequence[str]) -> dict[str, int | None]:
    """Bytes of each of `files`, None where one is missing; many requests at a time."""
    found = stamps([directory / file for file in files])
    return {file: None if s is None else s[0] for file, s in zip(files, found, strict=True)}


def names(directory: Path | Url) -> list[str] | None:
    """The names in a folder, sorted; None over HTTP, where folders cannot be listed."""
    if isinstance(directory, Path):
        return sorted(os.listdir(directory))
    if directory.url.startswith(("http://", "https://")):
        return None
    try:
        found = remote.ask(directory, lambda fs: fs.ls(directory.url, detail=False))
    except FileNotFoundError:
        return []
    return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)


def read(path: Path | Url) -> bytes:
    """The whole file. Raises DataError where a remote one is missing or cannot be read."""
    if isinstance(path, Path):
        return path.read_bytes()
    try:
        return remote.ask(path, lambda fs: remote.cat(fs, path.url))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None


def stream(path: Path | Url) -> BinaryIO:
    """The file, to be read from beginning to end; seekable."""
    if isinstance(path, Path):
        return path.open("rb", buffering=0)
    length = size(path)
    if length is None:
        raise DataError(f"{path}: there is no such file")
    return io.BufferedReader(_Blocks(path, length), remote.LARGEST)


class _Blocks(io.RawIOBase):
    """A remote file as a stream: one ranged request a read, each tried again by itself."""

    def __init__(self, path: Url, length: int):
        self._path, self._length, self._pos = path, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._pos = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._pos, 2: self._length}[whence]
        return self._pos

    def readinto(self, buffer) -> int:
        wanted = min(len(buffer), remote.LARGEST, self._length - self._pos)
        if wanted <= 0:
            return 0
        data = remote.read_range(remote.Range(self._path, self._pos, wanted))
        buffer[: len(data)] = data
        self._pos += len(data)
        return len(data)
