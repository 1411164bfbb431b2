"""jsonl (an object a line) and JSON lists of objects, beside a folder of images.

Each object has `"image": NAME`, relative to the folder of images, and one of the forms of
`rt2.data.web.rows`: big_vision's image, prefix and suffix; LLaVA's image and conversations. An
object without "image" is a row of text. Lines end at a line feed alone; blank lines are no rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rt2.data.errors import DataError
from rt2.data.web import rows, strict_json
from rt2.data.web.files import LooseImages
from rt2.data.web.table import Table

PATTERN = "*.jsonl"


def fill(table: Table, files: tuple[Path, ...], root: Path) -> None:
    """Adds every object of the files; images lie below `root`. Raises DataError at a fault."""
    images = LooseImages(table, root)
    for file in files:
        named = [
            (key, name, where)
            for key, record, where in records(file)
            if (name := _image(record, where)) is not None
        ]
        images.read((name, where) for _, name, where in named)
        for key, record, where in records(file):
            name = _image(record, where)
            found = rows.from_record(record, table.options, where, name is not None)
            picture = None if name is None else images.picture(name, where)
            table.sample(file.stem, key, picture, found, where)


def records(file: Path) -> Iterator[tuple[str, Any, str]]:
    """(line number from 1 or place in the list from 0, object, where it stands)."""
    if file.suffix == ".json":
        listed = strict_json.load(file)
        if not isinstance(listed, list):
            raise DataError(f"{file}: holds no list of objects")
        for number, record in enumerate(listed):
            yield str(number), record, f"{file}: object {number}"
        return
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"{file}: line {number}"
                    yield str(number), strict_json.loads(line, where), where
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error})") from None


def _image(record: Any, where: str) -> str | None:
    if not isinstance(record, dict) or "image" not in record:
        return None
    name = record["image"]
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: 'image' is {name!r:.80}; rows of one named image can be read")
    return name
