"""The sidecar of an image-text set: when it is built, when it is trusted, when it is refused.

At index time every byte of a packed file (tar, jsonl, JSON, ArrayRecord) goes into a SHA-256, and
every image into a CRC32C. From then on the index stands for those bytes:

* Texts, offsets and CRCs are read from the sidecar, whose columns are checked against a CRC32C each
  time it is opened. Images are checked against theirs each time they are read.
* A packed file whose size and modification time are those of the index is taken as unchanged; a
  change that keeps both can reach a batch only through an image, where the CRC stops it.
* If either differs, the file is digested again: the same bytes are accepted, others refused. The
  index is not built anew in silence, since damage would then become data.
* Loose image files are not looked at when the index is opened, only when they are read.
* Behind a URL, what the server calls the version of a file (its ETag) stands for the modification
  time; where it names none, the size alone does. The index lies in the cache of this machine.

Before the first index, damage to a format that has no checksums (tar bodies, jsonl, JSON) can be
known only where it breaks the syntax or an image. What is known to be damaged stops the reading, or
by choice (`Plan.quarantine`) is left out sample by sample, counted and listed; a file that is not
whole is refused all the same.
"""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from rt2.data import sidecar, storage
from rt2.data.errors import DataError
from rt2.data.storage import Url
from rt2.data.web import files
from rt2.data.web.options import Options
from rt2.data.web.table import Table

