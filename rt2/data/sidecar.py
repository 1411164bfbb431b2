"""A sidecar: a directory of memory-mapped .npy columns beside the data that they describe."""

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rt2.data.errors import DataError
from rt2.data.remote import Url

FORMAT = 2  # raised when the meaning of a column changes: older sidecars are then rebuilt
META = "index.json"


def location(directory: Path | Url, name: str) -> Path:
    """Where the sidecar of `directory` lives.

    `<directory>/rt2_index` where that can be written, otherwise below `$XDG_CACHE_HOME/rt2/index`
    (default `~/.cache`), as for every remote one. A directory without any write bit counts as
    read-only even for root.
    """
    if isinstance(directory, Path):
        directory = directory.resolve()
        mode = directory.stat().st_mode
        if mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) and os.access(directory, os.W_OK):
            return directory / "rt2_index" / name
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:12]
    return cache / "rt2" / "index" / f"{name}-{digest}"


class StringTable(Sequence[str]):
    """Strings kept as one memory-mapped block of UTF-8 and the offsets of its parts."""

    def __init__(self, starts: np.ndarray, block: np.ndarray):
        self._starts, self._block = starts, block

    def __len__(self) -> int:
        return len(self._starts) - 1

    def encoded(self, i: int) -> bytes:
        """String `i` as it stands in the data set."""
        return self._block[self._starts[i] : self._starts[i + 1]].tobytes()

    def __getitem__(self, i: int) -> str:
        return self.encoded(i).decode()


class Sidecar:
    """An opened sidecar: `meta` (plain JSON) and its columns. Picklable: it is opened again."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.meta: dict[str, Any] = json.loads((self.path / META).read_text())
        self._columns: dict[str, np.ndarray] = {}

    def __reduce__(self):
        return Sidecar, (self.path,)

    def __contains__(self, name: str) -> bool:
        return name in self.meta["columns"]

    @property
    def content_hash(self) -> str:
        """sha256 over the source's digests and every column."""
        return self.meta["content_hash"]

    def column(self, name: str) -> np.ndarray:
        """A column, memory-mapped read-only (an empty one is loaded)."""
        if name not in self._columns:
            path = self.path / self.meta["columns"][name]["file"]
            empty = 0 in self.meta["columns"][name]["shape"]
            column = np.load(path, mmap_mode=None if empty else "r")
            self._columns[name] = column.view(np.ndarray)  # np.memmap makes every access slower
        return self._columns[name]

    def strings(self, prefix: str) -> StringTable:
        """The string table that `string_columns(prefix, ...)` laid down."""
        return StringTable(self.column(f"{prefix}.starts"), self.column(f"{prefix}.block"))

    @cached_property
    def bytes(self) -> int:
        """Size of all columns in bytes."""
        files = (entry["file"] for entry in self.meta["columns"].values())
        return sum((self.path / file).stat().st_size for file in files)


def string_columns(prefix: str, strings: Iterable[bytes]) -> dict[str, np.ndarray]:
    """The two columns of a StringTable."""
    strings = list(strings)
    starts = np.zeros(len(strings) + 1, np.int64)
    np.cumsum([len(s) for s in strings], out=starts[1:])
    block = np.frombuffer(b"".join(strings), np.uint8)
    return {f"{prefix}.starts": starts, f"{prefix}.block": block}


def open_fresh(path: Path, source: Mapping[str, Any]) -> Sidecar | None:
    """The sidecar at `path` if it is whole and was built from `source`, else None."""
    try:
        sidecar = Sidecar(path)
    except (OSError, ValueError):
        return None
    fresh = sidecar.meta.get("format") == FORMAT and sidecar.meta.get("source") == source
    return sidecar if fresh else None


def write(
    path: Path,
    source: Mapping[str, Any],
    meta: Mapping[str, Any],
    columns: Iterable[tuple[str, np.ndarray]],
) -> Sidecar:
    """Writes a sidecar beside `path` and renames it into place; an older one is replaced.

    Raises DataError where the directory cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            _fill(fresh, source, meta, columns)
            _swap(fresh, path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{path}: the index cannot be written ({error}). Free some space, or point "
            "XDG_CACHE_HOME at a directory that can be written."
        ) from None
    return Sidecar(path)


def _fill(directory: Path, source, meta, columns) -> None:
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode())
    written = {}
    for number, (name, column) in enumerate(columns):
        column = np.ascontiguousarray(column)
        file = f"{number:03d}.npy"
        np.save(directory / file, column)
        digest.update(f"{name} {column.dtype.str} {column.shape}".encode())
        digest.update(column.reshape(-1).view(np.uint8))
        written[name] = {"file": file, "shape": list(column.shape), "dtype": column.dtype.str}
    whole = {
        "format": FORMAT,
        "content_hash": digest.hexdigest(),
        "source": source,
        **meta,
        "columns": written,
    }
    (directory / META).write_text(json.dumps(whole, indent=1))
    directory.chmod(0o755)


def _swap(fresh: Path, path: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    try:
        if path.exists():
            path.rename(old / path.name)
        fresh.rename(path)
    finally:
        shutil.rmtree(old, ignore_errors=True)
