"""One leaf for every feature class of TFDS that holds values."""

import math
from collections.abc import Mapping
from typing import Any

from rt2.data.errors import DataError
from rt2.data.format.leaf import RAGGED_ROWS, RAGGED_VALUES, Leaf, Place

INLINE_VALUES = 64  # a larger feature (a language embedding) stays in the shard, like an image
CODE_VALUES = 1024  # an integer vector up to here may be a text in codes (Language-Table's is 512)

_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_NUMBERS = ("bool", *_INTEGERS, "float16", "float32", "float64")
_KNOWN = (
    "FeaturesDict, Dataset, Sequence, Tensor, Scalar, Text, ClassLabel, BBoxFeature, Image, "
    "LabeledImage and Video"
)


def leaf(node: Mapping[str, Any], name: str, place: Place) -> Leaf:
    """The leaf of a node of class `name`. Raises DataError where it is not known or not readable.

    Source: the `get_serialized_info` of TFDS's feature connectors, `core/example_serializer.py`.
    """
    if name == "Text":
        return _build(place, "text", "string", ())
    if name == "ClassLabel":
        return _build(place, "number", "int64", ())
    if name == "BBoxFeature":  # the shape and dtype are fixed: ymin, xmin, ymax, xmax
        return _build(place, "number", "float32", (4,))
    if name in ("Image", "LabeledImage"):
        return _image(node.get("image", {}), place, channels=3 if name == "Image" else 1)
    if name in ("Tensor", "Scalar"):
        return _tensor(node["tensor"], place)
    raise DataError(
        f"{place}: the feature class {name or 'without a name'!r} is not known to this reader; it "
        f"reads {_KNOWN}. Rewrite the data set with one of these"
    )


def _image(image: Mapping[str, Any], place: Place, channels: int) -> Leaf:
    dtype, encoding = image.get("dtype", "uint8"), image.get("encodingFormat") or "any"
    shape = _dims(image) or (-1, -1, channels)
    known = dtype in ("uint8", "uint16", "float32") and encoding in ("jpeg", "png", "any")
    if not known or len(shape) != 3:
        raise DataError(
            f"{place}: an image of {dtype} {shape} in {encoding!r} is not read (uint8, uint16 or "
            "float32 of height, width, channels, in jpeg or png). Write it as one of these"
        )
    return _build(place, "image", dtype, shape, encoding)


def _tensor(tensor: Mapping[str, Any], place: Place) -> Leaf:
    dtype, encoding = tensor["dtype"], (tensor.get("encoding") or "none").lower()
    shape, optional = _dims(tensor), bool(tensor.get("optional"))
    if dtype in ("string", "object", "str"):
        return _open(place, "text", "string", shape, optional)
    if dtype not in (*_NUMBERS, "bfloat16") or (dtype == "bfloat16" and encoding == "none"):
        raise DataError(
            f"{place}: the dtype {dtype!r} in the encoding {encoding!r} is not read "
            f"({', '.join(_NUMBERS)}, and bfloat16 as bytes or zlib). Write it as one of these"
        )
    if encoding in ("bytes", "zlib"):
        return _build(place, "tensor", dtype, shape, encoding, optional=optional)
    if encoding != "none":
        raise DataError(f"{place}: the encoding {encoding!r} is not read (none, bytes, zlib)")
    if -1 in shape or math.prod(shape) <= INLINE_VALUES:
        return _open(place, "number", dtype, shape, optional)
    integers = dtype in _INTEGERS and len(shape) == 1 and shape[0] <= CODE_VALUES
    return _build(place, "codes" if integers else "tensor", dtype, shape, optional=optional)


def _open(place: Place, kind, dtype: str, shape: tuple[int, ...], optional: bool) -> Leaf:
    """A tensor that is not encoded: one unknown dimension makes it a sequence of the record."""
    if -1 not in shape:
        return _build(place, kind, dtype, shape, optional=optional)
    if place.in_steps or place.lengths or shape.count(-1) > 1 or optional:
        raise DataError(
            f"{place}: the shape {shape} varies, is not optional and not encoded: where one value "
            "ends is not stored (TFDS cannot read it either). Write it with encoding='zlib'"
        )
    if shape[0] == -1:
        return _build(place.inside(-1), kind, dtype, shape[1:])
    return _build(place.inside(-1), kind, dtype, (), view=shape)


def _build(place: Place, kind, dtype, shape, encoding="none", view=None, optional=False) -> Leaf:
    """The leaf with the keys under which TFDS writes it.

    One sequence around a value: the values stand under its own key, one after the other. Two or
    more (the steps are one): `<key>/ragged_flat_values` and `<key>/ragged_row_lengths_<i>`. A
    tensor with more than one unknown dimension: `<key>/value` and `<key>/shape`, each as above.
    """
    if optional and (place.in_steps or place.lengths):
        optional = False  # TFDS can leave out a whole key only
    key = "/".join(place.path)
    inner = place.path[1:] if place.in_steps and len(place.path) > 1 else place.path
    several = shape.count(-1) > 1 and kind == "tensor"
    value, dims = (f"{key}/value", f"{key}/shape") if several else (key, None)
    ranks = len(place.lengths) + place.in_steps
    rows = tuple(f"{value}{RAGGED_ROWS}{i}" for i in range(ranks - 1))
    ending = RAGGED_VALUES if rows else ""
    return Leaf(
        path=inner,
        key=key,
        kind=kind,
        level=_level(place),
        dtype=dtype,
        shape=tuple(shape),
        encoding=encoding,
        lengths=place.lengths,
        view=view,
        optional=optional,
        stored=value + ending,
        row_lengths=rows,
        shape_stored=dims and dims + ending,
    )


def _level(place: Place):
    if place.in_steps:
        return "ragged_step" if place.lengths else "step"
    if place.lengths:
        return "ragged"
    return "episode" if place.episodic else "step"


def _dims(holder: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(dim) for dim in holder.get("shape", {}).get("dimensions", ()))
