"""What the web calls a thing beside its name: the lists of `phrases/`.

    category    "animal"          what kind of thing it is
    colour      "red thing"
    reasoning   "thing that ..."  one thing each
    symbol      a symbol by its name

Each is a JSON file: text -> the English names that it describes.
"""

import functools
import importlib.resources
import json

SHARED = ("category", "colour")  # lists whose texts describe several things


@functools.cache
def phrases(name: str) -> dict[str, tuple[str, ...]]:
    """Returns a list of `phrases/`: what an instruction says -> the objects that it describes."""
    file = importlib.resources.files("rt2.sim").joinpath("phrases", f"{name}.json")
    return {said: tuple(names) for said, names in json.loads(file.read_text("utf-8")).items()}


@functools.cache
def by_name(name: str) -> dict[str, str]:
    """Returns the same list the other way round: object -> what is said of it."""
    return {one: said for said, names in phrases(name).items() for one in names}
