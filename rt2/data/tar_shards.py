"""Index of WebDataset tar shards: KEY.jpg|png beside KEY.json with its questions and answers."""

import hashlib
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from rt2.data import image, sidecar
from rt2.data.errors import DataError, nearest
from rt2.data.records import WEB_KINDS

IMAGE_SUFFIXES = ("jpg", "jpeg", "png")
REMEDY = "Copy or write the shard again."


class _Member(NamedTuple):
    key: str
    suffix: str
    offset: int
    data: bytes


def find(path: Path | str, split: str | None) -> list[Path]:
    """The tars of a file, directory or glob, sorted; `split` keeps those named `*-<split>-*`.

    Raises DataError where there is none.
    """
    path = Path(path)
    if path.is_dir():
        tars = sorted(path.glob("*.tar"))
    else:
        tars = sorted(path.parent.glob(path.name))
    kept = [p for p in tars if split is None or f"-{split}-" in p.name]
    if not kept:
        found = f"it has {len(tars)} tars, none named *-{split}-*" if tars else "no such files"
        raise DataError(f"{path}: no tar shards ({found}). Check the path and the split.")
    return kept


def load(tars: list[Path]) -> sidecar.Sidecar:
    """The index of the tars (all of one directory), built where it is missing or stale.

    Columns: `image.shard|offset|length|crc|first_row|key` by image; `row.image|kind|language|
    question` and `row.first_answer` [rows + 1] by question; `answer.id`; the ids count `strings`.
    Raises DataError naming the tar, the member and the remedy where a shard is not whole.
    """
    source = {"shards": {tar.name: tar.stat().st_size for tar in tars}}
    names = hashlib.sha256("\n".join(source["shards"]).encode()).hexdigest()[:12]
    path = sidecar.location(tars[0].parent, f"tar-{names}")
    opened = sidecar.open_fresh(path, source)
    if opened is not None:
        return opened
    size = sum(source["shards"].values()) / 1e6
    note = f"indexing {tars[0].parent}: {len(tars)} tars, {size:.0f} MB"
    print(note, file=sys.stderr, flush=True)
    table = _Table()
    for number, tar in enumerate(tars):
        for key, members in _samples(tar):
            table.add(tar, number, key, members)
    return sidecar.write(path, source, {}, table.columns().items())


class _Table:
    def __init__(self):
        self.images: list[tuple[int, ...]] = []
        self.rows: list[tuple[int, ...]] = []
        self.answers: list[int] = []
        self.ids: dict[bytes, int] = {}

    def add(self, tar: Path, shard: int, key: str, members: dict[str, _Member]) -> None:
        where = f"{tar}: sample {key!r}"
        images = [members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members]
        if len(images) != 1 or "json" not in members:
            raise DataError(
                f"{where}: has {sorted(members)}, expected one of {IMAGE_SUFFIXES} and json. "
                f"{REMEDY}"
            )
        data = images[0].data
        image.read_header(data, where)
        crc = google_crc32c.value(data)
        entry = (shard, images[0].offset, len(data), crc, len(self.rows), self.text(key))
        self.images.append(entry)
        for question in _questions(members["json"].data, where):
            self._add_row(question, where)

    def _add_row(self, question: Any, where: str) -> None:
        try:
            kind, language, text = (question[k] for k in ("kind", "language", "question"))
            answers = question["answers"] if "answers" in question else [question["answer"]]
        except (KeyError, TypeError) as error:
            raise DataError(f"{where}: a row of qa lacks {error}: {question!r:.80}") from None
        if kind not in WEB_KINDS:
            raise DataError(f"{where}: unknown kind {kind!r}: {nearest(kind, WEB_KINDS)}")
        if not answers or not all(isinstance(a, str) for a in [language, text, *answers]):
            raise DataError(f"{where}: no answer, or one that is not text: {question!r:.80}")
        head = (len(self.images) - 1, *map(self.text, (kind, language, text)), len(self.answers))
        self.rows.append(head)
        self.answers.extend(map(self.text, answers))

    def text(self, text: str) -> int:
        return self.ids.setdefault(text.encode(), len(self.ids))

    def columns(self) -> dict[str, np.ndarray]:
        images = np.array(self.images, np.uint64).reshape(-1, 6)
        rows = np.array(self.rows, np.uint32).reshape(-1, 5)
        names = ("shard", "offset", "length", "crc", "first_row", "key")
        dtypes = (np.uint32, np.uint64, np.uint32, np.uint32, np.uint32, np.uint32)
        columns = {
            f"image.{name}": images[:, i].astype(dtype)
            for i, (name, dtype) in enumerate(zip(names, dtypes, strict=True))
        }
        for i, name in enumerate(("image", "kind", "language", "question")):
            columns[f"row.{name}"] = rows[:, i]
        columns["row.first_answer"] = np.append(rows[:, 4], np.uint32(len(self.answers)))
        columns["answer.id"] = np.array(self.answers, np.uint32)
        return columns | sidecar.string_columns("strings", self.ids)


def _questions(data: bytes, where: str) -> list[Any]:
    try:
        questions = json.loads(data)["qa"]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{where}: its json has no list 'qa' ({reason}). {REMEDY}") from None
    if not isinstance(questions, list) or not questions:
        raise DataError(f"{where}: the list 'qa' is empty. Write the shard without the sample.")
    return questions


def _samples(tar: Path) -> Iterator[tuple[str, dict[str, _Member]]]:
    """(key, members by suffix) of every sample; a sample's members stand side by side."""
    done: set[str] = set()
    key, members = None, {}
    for member in _members(tar):
        if member.key != key:
            if key is not None:
                done.add(key)
                yield key, members
            key, members = member.key, {}
        if member.key in done or member.suffix in members:
            raise DataError(f"{tar}: {member.key}.{member.suffix} stands twice. {REMEDY}")
        members[member.suffix] = member
    if key is None:
        raise DataError(f"{tar}: holds no sample. {REMEDY}")
    yield key, members


def _members(path: Path) -> Iterator[_Member]:
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if info.isdir():
                    continue
                if not info.isreg():
                    raise DataError(f"{path}: {info.name!r} is not a regular file. {REMEDY}")
                data = tar.extractfile(info).read()
                if len(data) != info.size:
                    raise DataError(f"{path}: truncated in {info.name!r}. {REMEDY}")
                folder, _, name = info.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                yield _Member(key, suffix.lower(), info.offset_data, data)
            end = tar.offset
    except tarfile.TarError as error:
        raise DataError(f"{path}: not a whole tar ({error}). {REMEDY}") from None
    _check_end(path, end)


def _check_end(path: Path, end: int) -> None:
    """A tar ends with two blocks of zeros; anything else is a cut or a damaged header."""
    with path.open("rb") as file:
        file.seek(end)
        rest = file.read()
    if len(rest) < 512 or rest.strip(b"\0"):  # tarfile may have read past the first zero block
        raise DataError(f"{path}: truncated or damaged after byte {end}. {REMEDY}")
