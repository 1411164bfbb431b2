"""Finding the files of a set, and the images that a text names."""

import concurrent.futures
import os
import re
from collections.abc import Iterable
from pathlib import Path

from rt2.data.errors import DataError
from rt2.data.web.table import Picture, Table

_READERS = 16  # files that are read at a time; more than cores, as the time is the disk's


def find(path: Path | str, pattern: str, what: str, split: str | None) -> tuple[Path, ...]:
    """The files of a file, directory (those that match `pattern`) or glob, sorted.

    `split` keeps those in whose names it is a word between `-`, `_`, `.` or the ends.
    Raises DataError where there is none.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob(pattern))
    else:
        found = sorted(path.parent.glob(path.name))
    word = re.compile(rf"(?:^|[-_.]){re.escape(split or '')}(?:[-_.]|$)")
    kept = tuple(p for p in found if p.is_file() and (split is None or word.search(p.name)))
    if not kept:
        none = f"it has {len(found)} {what}s, none named *-{split}-*" if found else "no such files"
        raise DataError(f"{path}: no {what} files ({none}). Check the path and the split.")
    return kept


def image_folder(given: str, home: Path, subset: str, first: str) -> Path:
    """The folder of loose images: `given`, or the usual place that holds the image `first`.

    The usual places of a subset such as "train2014" are the folder of that name beside the
    annotations or one level up, also within "images", and the annotations' own folder.
    """
    if given:
        if not Path(given).is_dir():
            raise DataError(f"images={given!r}: no such folder")
        return Path(given)
    near = [home, home.parent]
    places = [folder / inner for folder in near for inner in (subset, f"images/{subset}", "images")]
    places.append(home)
    for place in places:
        if (place / first).is_file():
            return place
    tried = ", ".join(map(str, dict.fromkeys(places)))
    raise DataError(f"{home}: the image {first!r} is in none of {tried}. Set images=FOLDER.")


class LooseImages:
    """Adds image files below `root` to a table, each once; files are read ahead in `read`.

    In quarantine, a damaged file is an error of the samples that show it.
    """

    def __init__(self, table: Table, root: Path):
        self.table, self.root = table, root
        self._pictures: dict[str, Picture | DataError] = {}

    def read(self, names: Iterable[tuple[str, str]]) -> None:
        """Adds every (name, where) in order. Raises DataError where one cannot be read."""
        new = {name: where for name, where in names if name not in self._pictures}
        with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
            pending: list[tuple[str, str, concurrent.futures.Future]] = []
            for name, where in new.items():
                pending.append((name, where, pool.submit(self._bytes, name, where)))
                if len(pending) > 4 * _READERS:
                    self._take(*pending.pop(0))
            for entry in pending:
                self._take(*entry)

    def picture(self, name: str, where: str) -> Picture:
        """An image that has been added, or is now if it has not."""
        if name not in self._pictures:
            self.read([(name, where)])
        found = self._pictures[name]
        if isinstance(found, DataError):
            raise found
        return found

    def _take(self, name: str, where: str, data: concurrent.futures.Future) -> None:
        try:
            self._pictures[name] = self.table.image(name, 0, data.result(), f"{where}: {name}")
        except DataError as error:
            if not self.table.quarantine:
                raise
            self._pictures[name] = error

    def _bytes(self, name: str, where: str) -> bytes:
        path = os.path.normpath(name)
        if os.path.isabs(path) or path.split(os.sep)[0] == "..":
            raise DataError(
                f"{where}: the image {name!r} lies outside {self.root}. Name it relative to images="
            )
        try:
            return (self.root / path).read_bytes()
        except (OSError, ValueError) as error:
            raise DataError(
                f"{where}: the image {name!r} cannot be read ({error}). Check images=, or leave "
                "the row out."
            ) from None
