"""jsonl (an object a line) and JSON lists of objects, beside a folder of images.

Each object has `"image": NAME`, relative to the folder of images, and one of the forms of
`rt2.data.web.rows`: big_vision's image, prefix and suffix; LLaVA's image and conversations. An
object without "image" is a row of text. Lines end at a line feed alone; blank lines are no rows.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rt2.data.errors import DataError
from rt2.data.storage import Url
from rt2.data.web import rows, strict_json
from rt2.data.web.files import LooseImages, opened
from rt2.data.web.table import Table

PATTERN = "*.jsonl"
CHUNK = 4096  # objects whose images are read ahead


def fill(table: Table, files: tuple[Path | Url, ...], root: Path | Url) -> None:
    """Adds every object of the files; images lie below `root`. Raises DataError at a fault."""
    images = LooseImages(table, root)
    for file in files:
        objects = _objects(table, file)
        while chunk := list(itertools.islice(objects, CHUNK)):
            images.read((each.image, each.where) for each in chunk if each.image is not None)
            for each in chunk:
                with table.one_sample():
                    _add(table, file, each, images)


class _Object(NamedTuple):
    key: str
    record: Any
    image: str | None
    where: str


def _add(table: Table, file: Path | Url, found: _Object, images: LooseImages) -> None:
    has_image = found.image is not None
    about = rows.from_record(found.record, table.options, found.where, has_image)
    picture = images.picture(found.image, found.where) if has_image else None
    table.sample(file.stem, found.key, picture, about, found.where)


def _objects(table: Table, file: Path | Url) -> Iterator[_Object]:
    for key, given, where in _parts(file):
        with table.one_sample():
            record = strict_json.loads(given, where) if isinstance(given, bytes) else given
            yield _Object(key, record, _image(record, where), where)


def _parts(file: Path | Url) -> Iterator[tuple[str, Any, str]]:
    """(line number from 1, the line) or (place in the list from 0, object), and where it stands."""
    if file.suffix == ".json":
        listed = strict_json.load(file)
        if not isinstance(listed, list):
            raise DataError(f"{file}: holds no list of objects")
        for number, record in enumerate(listed):
            yield str(number), record, f"{file}: object {number}"
        return
    with opened(file) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield str(number), line, f"{file}: line {number}"


def _image(record: Any, where: str) -> str | None:
    if not isinstance(record, dict) or "image" not in record:
        return None
    name = record["image"]
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: 'image' is {name!r:.80}; rows of one named image can be read")
    return name
