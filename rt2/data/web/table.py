"""The columns of an image-text index while it is built, and its rows when it is read.

`files` are names below the root; an image is a byte range of a file or, in ArrayRecord files, the
field of a record. Columns: `image.file|offset|length|crc` by stored image; `sample.image|source|
key` and `sample.first_row` [samples + 1]; `row.kind|language|question` and `row.first_answer`
[rows + 1]; `answer.id`. Ids count `strings`. A sample is what one key holds: an image (or none) and
its rows.
"""

import contextlib
import functools
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import google_crc32c
import numpy as np

from rt2.data import image, sidecar
from rt2.data.errors import DataError
from rt2.data.records import WebExample
from rt2.data.web.options import Options
from rt2.data.web.rows import Row

NO_IMAGE = 2**32 - 1
_COLUMNS = {
    "image": {"file": "I", "offset": "Q", "length": "I", "crc": "I"},
    "sample": {"image": "I", "source": "I", "key": "I", "first_row": "I"},
    "row": {"kind": "I", "language": "I", "question": "I", "first_answer": "I"},
    "answer": {"id": "I"},
}
_DTYPES = {"I": np.uint32, "Q": np.uint64}


class Picture(NamedTuple):
    """An image of the table: its number and its size in pixels."""

    number: int
    height: int
    width: int


class Table:
    """Columns that grow by `image` and `sample`; every fault is raised where it is added.

    `quarantine`: a fault within `one_sample` leaves that sample out and its message in `left_out`.
    """

    def __init__(self, options: Options, quarantine: bool = False):
        self.options, self.quarantine = options, quarantine
        self.dropped: Counter[str] = Counter()
        self.left_out: list[str] = []
        self.files: dict[bytes, int] = {}
        self._strings: dict[bytes, int] = {}
        self._columns = {
            f"{group}.{name}": array(code)
            for group, names in _COLUMNS.items()
            for name, code in names.items()
        }

    @contextlib.contextmanager
    def one_sample(self) -> Iterator[None]:
        """What is about one sample alone: its fault says nothing of the next one."""
        try:
            yield
        except DataError as error:
            if not self.quarantine:
                raise
            self.left_out.append(str(error))

    def image(self, file: str, offset: int, data: bytes, where: str) -> Picture:
        """Adds the image `data` of `file`, its header checked."""
        header = image.read_header(data, where)
        if header.channels not in (1, 3) or header.bits != 8:
            raise image.ImageError(
                f"{where}: a {header.format} of {header.channels} channels of {header.bits} bits "
                "cannot be read as RGB without loss. Convert it to 8-bit RGB."
            )
        number = self.files.setdefault(file.encode(), len(self.files))
        entry = self._add("image", number, offset, len(data), google_crc32c.value(data))
        return Picture(entry, header.height, header.width)

    def sample(
        self, source: str, key: str, picture: Picture | None, rows: Sequence[Row], where: str
    ) -> None:
        """Adds the rows about `picture`, all or none; None is a sample without an image."""
        if picture is None:
            if self.options.text_only == "refuse":
                raise DataError(
                    f"{where}: has no image. Set text_only to drop, or to keep for a model that "
                    "takes rows without one."
                )
            if self.options.text_only == "drop":
                self.dropped["rows without an image"] += len(rows)
                return
        first_row = len(self._columns["row.kind"])
        names = self._string(source, where), self._string(key, where)
        checked = [self._checked(row, where) for row in rows]
        self._add("sample", NO_IMAGE if picture is None else picture.number, *names, first_row)
        for texts, answers in checked:
            self._add("row", *texts, len(self._columns["answer.id"]))
            for answer in answers:
                self._add("answer", answer)

    def _checked(self, row: Row, where: str) -> tuple[list[int], list[int]]:
        """(the numbers of kind, language and question; those of the answers)."""
        if not row.question.strip() and row.kind != "text":
            raise DataError(f"{where}: a question is empty")
        answers = [answer for answer in row.answers if answer.strip()]
        if not answers:
            raise DataError(f"{where}: no answer but the empty one to {row.question!r:.80}")
        if empty := len(row.answers) - len(answers):
            self.dropped["empty answers beside others"] += empty
        texts = [self._string(t, where) for t in (row.kind, row.language, row.question)]
        return texts, [self._string(answer, where) for answer in answers]

    def _add(self, group: str, *values: int) -> int:
        columns = [self._columns[f"{group}.{name}"] for name in _COLUMNS[group]]
        for column, value in zip(columns, values, strict=True):
            column.append(value)
        return len(columns[0]) - 1

    def _string(self, text: str, where: str) -> int:
        try:
            return self._strings.setdefault(text.encode(), len(self._strings))
        except UnicodeEncodeError:
            raise DataError(f"{where}: {text!r:.80} holds half of a surrogate pair") from None

    @property
    def samples(self) -> int:
        """How many samples have been added."""
        return len(self._columns["sample.image"])

    def columns(self) -> dict[str, np.ndarray]:
        """All columns. Raises DataError where there is no row."""
        rows, answers = len(self._columns["row.kind"]), len(self._columns["answer.id"])
        if not rows:
            raise DataError(f"no row is left; left out: {dict(self.dropped)}")
        self._columns["sample.first_row"].append(rows)
        self._columns["row.first_answer"].append(answers)
        columns = {
            name: np.frombuffer(column, _DTYPES[column.typecode])
            if column
            else np.zeros(0, _DTYPES[column.typecode])
            for name, column in self._columns.items()
        }
        return (
            columns
            | sidecar.string_columns("strings", self._strings)
            | sidecar.string_columns("files", self.files)
        )


