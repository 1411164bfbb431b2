"""Reads TFDS's `features.json` into a flat list of leaves, without TensorFlow."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rt2.data import storage
from rt2.data.errors import DataError
from rt2.data.format.feature_kinds import leaf
from rt2.data.format.leaf import Leaf, Level, Place


@dataclasses.dataclass(frozen=True)
class Features:
    """All leaves of a data set; `episodic` where it has RLDS `steps`, else one example a record."""

    leaves: tuple[Leaf, ...]
    episodic: bool
    digest: str

    def at(self, level: Level) -> tuple[Leaf, ...]:
        """The leaves of one level, in the order of their keys."""
        return tuple(leaf for leaf in self.leaves if leaf.level == level)


def load(directory: Path | storage.Url | str) -> Features:
    """The features of the data set in `directory`.

    Raises DataError where the file is missing or holds a feature that this reader does not know.
    """
    directory = storage.at(directory)
    path = directory / "features.json"
    if not storage.exists(path):
        raise DataError(
            f"{path} is missing: {_versions_below(directory)}the directory of one version of a "
            "TFDS data set holds features.json, dataset_info.json and the shards"
        )
    raw = storage.read(path)
    try:
        tree = json.loads(raw)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}). Copy the file again.") from None
    steps = tree.get("featuresDict", {}).get("features", {}).get("steps")
    episodic = steps is not None and class_name(steps) == "Dataset"
    leaves = sorted(_leaves(tree, Place(str(path), episodic)), key=lambda leaf: leaf.key)
    return Features(tuple(leaves), episodic, hashlib.sha256(raw).hexdigest())


def class_name(node: Mapping[str, Any]) -> str:
    """The feature class of a node, without its module."""
    return node.get("pythonClassName", "").rsplit(".", 1)[-1]


def _versions_below(directory: Path | storage.Url) -> str:
    """A clause that names the data sets of a folder of versions, of data sets, or of configs."""
    if not isinstance(directory, Path):
        return ""
    depths = ("*", "*/*", "*/*/*")
    found = [p.parent for depth in depths for p in sorted(directory.glob(f"{depth}/features.json"))]
    if not found:
        return ""
    shown = " or ".join(str(folder) for folder in found[-3:])
    return f"did you mean {shown}? ({len(found)} data sets lie below it) "


def _leaves(node: Mapping[str, Any], place: Place) -> Iterator[Leaf]:
    name = class_name(node)
    if name == "FeaturesDict":
        for key, child in node["featuresDict"]["features"].items():
            yield from _leaves(child, dataclasses.replace(place, path=(*place.path, key)))
    elif name == "Dataset" and place.path == ("steps",) and place.episodic:
        yield from _leaves(node["sequence"]["feature"], dataclasses.replace(place, in_steps=True))
    elif name in ("Dataset", "Sequence"):
        sequence = node["sequence"]
        length = int(sequence.get("length", -1))
        yield from _leaves(sequence["feature"], place.inside(length))
    elif name == "Video":
        dims = [int(dim) for dim in node["video"].get("shape", {}).get("dimensions", ())]
        frame = {**node["video"], "shape": {"dimensions": dims[1:]}}
        image = {"pythonClassName": "Image", "image": frame}
        yield from _leaves(image, place.inside(dims[0] if dims else -1))
    else:
        yield leaf(node, name, place)
