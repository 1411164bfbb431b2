"""Finding the files of a set, and the images that a text names."""

import concurrent.futures
import fnmatch
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from rt2.data import storage
from rt2.data.errors import DataError
from rt2.data.storage import Url
from rt2.data.web.table import Picture, Table

_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
_READERS = 16  # files that are read at a time; more than cores, as the time is the disk's


def find(path: Path | Url, pattern: str, what: str, split: str | None) -> tuple[Path | Url, ...]:
    """The files of a file, directory (those that match `pattern`) or glob, sorted.

    A URL may also end with numbers, as `web-{00000..00009}.tar`, which needs no listing.
    `split` keeps those in whose names it is a word between `-`, `_`, `.` or the ends.
    Raises DataError where there is none.
    """
    found: list[Path | Url]
    if isinstance(path, Url):
        found = _behind(path, pattern)
    elif path.is_dir():
        found = [p for p in sorted(path.glob(pattern)) if p.is_file()]
    else:
        found = [p for p in sorted(path.parent.glob(path.name)) if p.is_file()]
    word = re.compile(rf"(?:^|[-_.]){re.escape(split or '')}(?:[-_.]|$)")
    kept = tuple(p for p in found if split is None or word.search(p.name))
    if not kept:
        none = f"it has {len(found)} {what}s, none named *-{split}-*" if found else "no such files"
        raise DataError(f"{path}: no {what} files ({none}). Check the path and the split.")
    return kept


def _behind(url: Url, pattern: str) -> list[Path | Url]:
    if numbers := _NUMBERS.search(url.name):
        first, last = numbers.groups()
        before, after = url.name[: numbers.start()], url.name[numbers.end() :]
        counted = range(int(first), int(last) + 1)
        return [url.parent / f"{before}{n:0{len(first)}d}{after}" for n in counted]
    is_glob = "*" in url.name
    if not is_glob and fnmatch.fnmatchcase(url.name, pattern):
        return [url]
    folder, pattern = (url.parent, url.name) if is_glob else (url, pattern)
    names = storage.names(folder)
    if names is None:
        raise DataError(
            f"{url}: folders cannot be listed over HTTP. Name one file, or several by their "
            "numbers: web-{00000..00009}.tar"
        )
    return [folder / name for name in names if fnmatch.fnmatchcase(name, pattern)]


def opened(file: Path | Url) -> BinaryIO:
    """The file for reading, buffered and seekable. Raises DataError where it cannot be read."""
    try:
        return file.open("rb") if isinstance(file, Path) else storage.stream(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error})") from None


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

    def __init__(self, table: Table, root: Path | Url):
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
            return storage.read(self.root / path)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{where}: the image {name!r} cannot be read ({error}). Check images=, or leave "
                "the row out."
            ) from None
