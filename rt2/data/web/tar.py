"""WebDataset tar shards: KEY.jpg|jpeg|png|webp beside KEY.json, KEY.txt or KEY.cls.

The members of a sample stand side by side; a key ends at the first dot of the name. What is asked:

* json: any form of `rt2.data.web.rows` (with "caption" and "url", as img2dataset writes it, too);
* else txt: its text is the caption; where a json has a caption as well, the two must be equal;
* else cls: the name of the thing that the picture shows; a number is looked up in the lines of
  `classnames.txt` beside the tars, from 0.

Further members are left alone. A sample without an image is a row of text.
"""

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rt2 import prompts
from rt2.data import storage
from rt2.data.errors import DataError
from rt2.data.storage import Url
from rt2.data.web import rows, strict_json
from rt2.data.web.files import opened
from rt2.data.web.rows import Row
from rt2.data.web.table import Table

PATTERN = "*.tar"
CLASS_NAMES = "classnames.txt"
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
TEXT_SUFFIXES = ("json", "txt", "cls")
REMEDY = "Copy or write the shard again."


class _Member(NamedTuple):
    key: str
    suffix: str
    offset: int
    data: bytes


def fill(table: Table, tars: tuple[Path | Url, ...]) -> None:
    """Adds every sample of the tars, which lie in one directory.

    Raises DataError naming the tar, the member and the remedy where a shard is not whole.
    """
    names = _ClassNames(tars[0].parent / CLASS_NAMES)
    for tar in tars:
        for key, members in _samples(tar):
            with table.one_sample():
                _add(table, tar, key, members, names)


class _ClassNames:
    """The lines of classnames.txt, read when the first class number is met."""

    def __init__(self, path: Path | Url):
        self.path = path
        self._lines: list[str] | None = None

    def name(self, given: str, where: str) -> str:
        """`given`, or the name of the class of that number."""
        if not given.isdecimal():
            return given
        if self._lines is None:
            try:
                self._lines = storage.read(self.path).decode().splitlines()
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{where}: the class {given} has no name: {self.path} cannot be read ({error})."
                    " Put the names there, a line a class."
                ) from None
        if int(given) >= len(self._lines):
            raise DataError(f"{where}: class {given}, {self.path} has {len(self._lines)} lines")
        return self._lines[int(given)]


def _add(table: Table, tar: Path | Url, key: str, members: dict[str, _Member], names) -> None:
    where = f"{tar}: sample {key!r}"
    images = [members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members]
    texts = [suffix for suffix in TEXT_SUFFIXES if suffix in members]
    lone = not images and table.options.text_only == "refuse"
    if len(images) > 1 or not texts or lone:
        raise DataError(
            f"{where}: has {sorted(members)}, expected one of {IMAGE_SUFFIXES} and one of "
            f"{TEXT_SUFFIXES}. {REMEDY}"
        )
    picture = None
    if images:
        picture = table.image(tar.name, images[0].offset, images[0].data, where)
    found = list(_rows(table, members, bool(images), names, where))
    table.sample(tar.stem, key, picture, found, where)


def _rows(table: Table, members: Mapping[str, _Member], has_image: bool, names, where: str):
    options = table.options
    said = _decoded(members["txt"], where) if "txt" in members else None
    if "json" in members:
        record = strict_json.loads(members["json"].data, f"{where}: its json")
        if said is None or (isinstance(record, Mapping) and rows.FORMS & set(record)):
            found = rows.from_record(record, options, where, has_image)
            if said is not None and not any(said in row.answers for row in found):
                raise DataError(f"{where}: its txt and its json say different things. {REMEDY}")
            return found
    if said is not None:
        if has_image:
            return [rows.caption((said,), options.language)]
        return [Row("text", options.language, "", (said,))]
    name = names.name(_decoded(members["cls"], where), where)
    prompt = prompts.vqa_prompt("what is this", options.language)
    return [Row("name", options.language, prompt, (name,))]


def _decoded(member: _Member, where: str) -> str:
    try:
        return member.data.decode().strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: its {member.suffix} is no UTF-8 ({error})") from None


def _samples(tar: Path | Url) -> Iterator[tuple[str, dict[str, _Member]]]:
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


def _members(path: Path | Url) -> Iterator[_Member]:
    try:
        with opened(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
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
            _check_end(path, file, tar.offset)
    except tarfile.TarError as error:
        raise DataError(f"{path}: not a whole tar ({error}). {REMEDY}") from None


def _check_end(path: Path | Url, file: BinaryIO, end: int) -> None:
    """A tar ends with two blocks of zeros; anything else is a cut or a damaged header."""
    file.seek(end)
    rest = file.read()
    if len(rest) < 512 or rest.strip(b"\0"):  # tarfile may have read past the first zero block
        raise DataError(f"{path}: truncated or damaged after byte {end}. {REMEDY}")
