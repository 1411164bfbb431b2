"""Where things are, as integers in text: the rows that boxes give.

A place is a cell of a grid x grid raster over the picture, x to the right and y down, from 0; with
a grid of 1000 every coordinate is one token of an integer 0..999, as PaLI-X has them. PaLI-X and
Pix2Seq write y before x; here x stands first in every kind, as in the tabletop's own rows.

    where   where is the NAME      x y              of each such thing, an accepted answer each
    what    what is at x y         NAME             other boxes over the place are accepted too
    list    list every object      x y NAME ...     centres, from left to right
    detect  detect every NAME      x0 y0 x1 y1 NAME ...   corners, from left to right
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from rt2 import prompts
from rt2.data.web.options import Options
from rt2.data.web.rows import Row


class Box(NamedTuple):
    """A thing and its edges, as fractions 0..1 of the picture's width (x) and height (y)."""

    name: str
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y)."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2


def cells(fractions: Sequence[float], grid: int) -> str:
    """The cells 0..grid - 1 of fractions 0..1, written with a space between them."""
    return " ".join(str(min(grid - 1, int(fraction * grid))) for fraction in fractions)


def rows(boxes: Sequence[Box], options: Options, dropped: Counter[str]) -> list[Row]:
    """The rows of the kinds options.detection; `dropped` counts those of too many objects."""
    boxes = sorted(boxes, key=lambda box: (*box.centre, box))
    by_name: dict[str, list[Box]] = {}
    for box in boxes:
        by_name.setdefault(box.name, []).append(box)
    made = []
    for kind in options.detection if boxes else ():
        for name in [""] if kind == "list" else by_name:
            subjects = by_name[name] if name else boxes
            if kind in ("list", "detect") and len(subjects) > options.max_objects:
                dropped[f"{kind} rows of more than {options.max_objects} objects"] += 1
            else:
                made.append(_row(kind, subjects, boxes, options))
    return made


def _row(kind: str, subjects: Sequence[Box], boxes: Sequence[Box], options: Options) -> Row:
    """A row about `subjects`, which are all of one name unless the kind is "list"."""
    grid, language, first = options.grid, options.language, subjects[0]
    centres = [cells(box.centre, grid) for box in subjects]
    if kind == "where":
        question, answers = prompts.where_prompt(first.name, language), centres
    elif kind == "what":
        question = prompts.what_prompt(centres[0], language)
        answers = [first.name, *(box.name for box in boxes if _covers(box, first.centre))]
    elif kind == "list":
        question = prompts.list_prompt(language)
        answers = [" ".join(f"{c} {b.name}" for c, b in zip(centres, subjects, strict=True))]
    else:
        question = prompts.detect_prompt(first.name, language)
        answers = [" ".join(f"{cells(box[1:], grid)} {box.name}" for box in subjects)]
    return Row(kind, language, question, tuple(dict.fromkeys(answers)))


def _covers(box: Box, point: tuple[float, float]) -> bool:
    return box.x0 <= point[0] <= box.x1 and box.y0 <= point[1] <= box.y1
