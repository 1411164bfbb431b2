"""What a leaf of `features.json` is, and under which keys a record holds it."""

import dataclasses
import functools
import math
from typing import Literal

import numpy as np

Kind = Literal["number", "text", "codes", "image", "tensor"]
Level = Literal["step", "episode", "ragged", "ragged_step"]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One stored feature.

    `path` is the nested path, without `steps` for a step feature; `key` the key in the record.
    `kind`: "number" (kept in the index), "text" (kept as a table), "codes" (an integer vector that
    repeats, such as an instruction in character codes: kept as a table too), "image" and "tensor"
    (bytes that stay in the shard).
    `level`: one value a "step", one an "episode", a "ragged" sequence a record or one a step
    ("ragged_step"); `lengths` are the sequence's axes, outermost first, -1 where they vary.
    `shape` is that of one value, -1 where it varies; `encoding` the image format, or of a tensor
    "none" | "bytes" | "zlib". `view`: the shape of the whole sequence where an inner axis varies.
    `optional`: a record may lack the feature.
    """

    path: tuple[str, ...]
    key: str
    kind: Kind
    level: Level
    dtype: str
    shape: tuple[int, ...]
    encoding: str
    lengths: tuple[int, ...] = ()
    view: tuple[int, ...] | None = None
    optional: bool = False
    stored: str = ""
    row_lengths: tuple[str, ...] = ()
    shape_stored: str | None = None

    @property
    def name(self) -> str:
        """The path joined by slashes, as a dataset spec names the feature."""
        return "/".join(self.path)

    @functools.cached_property
    def size(self) -> int:
        """How many numbers one value has (for texts: how many texts)."""
        return math.prod(self.shape)

    @functools.cached_property
    def wire(self) -> str:
        """The kind of list that holds it in a record: "bytes", "float" or "int64"."""
        if self.kind in ("image", "text") or self.encoding in ("bytes", "zlib"):
            return "bytes"
        return "float" if np.dtype(self.dtype).kind == "f" else "int64"

    @functools.cached_property
    def keys(self) -> tuple[str, ...]:
        """Every key of a record that belongs to the feature: values, row lengths, shapes."""
        if self.shape_stored is None:
            return (self.stored, *self.row_lengths)
        shape = self.shape_stored.removesuffix(RAGGED_VALUES)
        rows = [f"{shape}{RAGGED_ROWS}{i}" for i in range(len(self.row_lengths))]
        return (self.stored, *self.row_lengths, self.shape_stored, *rows)

    @functools.cached_property
    def png(self) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of the stored image: TFDS keeps a float32 pixel as four uint8."""
        if self.dtype == "float32":
            return (*self.shape[:2], 4), "uint8"
        return self.shape, self.dtype


RAGGED_VALUES, RAGGED_ROWS = "/ragged_flat_values", "/ragged_row_lengths_"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a node of the tree stands: its path and the sequences around it."""

    file: str
    episodic: bool
    path: tuple[str, ...] = ()
    in_steps: bool = False
    lengths: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}: {'/'.join(self.path)}"

    def inside(self, length: int) -> "Place":
        """The place of the values of a sequence that stands here."""
        return dataclasses.replace(self, lengths=(*self.lengths, length))
