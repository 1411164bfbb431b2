"""The questions about a web picture and their answers, in the formats of rt2.prompts.

Places are cells of a LOCATION_GRID x LOCATION_GRID raster over the picture, written "x y": x to the
right, y down, from 0. Object names are in the row's language; the words around them stay English.

What rt2.sim.descriptions says of a thing stands in rows of their own, in English:

    find      where is the animal                    12 30, where it fits one thing of several
    kind      what kind of thing is the strawberry   fruit
    colour    what colour is the strawberry          red
    reason    name the thing that cuts paper         scissors

No row asks for the place of what `reasoning` describes: that takes two steps, each of them known.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rt2 import prompts
from rt2.sim import descriptions, pictograms

LOCATION_GRID = 32
LANGUAGE_SHARES = {
    "en": 0.76,
    "es": 0.08,
    "fr": 0.08,
    "de": 0.08,
}  # of the draws; "list" draws two distinct
ROWS_OF_ONE = {"name": 1, "list": 1, "where": 1, "what": 1, "caption": 1}  # scenes of one object
ROWS_OF_MANY = {"list": 2, "where": 2, "what": 2, "caption": 1}
DESCRIBING = ("find", "kind", "colour", "reason")  # kinds of row that a picture may give

# kinds of DESCRIBING, and the list that each says something of
_SOURCES = (
    ("find", "category"),
    ("find", "colour"),
    ("kind", "category"),
    ("colour", "colour"),
    ("reason", "reasoning"),
)
_AND = {"en": "and", "es": "y", "fr": "et", "de": "und"}


class Placed(NamedTuple):
    """An object of a picture: its English name and its centre's cell."""

    name: str
    x: int
    y: int


class Row(NamedTuple):
    """One question and its answer.

    kind: a key of ROWS_OF_ONE, or one of DESCRIBING; language: its code, as "en".
    """

    kind: str
    language: str
    question: str
    answer: str


def cell(fraction: float) -> int:
    """Returns the cell of a coordinate given as a fraction 0..1 of the picture's side."""
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(
            f"{fraction} is not within the picture: a coordinate is a fraction 0..1 of its side"
        )
    return min(LOCATION_GRID - 1, int(fraction * LOCATION_GRID))


def rows(rng: np.random.Generator, objects: Sequence[Placed]) -> list[Row]:
    """Returns a picture's rows, in random languages and about random objects.

    objects: from left to right. The numbers of rows of each kind are those of ROWS_OF_ONE or
    ROWS_OF_MANY.
    """
    counts = ROWS_OF_ONE if len(objects) == 1 else ROWS_OF_MANY
    made = []
    for kind, count in counts.items():
        subjects = rng.permutation(len(objects))
        languages = _languages(rng, count, distinct=kind == "list")
        made += [row(kind, languages[i], objects, subjects[i % len(objects)]) for i in range(count)]
    return made


def describing_rows(rng: np.random.Generator, objects: Sequence[Placed]) -> list[Row]:
    """Returns a picture's rows of DESCRIBING, one of each source that says something here."""
    made, names = [], [thing.name for thing in objects]
    for kind, source in _SOURCES:
        known = descriptions.by_name(source)
        said = [known.get(name) for name in names]
        fitting = [i for i, text in enumerate(said) if text]
        if kind == "find":  # one thing is found without being read
            fitting = [i for i in fitting if len(names) > 1 and said.count(said[i]) == 1]
        if fitting:
            subject = rng.choice(fitting)
            made.append(_describing(kind, said[subject], objects[subject]))
    return made


def _describing(kind: str, said: str, thing: Placed) -> Row:
    """A row of DESCRIBING about a thing of which `said` is said."""
    question, answer = {
        "find": (prompts.where_prompt(said), f"{thing.x} {thing.y}"),
        "kind": (prompts.vqa_prompt(f"what kind of thing is the {thing.name}"), said),
        "colour": (
            prompts.vqa_prompt(f"what colour is the {thing.name}"),
            said.removesuffix(" thing"),
        ),
        "reason": (prompts.vqa_prompt(f"name the {said}"), thing.name),
    }[kind]
    return Row(kind, "en", question, answer)


def row(kind: str, language: str, objects: Sequence[Placed], subject: int = 0) -> Row:
    """Returns a row about objects[subject] (where, what, name) or about all (list, caption)."""
    said = [pictograms.load().translate(thing.name, language) for thing in objects]
    place = f"{objects[subject].x} {objects[subject].y}"
    if kind == "caption":
        return Row(kind, language, prompts.caption_prompt(language), _caption(said, language))
    if kind == "list":
        listed = " ".join(
            f"{thing.x} {thing.y} {name}" for thing, name in zip(objects, said, strict=True)
        )
        return Row(kind, language, prompts.list_prompt(language), listed)
    if kind == "where":
        return Row(kind, language, prompts.where_prompt(said[subject], language), place)
    if kind == "what":
        return Row(kind, language, prompts.what_prompt(place, language), said[subject])
    if kind == "name":
        return Row(kind, language, prompts.vqa_prompt("what is this", language), said[subject])
    raise ValueError(
        f"no question is of kind {kind!r}; kinds: {', '.join({**ROWS_OF_ONE, **ROWS_OF_MANY})}"
    )


def _languages(rng: np.random.Generator, count: int, distinct: bool) -> list[str]:
    shares = list(LANGUAGE_SHARES.values())
    return rng.choice(list(LANGUAGE_SHARES), count, replace=not distinct, p=shares).tolist()


def _caption(names: Sequence[str], language: str) -> str:
    """Names all: with articles in English, bare elsewhere, where a noun's gender is not known."""
    said = [_with_article(name) if language == "en" else name for name in names]
    if len(said) == 1:
        return said[0]
    return f"{', '.join(said[:-1])} {_AND[language]} {said[-1]}"


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' and not name.startswith(('uni', 'eu')) else 'a'} {name}"
