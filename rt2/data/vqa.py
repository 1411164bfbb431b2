"""Image-text examples by number, whatever files hold them."""

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rt2.data import storage
from rt2.data.errors import DataError, nearest
from rt2.data.records import WebExample
from rt2.data.shard_files import ShardFiles
from rt2.data.storage import Url
from rt2.data.web import array_records, coco, files, index, jsonl, tar
from rt2.data.web.index import Plan
from rt2.data.web.options import Options
from rt2.data.web.table import Rows, Table
from rt2.data.web.tfds import TfdsRows

FORMATS = {
    "tfds": "a TFDS `vqa` version folder (features.json), with a split",
    "tar": "WebDataset tars (*.tar)",
    "jsonl": "jsonl with image and prefix, suffix or conversations (*.jsonl)",
    "llava": "a JSON list of objects with image and conversations (*.json)",
    "vqa": "VQAv2 or OKVQA questions (*_questions.json) beside their annotations",
    "captions": "COCO captions (a *.json with images and annotations of captions)",
    "boxes": "COCO instances (a *.json with images, annotations of boxes and categories)",
    "array_record": "ArrayRecord files of tf.train.Example (*.array_record*)",
}
_PACKED = {
    "tar": (tar.PATTERN, "tar"),
    "jsonl": (jsonl.PATTERN, "jsonl"),
    "array_record": (array_records.PATTERN, "ArrayRecord"),
}
_ENDING = re.compile(r"\.(tar|jsonl|json)$|\.(array_record)")


class WebExamples:
    """`examples[i]` is a WebExample. Immutable, picklable, safe under threads and forks.

    `path`: what FORMATS lists; tars, jsonl and ArrayRecord files may be a file, a directory or a
    glob, and `split` keeps the files in whose names it is a word, as `web-train-00001.tar`. TFDS
    sets, tars, jsonl and LLaVA's JSON may lie behind a URL (`gs://`, `s3://`, `http(s)://`).
    The format is that which stands there, or options.format where several do. The index is built
    on first use (`rt2.data.web.index`). `quarantine`: the largest share of samples (of a TFDS set:
    records) known to be damaged that may be left out, counted and named in `quarantined`. Raises
    DataError where the data are not whole.
    """

    def __init__(
        self,
        path: Path | str,
        split: str | None = None,
        options: Options | None = None,
        quarantine: float = 0.0,
    ):
        self._arguments = (path, split, options, quarantine)
        options = options or Options()
        found = _find(storage.at(path), split, options)
        if found.format != "tfds":
            self._rows: Rows | TfdsRows = _open(found, options, quarantine)
        elif split is None:
            raise DataError(f"{path}: a TFDS data set needs a split")
        else:
            self._rows = TfdsRows(found.root, split, options.language, quarantine)

    def __reduce__(self):
        return WebExamples, self._arguments

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> WebExample:
        if not 0 <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        return self._rows.example(i)

    def text(self, i: int) -> tuple[str, tuple[str, ...]]:
        """(question, answers) of example `i`; its image is not read."""
        return self._rows.text(i)

    @property
    def content_hash(self) -> str:
        """The hash of the index that the examples are read through."""
        return self._rows.content_hash

    @property
    def dropped(self) -> dict[str, int]:
        """What the options left out, by reason."""
        return self._rows.dropped

    @property
    def quarantined(self) -> list[str]:
        """The damaged samples that were left out: file, place and reason of each."""
        return self._rows.quarantined


class _Found(NamedTuple):
    """What stands at a path: a format, its packed files and the folder of its images."""

    format: str
    files: tuple[Path | Url, ...]
    root: Path | Url


def _find(path: Path | Url, split: str | None, options: Options) -> _Found:
    kind = options.format or _by_name(path)
    if kind not in FORMATS and kind != "json":
        raise DataError(f"format={kind!r}: {nearest(kind, FORMATS)}")
    if kind == "tfds":
        return _Found(kind, (), path)
    if isinstance(path, Url) and kind not in ("tar", "jsonl", "llava", "json"):
        raise DataError(f"{path}: {FORMATS[kind]} are read from a disk alone. Copy them there.")
    if kind in _PACKED:
        found = files.find(path, *_PACKED[kind], split)
        loose = kind == "jsonl" and options.images
        return _Found(kind, found, storage.at(options.images) if loose else found[0].parent)
    (file, *more) = files.find(path, "*.json", "JSON", split)
    if more:
        raise DataError(f"{path}: {1 + len(more)} JSON files; name one")
    if kind == "llava" or kind == "json" and _is_list(file):
        return _Found("llava", (file,), storage.at(options.images or file.parent))
    if isinstance(file, Url):
        raise DataError(
            f"{file}: COCO's and VQA's JSON are read from a disk alone. Copy them there."
        )
    described, first = coco.describe(file)
    if options.format not in ("", described):
        raise DataError(f"{file}: is in the form of {described}, not of {options.format}")
    root = files.image_folder(options.images, file.parent, coco.subset(file), first)
    answers = [coco.annotations_file(file)] if described == "vqa" else []
    return _Found(described, (file, *answers), root)


def _by_name(path: Path | Url) -> str:
    """The only kind of readable file that stands at `path`."""
    alone = _endings([path.name])
    is_file = bool(alone) and (isinstance(path, Url) or not path.is_dir())
    if not is_file and storage.exists(path / "features.json"):
        return "tfds"
    found = alone if is_file else _endings(_names(path))
    if len(found) == 1 and (found[0] != "json" or is_file):
        return found[0]
    said = f"holds files of {', '.join(found)}; name a file or a glob" if found else "is none"
    if not found and isinstance(path, Path) and not path.exists():
        said = "is not there; a name that ends differently is none"
    readable = "\n".join(f"  {name:13} {what}" for name, what in FORMATS.items())
    raise DataError(f"{path}: {said} of what can be read:\n{readable}")


def _endings(names: Iterable[str]) -> list[str]:
    ends = filter(None, map(_ENDING.search, names))
    return sorted({end[1] or end[2] for end in ends})


def _names(path: Path | Url) -> list[str]:
    """The names in a folder; none where it is no folder or cannot be listed."""
    if isinstance(path, Path) and not path.is_dir():
        return []
    return storage.names(path) or []


def _is_list(file: Path | Url) -> bool:
    with files.opened(file) as opened:
        return opened.read(64).lstrip().startswith(b"[")


def _open(found: _Found, options: Options, quarantine: float) -> Rows:
    plan = Plan(*found, options, functools.partial(_FILL[found.format], found), quarantine)
    opened = index.load(plan)
    names = opened.strings("files")
    if found.format == "array_record":
        return Rows(opened, array_records.ArrayRecordImages(found.root, names))
    return Rows(opened, ShardFiles(found.root, names))


_FILL: dict[str, Callable[[_Found, Table], None]] = {
    "tar": lambda found, table: tar.fill(table, found.files),
    "array_record": lambda found, table: array_records.fill(table, found.files),
    "jsonl": lambda found, table: jsonl.fill(table, found.files, found.root),
    "llava": lambda found, table: jsonl.fill(table, found.files, found.root),
    "vqa": lambda found, table: coco.fill_questions(table, found.files, found.root),
    "captions": lambda found, table: coco.fill_captions(table, found.files, found.root),
    "boxes": lambda found, table: coco.fill_boxes(table, found.files, found.root),
}