FORMAT = 1  # raised when the meaning of the columns or of a format changes
_STAMPS = "stamps.json"
_STEP = 1 << 26  # bytes of a column in memory at a time


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be indexed: packed `files`, `root` of the image files, and how to read them.

    `fill(table)` reads the files into a Table. The sidecar lies beside the first file.
    `quarantine`: the largest share of damaged samples that may be left out.
    """

    format: str
    files: tuple[Path | Url, ...]
    root: Path | Url
    options: Options
    fill: Callable[[Table], None]
    quarantine: float = 0.0

    @property
    def home(self) -> Path | Url:
        """The directory of the first file."""
        return self.files[0].parent

    def name(self, file: Path | Url) -> str:
        """How the index calls `file`: its place as seen from `home`."""
        if isinstance(file, Path) and isinstance(self.home, Path):
            return os.path.relpath(file, self.home)
        return "." if file == self.home else str(file).removeprefix(f"{self.home}/")

    @property
    def identity(self) -> dict[str, Any]:
        """What distinguishes one index of a directory from another."""
        options = dataclasses.asdict(self.options) | {"images": self.name(self.root)}
        files = [self.name(file) for file in self.files]
        return {"web": FORMAT, "format": self.format, "files": files, "options": options}


def load(plan: Plan) -> sidecar.Sidecar:
    """The index of the plan, built where there is none or it left out more than the plan allows.

    Raises DataError where a file is not whole, or has changed since it was indexed.
    """
    described = json.dumps(plan.identity, sort_keys=True, default=list)
    number = hashlib.sha256(described.encode()).hexdigest()[:12]
    path = sidecar.location(plan.home, f"{plan.format}-{number}")
    opened = _open(path)
    if opened is None:
        return _build(plan, path)
    _check_files(plan, opened)
    _check_columns(opened)
    left_out, samples = opened.meta["quarantined"], len(opened.column("sample.image"))
    if len(left_out) > plan.quarantine * (len(left_out) + samples):
        return _build(plan, path)  # what was left out may be mended: only a new reading can tell
    return opened


def _open(path: Path) -> sidecar.Sidecar | None:
    if not path.exists():
        return None
    try:
        opened = sidecar.Sidecar(path)
        if opened.meta["format"] != sidecar.FORMAT:
            return None
        opened.meta["source"]["files"], opened.meta["crc"], opened.meta["dropped"]
        opened.meta["quarantined"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _damaged(path) from None
    return opened


def _build(plan: Plan, path: Path) -> sidecar.Sidecar:
    stamps = _stamps(plan)
    size = sum(size for size, _ in stamps.values()) / 1e6
    note = f"indexing {plan.files[0]}: {len(plan.files)} {plan.format} files, {size:.0f} MB"
    print(note, file=sys.stderr, flush=True)
    digests = {plan.name(f): [stamps[plan.name(f)][0], _digest(f)] for f in plan.files}
    table = Table(plan.options, quarantine=plan.quarantine > 0)
    plan.fill(table)
    try:
        _check_budget(table, plan.quarantine)
        columns = table.columns()
    except DataError as error:
        raise DataError(f"{plan.files[0]}: {error}") from None
    for file, found in _stamps(plan).items():
        if found != stamps[file]:
            raise DataError(f"{plan.home}: {file} changed while it was indexed. Start again.")
    for reason, count in table.dropped.items():
        print(f"{plan.files[0]}: left out: {count} {reason}", file=sys.stderr, flush=True)
    source = plan.identity | {"files": digests}
    crcs = {name: _crc(column) for name, column in columns.items()}
    meta = {"crc": crcs, "dropped": dict(table.dropped), "quarantined": table.left_out}
    written = sidecar.write(path, source, meta, columns.items())
    _write_stamps(path, stamps)
    return written


def _check_budget(table: Table, share: float) -> None:
    """Raises DataError, naming the first ones, where more samples are damaged than may be."""
    gone = len(table.left_out)
    whole = gone + table.samples
    if gone > share * whole:
        first = "; ".join(table.left_out[:3])
        raise DataError(
            f"{gone} of {whole} samples are damaged, the quarantine allows a share of {share:g}. "
            f"Copy the files again, or raise the quarantine knowingly. First: {first}"
        )


def _check_files(plan: Plan, opened: sidecar.Sidecar) -> None:
    stamps = _stamps(plan)
    known = _read_stamps(opened.path)
    for file in plan.files:
        name = plan.name(file)
        if name in known and known[name] == stamps[name]:
            continue
        if [stamps[name][0], _digest(file)] != opened.meta["source"]["files"][name]:
            raise DataError(
                f"{file}: changed since its index was built. If that is meant, delete "
                f"{opened.path}; else copy the file again."
            )
    if known != stamps:
        _write_stamps(opened.path, stamps)


def _check_columns(opened: sidecar.Sidecar) -> None:
    for name, crc in opened.meta["crc"].items():
        try:
            column = opened.column(name)
            declared = opened.meta["columns"][name]
            same = [list(column.shape), column.dtype.str] == [declared["shape"], declared["dtype"]]
        except (OSError, ValueError, KeyError, SyntaxError):  # SyntaxError: numpy's header reader
            same = False
        if not same or _crc(column) != crc:
            raise _damaged(opened.path)


def _damaged(path: Path) -> DataError:
    return DataError(f"{path}: the index is damaged. Delete it; it is built again from the data.")


def _crc(column: np.ndarray) -> int:
    data = np.ascontiguousarray(column).reshape(-1).view(np.uint8)
    crc = 0
    for start in range(0, len(data), _STEP):
        crc = google_crc32c.extend(crc, data[start : start + _STEP].tobytes())
    return crc


def _stamps(plan: Plan) -> dict[str, list[int | str]]:
    """Size and version of every packed file."""
    found = storage.stamps(plan.files)
    if missing := [file for file, stamp in zip(plan.files, found, strict=True) if stamp is None]:
        raise DataError(f"{missing[0]}: is not there ({len(missing)} of {len(found)} files)")
    return {plan.name(f): list(s) for f, s in zip(plan.files, found, strict=True) if s is not None}


def _digest(file: Path | Url) -> str:
    with files.opened(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_stamps(path: Path) -> dict[str, list[int | str]]:
    """The stamps of the last check; none where they are missing: the files are digested then."""
    try:
        stamps = json.loads((path / _STAMPS).read_text())
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _write_stamps(path: Path, stamps: dict[str, list[int | str]]) -> None:
    """Keeps the stamps where the index can be written; elsewhere every start digests again."""
    fresh = path / f".{_STAMPS}.{os.getpid()}"
    try:
        fresh.write_text(json.dumps(stamps))
        fresh.replace(path / _STAMPS)
    except OSError:
        fresh.unlink(missing_ok=True)
