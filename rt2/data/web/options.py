"""How an image-text set is read, where the files alone do not say."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rt2.data.errors import DataError, nearest

TEXT_ONLY = ("refuse", "keep", "drop")
DETECTION_KINDS = ("where", "what", "list", "detect")


@dataclasses.dataclass(frozen=True)
class Options:
    """The choices of a source; every one is part of its content hash.

    `format`: a name of `rt2.data.vqa.FORMATS`; "" decides by what stands at the path.
    `images`: the folder of loose images; "" is the usual place beside the annotations.
    `language`: of rows that name none, as "en". `text_only`: rows without an image are an error
    ("refuse"), come out with `image=None` ("keep") or are left out and counted ("drop").
    `grid`: a place is a cell of a grid x grid raster, `detection`: the kinds of row that boxes
    give, `max_objects`: the largest number of objects that one such row may name.
    """

    format: str = ""
    images: str = ""
    language: str = "en"
    text_only: str = "refuse"
    grid: int = 1000
    detection: tuple[str, ...] = DETECTION_KINDS
    max_objects: int = 8

    def __post_init__(self):
        if self.text_only not in TEXT_ONLY:
            raise DataError(f"text_only={self.text_only!r}: {nearest(self.text_only, TEXT_ONLY)}")
        for kind in self.detection:
            if kind not in DETECTION_KINDS:
                raise DataError(f"detection: {kind!r}: {nearest(kind, DETECTION_KINDS)}")
        if not 2 <= self.grid <= 1000:
            raise DataError(f"grid={self.grid}: 2..1000, as the tokenizer has the integers 0..999")
        if self.max_objects < 1:
            raise DataError(f"max_objects={self.max_objects}: at least 1")


def from_row(row: Mapping[str, Any]) -> Options:
    """The options among the fields of a source's row; one that the row lacks has its default.

    The rows that older checkpoints keep lack some.
    """
    names = [field.name for field in dataclasses.fields(Options)]
    given = {name: row[name] for name in names if name in row}
    if "detection" in given:
        given["detection"] = tuple(given["detection"])
    return Options(**given)
