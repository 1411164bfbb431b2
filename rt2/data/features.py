"""Reads TFDS's `features.json` into a flat list of leaves, without TensorFlow."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rt2.data.errors import DataError

INLINE_VALUES = 64  # a larger feature (a language embedding) stays in the shard, like an image

_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_NUMBERS = ("bool", *_INTEGERS, "float16", "float32", "float64")

Kind = Literal["number", "text", "image", "tensor"]
Level = Literal["step", "episode", "ragged"]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One stored feature.

    `path` is the nested path, without `steps` for a step feature; `key` the key in the record.
    `kind`: "number" (kept in the index), "text" (kept as a table), "image" and "tensor" (bytes that
    stay in the shard). `level`: one value a "step", one an "episode", or a "ragged" list a record.
    `encoding` is the image format, or of a tensor "none" | "bytes" | "zlib".
    """

    path: tuple[str, ...]
    key: str
    kind: Kind
    level: Level
    dtype: str
    shape: tuple[int, ...]
    encoding: str

    @property
    def name(self) -> str:
        """The path joined by slashes, as a dataset spec names the feature."""
        return "/".join(self.path)

    @functools.cached_property
    def size(self) -> int:
        """How many numbers one value has."""
        return math.prod(self.shape)

    @functools.cached_property
    def wire(self) -> str:
        """The kind of list that holds it in a record: "bytes", "float" or "int64"."""
        if self.kind in ("image", "text") or self.encoding in ("bytes", "zlib"):
            return "bytes"
        return "float" if np.dtype(self.dtype).kind == "f" else "int64"


@dataclasses.dataclass(frozen=True)
class Features:
    """All leaves of a data set; `episodic` where it has RLDS `steps`, else one example a record."""

    leaves: tuple[Leaf, ...]
    episodic: bool
    digest: str

    def at(self, level: Level) -> tuple[Leaf, ...]:
        """The leaves of one level, in the order of their keys."""
        return tuple(leaf for leaf in self.leaves if leaf.level == level)


def load(directory: Path) -> Features:
    """The features of the data set in `directory`.

    Raises DataError where the file is missing or holds a feature that this reader does not know.
    """
    path = directory / "features.json"
    if not path.is_file():
        inside = sorted(p.parent.name for p in directory.glob("*/features.json"))
        hint = f"did you mean {directory / inside[-1]}? " if inside else ""
        raise DataError(
            f"{path} is missing: {hint}the directory of one version of a TFDS data set holds "
            "features.json, dataset_info.json and the shards"
        )
    raw = path.read_bytes()
    try:
        tree = json.loads(raw)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}). Copy the file again.") from None
    steps = tree.get("featuresDict", {}).get("features", {}).get("steps")
    episodic = steps is not None and _class(steps) == "Dataset"
    leaves = sorted(_leaves(tree, (), path, episodic), key=lambda leaf: leaf.key)
    return Features(tuple(leaves), episodic, hashlib.sha256(raw).hexdigest())


def _class(node: Mapping[str, Any]) -> str:
    return node.get("pythonClassName", "").rsplit(".", 1)[-1]


def _leaves(node, path: tuple[str, ...], file: Path, episodic: bool, level=None) -> Iterator[Leaf]:
    """`level` is None outside any sequence."""
    name = _class(node)
    if name == "FeaturesDict":
        for key, child in node["featuresDict"]["features"].items():
            yield from _leaves(child, (*path, key), file, episodic, level)
    elif name == "Dataset" and path == ("steps",):
        yield from _leaves(node["sequence"]["feature"], path, file, episodic, "step")
    elif name == "Sequence" and level is None:
        yield from _leaves(node["sequence"]["feature"], path, file, episodic, "ragged")
    elif name in ("Dataset", "Sequence"):
        raise DataError(f"{file}: {'/'.join(path)}: a {name} inside a sequence is not read yet")
    else:
        outer = "episode" if episodic else "step"
        yield _leaf(node, name, path, file, level or outer)


def _leaf(node, name: str, path: tuple[str, ...], file: Path, level: Level) -> Leaf:
    where = f"{file}: {'/'.join(path)}"
    inner = path[1:] if path[0] == "steps" and level == "step" and len(path) > 1 else path
    key = "/".join(path)
    if name == "Text":
        return Leaf(inner, key, "text", level, "string", (), "none")
    if name == "Image":
        return _image(node.get("image", {}), inner, key, level, where)
    if name == "ClassLabel":
        return Leaf(inner, key, "number", level, "int64", (), "none")
    if name not in ("Tensor", "Scalar"):
        raise DataError(
            f"{where}: the feature class {name or 'without a name'!r} is not known to this reader; "
            "it reads FeaturesDict, Dataset, Sequence, Tensor, Scalar, Text, ClassLabel and Image. "
            "Rewrite the data set with one of these"
        )
    return _tensor(node["tensor"], inner, key, level, where)


def _image(image, path, key: str, level: Level, where: str) -> Leaf:
    dtype, encoding = image.get("dtype", "uint8"), image.get("encodingFormat") or "any"
    shape = _shape(image, where, image=True) or (-1, -1, 3)
    if dtype not in ("uint8", "uint16") or encoding not in ("jpeg", "png", "any"):
        raise DataError(f"{where}: an image of {dtype} in {encoding!r} is not read (uint8, uint16)")
    return Leaf(path, key, "image", level, dtype, shape, encoding)


def _tensor(tensor, path, key: str, level: Level, where: str) -> Leaf:
    dtype, encoding = tensor["dtype"], tensor.get("encoding", "none")
    shape = _shape(tensor, where)
    if dtype in ("string", "object"):
        if shape:
            raise DataError(f"{where}: a tensor of strings of shape {shape} is not read")
        return Leaf(path, key, "text", level, "string", (), "none")
    if dtype not in _NUMBERS:
        raise DataError(f"{where}: the dtype {dtype!r} is not read ({', '.join(_NUMBERS)})")
    large = math.prod(shape) > INLINE_VALUES and dtype == "float32"
    kind = "tensor" if large or encoding in ("bytes", "zlib") else "number"
    if kind == "tensor" and level == "ragged":
        raise DataError(f"{where}: a sequence of large or encoded tensors is not read yet")
    return Leaf(path, key, kind, level, dtype, shape, encoding)


def _shape(holder, where: str, image: bool = False) -> tuple[int, ...]:
    dims = (int(dim) for dim in holder.get("shape", {}).get("dimensions", ()))
    shape = tuple(dims)
    if not image and any(dim < 0 for dim in shape):
        raise DataError(f"{where}: a tensor of unknown shape {shape} is not read yet")
    return shape