class Store(Protocol):
    """Where the images are."""

    def read(self, file: int, offset: int, length: int, crc: int, where: str) -> bytes: ...


class Rows:
    """The rows of an index: `text(i)` and `example(i)`."""

    def __init__(self, index: sidecar.Sidecar, store: Store):
        self.index, self.store = index, store

    def __len__(self) -> int:
        return len(self.index.column("row.kind"))

    @property
    def content_hash(self) -> str:
        """The hash of the source's digests, the options and every column."""
        return self.index.content_hash

    @property
    def dropped(self) -> dict[str, int]:
        """What was left out, by reason."""
        return self.index.meta["dropped"]

    @property
    def quarantined(self) -> list[str]:
        """The damaged samples that were left out: file, place and reason of each."""
        return self.index.meta["quarantined"]

    @functools.cached_property
    def _strings(self) -> sidecar.StringTable:
        return self.index.strings("strings")

    def _string(self, name: str, i: int) -> str:
        return self._strings[self.index.column(name)[i]]

    def text(self, i: int) -> tuple[str, tuple[str, ...]]:
        """(question, answers) of row `i`."""
        first, last = self.index.column("row.first_answer")[i : i + 2]
        ids = self.index.column("answer.id")[first:last]
        return self._string("row.question", i), tuple(self._strings[a] for a in ids)

    def example(self, i: int) -> WebExample:
        """Row `i` with its image, checked against its CRC32C and decoded."""
        first_row = self.index.column("sample.first_row")
        sample = int(np.searchsorted(first_row, i, side="right")) - 1
        source, key = (self._string(f"sample.{name}", sample) for name in ("source", "key"))
        where = f"{source}/{key}/{i - first_row[sample]}"
        question, answers = self.text(i)
        return WebExample(
            image=self._image(sample, where),
            kind=self._string("row.kind", i),
            language=self._string("row.language", i),
            question=question,
            answers=answers,
            example_id=where,
        )

    def _image(self, sample: int, where: str) -> np.ndarray | None:
        picture = self.index.column("sample.image")[sample]
        if picture == NO_IMAGE:
            return None
        place = (self.index.column(f"image.{name}")[picture] for name in _COLUMNS["image"])
        return image.decode(self.store.read(*map(int, place), where), where)
