"""From the columns and bytes of a leaf to the values that TFDS would decode."""

import zlib
from typing import TYPE_CHECKING, Any

import ml_dtypes  # noqa: F401  (numpy knows bfloat16 once it is imported)
import numpy as np

from rt2.data import image
from rt2.data.errors import DataError
from rt2.data.format.example_proto import varints
from rt2.data.format.leaf import Leaf

if TYPE_CHECKING:
    from rt2.data.index import SplitIndex


class Decoder:
    """Decodes single values of the leaves of one split."""

    def __init__(self, split: "SplitIndex", decode_images: bool):
        self._split, self._decode_images = split, decode_images

    def present(self, leaf: Leaf, row: int) -> bool:
        """Whether the record has the (optional) feature."""
        return not leaf.optional or bool(self._split.column(f"{leaf.key}.present")[row])

    def span(self, leaf: Leaf, row: int) -> tuple[int, int]:
        """(first, last + 1) of the values of one step or record."""
        if not leaf.lengths:
            return (row, row + 1) if self.present(leaf, row) else (row, row)
        first, last = row, row + 1
        for depth in range(len(leaf.lengths)):
            starts = self._split.column(f"{leaf.key}.first{depth or ''}")
            first, last = int(starts[first]), int(starts[last])
        return first, last

    def value(self, leaf: Leaf, row: int) -> Any:
        """One number, text or code vector; None where an optional one is absent."""
        if not self.present(leaf, row):
            return None
        if leaf.kind == "number":
            found = self._split.column(f"{leaf.key}.value")[row]
            return np.array(found) if np.ndim(found) else found  # a copy: no view of the column
        ids = self._split.column(f"{leaf.key}.id")[row]
        if leaf.kind == "codes":
            return self._codes(leaf, int(ids))
        if not leaf.shape:
            return self._split.strings.encoded(ids)
        texts = [self._split.strings.encoded(i) for i in ids.reshape(-1)]
        return _objects(texts, leaf.shape)

    def flat(self, leaf: Leaf, row: int, first: int, last: int) -> Any:
        """A value, or the values of a sequence one after the other."""
        if not leaf.lengths:
            return self.value(leaf, row)
        if leaf.kind == "number":
            values = np.array(self._split.column(f"{leaf.key}.value")[first:last])
        elif leaf.kind == "codes":
            ids = self._split.column(f"{leaf.key}.id")[first:last]
            values = stacked([self._codes(leaf, int(i)) for i in ids], leaf)
        else:
            ids = self._split.column(f"{leaf.key}.id")[first:last].reshape(-1)
            values = [self._split.strings.encoded(i) for i in ids]
            if leaf.shape or leaf.view:
                values = _objects(values, leaf.view or (last - first, *leaf.shape))
        return values.reshape(leaf.view) if leaf.view else values

    def bytes(self, leaf: Leaf, row: int, data: bytes, where: str) -> Any:
        """An image or tensor from its bytes, which have been checked."""
        if leaf.kind == "tensor":
            return self._tensor(leaf, row, data, where)
        if not self._decode_images:
            return data
        shape, dtype = leaf.png
        decoded = image.decode_declared(data, shape, dtype, where)
        return decoded.view("<f4") if leaf.dtype == "float32" else decoded

    def _codes(self, leaf: Leaf, number: int) -> np.ndarray:
        dtype = np.dtype(leaf.dtype)
        found = np.frombuffer(self._split.strings.encoded(number), dtype.newbyteorder("<"))
        return found.astype(dtype).reshape(leaf.shape)

    def _tensor(self, leaf: Leaf, row: int, data: bytes, where: str) -> np.ndarray:
        dtype, shape = np.dtype(leaf.dtype), leaf.shape
        if leaf.shape_stored is not None:
            shape = tuple(int(dim) for dim in self._split.column(f"{leaf.key}.shape")[row])
        try:
            if leaf.encoding == "none":
                values = varints(data) if leaf.wire == "int64" else np.frombuffer(data, "<f4")
                whole = values.astype(dtype)
                if leaf.wire == "int64" and not (whole.astype(np.int64) == values).all():
                    raise ValueError(f"a number that is no {leaf.dtype}")
                return whole.reshape(shape)
            raw = zlib.decompress(data) if leaf.encoding == "zlib" else data
            return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
        except (ValueError, zlib.error) as error:
            raise DataError(
                f"{where}: no {leaf.dtype} tensor of {shape} ({error}). Write the data set again."
            ) from None


def stacked(values: list[Any], leaf: Leaf) -> Any:
    """An array where all values have one shape, else the list (encoded images, mixed sizes)."""
    if not values and leaf.kind != "image":
        return np.zeros((0, *(max(dim, 0) for dim in leaf.shape)), np.dtype(leaf.dtype))
    arrays = values and all(isinstance(v, np.ndarray) for v in values)
    return np.stack(values) if arrays and len({v.shape for v in values}) == 1 else values


def nested_rows(leaf: Leaf, split: "SplitIndex", row: int, flat: Any) -> Any:
    """The values of a sequence of sequences as lists of lists; one axis stays as it is."""
    bounds = [(row, row + 1)]
    for depth in range(len(leaf.lengths) - 1):
        starts = split.column(f"{leaf.key}.first{depth or ''}")
        bounds.append((int(starts[bounds[-1][0]]), int(starts[bounds[-1][1]])))
    for depth in range(len(leaf.lengths) - 1, 0, -1):
        first, last = bounds[depth]
        starts = np.array(split.column(f"{leaf.key}.first{depth}")[first : last + 1])
        starts -= starts[0]
        flat = [flat[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]
    return flat


def _objects(texts: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
    found = np.empty(len(texts), object)
    found[:] = texts
    return found.reshape(shape)
